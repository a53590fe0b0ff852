"""Single exposures with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies
from tasks.plots import exposures as exposure_plots
from tasks.plots import page
from tasks.plots.style import png
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.report.contents import Contents, array_of, exposure_of, has_movies
from tasks.report.outcomes import SERIES, TONES, outcome_of, values_of
from tasks.report.words import markdown_text
from tasks.stores.commit import Reader
from tasks.stores.ledger import Line

_BYTES_OF_CARDS = 9_000_000
"""Pictures of single exposures stop here, so that the page stays below 15 MB with its base64 text."""


def exposure_cards(contents: Contents) -> str:
    lines = _chosen(contents.ledger.lines, contents.max_exposures)
    if not lines:
        return page.section("exposures", "Exposures", page.not_yet("there is no exposure to show"))
    cards: list[str] = []
    n_bytes = 0
    for line in lines:
        if n_bytes > _BYTES_OF_CARDS:
            break
        card, size = _card(contents, line)
        n_bytes += size
        cards.append(card)
    words = f"{len(cards)} of {len(contents.ledger.lines)} exposures, those not used first."
    return page.section(
        "exposures",
        "Exposures",
        page.paragraph(words, "note"),
        page.grid(cards, "cards" if has_movies(contents) else "cards pairs"),
    )


def _chosen(lines: Sequence[Line], n_max: int) -> list[Line]:
    """At most a third of those not used that have a micrograph, then others spread evenly over the session."""
    lost = [line for line in lines if line.state != "done" and line.stage != "import_session"]
    good = [line for line in lines if line.state == "done"]
    n_lost = min(len(lost), max(n_max // 3, n_max - len(good)))
    n_good = min(len(good), n_max - n_lost)
    return [*_spread(lost, n_lost), *_spread(good, n_good)]


def _spread(lines: Sequence[Line], n: int) -> list[Line]:
    return [lines[round(i)] for i in np.linspace(0, len(lines) - 1, n)] if n > 0 else []


def _card(contents: Contents, line: Line) -> tuple[str, int]:
    """HTML of one exposure and the bytes of its pictures."""
    exposure = exposure_of(contents, line.exposure)
    name = exposure.name if exposure else line.exposure
    state = outcome_of(line)
    pictures = [
        (content, alt)
        for content, alt in (
            (_micrograph_png(contents, line.exposure, exposure), f"Micrograph of {name} with its picks"),
            (_ctf_png(contents, line.exposure, exposure), f"CTF fit of {name}"),
            (_motion_png(contents, line.exposure, exposure), f"Motion of {name}"),
        )
        if content is not None
    ]
    figures = []
    for one in SERIES:
        value = values_of([line], one)[0]
        if np.isfinite(value):
            figures.append(f"{one.title.lower()} {value:{one.format}} {one.unit}".strip())
    head = f'<div class="head"><h3>{escape(name)}</h3>{page.badge(state, TONES[state])}</div>'
    why = f'<p class="reason">{escape(line.stage)}: {escape(line.reason or "")}</p>' if line.reason else ""
    warning = line.figures.get("warning")
    if isinstance(warning, str):
        figures.append(warning)
    facts = f'<p class="figures">{escape(" · ".join(figures))}</p>' if figures else ""
    shown = page.grid((page.picture(content, alt) for content, alt in pictures), "views")
    if not pictures:
        shown = page.not_yet("no picture of this exposure")
    contents.cards.append(
        f"### {markdown_text(name)}: {state}\n\n{markdown_text(line.reason or '')}\n\n"
        + "\n\n".join(f"![{markdown_text(alt)}]({page.data_uri(content)})" for content, alt in pictures[:1])
    )
    kind = "card" if line.state == "done" else "card off"
    return f'<article class="{kind}">{head}{why}{facts}{shown}</article>', sum(len(c) for c, _ in pictures)


def _micrograph_png(contents: Contents, exposure_id: str, exposure: Exposure | None) -> bytes | None:
    if exposure is None:
        return None
    stage = "correct_motion" if exposure.kind == "movie" else "import_session"
    reader = contents.read(f"exposures/{exposure_id}/{stage}")
    if reader is None or "micrograph" not in reader:
        return None
    picks = contents.read(f"exposures/{exposure_id}/pick_particles")
    coordinates = array_of(picks, "coordinate_px")
    pixel_size = exposure.optics.pixel_size_angstrom
    radius_px = _pick_diameter_angstrom(picks) / 2 / pixel_size
    return exposure_plots.micrograph_with_picks(
        reader["micrograph"], pixel_size, coordinates, radius_px, contents.thumbnail_px, contents.low_pass_angstrom
    )


def _pick_diameter_angstrom(picks: Reader | None) -> float:
    """As the picker recorded it; 100 Å where it did not."""
    value = picks.attributes.get("diameter_angstrom") if picks is not None else None
    return float(value) if isinstance(value, int | float) and value > 0 else 100.0


def _ctf_png(contents: Contents, exposure_id: str, exposure: Exposure | None) -> bytes | None:
    reader = contents.read(f"exposures/{exposure_id}/estimate_ctf")
    if reader is None or exposure is None:
        return None
    try:
        found = ExposureCtf.model_validate(reader.record.details.get("ctf"))
    except ValidationError:
        return None
    spectrum = array_of(reader, "power_spectrum")
    pixel_size = exposure.optics.pixel_size_angstrom
    fit = exposure_plots.CtfFit(
        power_spectrum=spectrum,
        model=None if spectrum is None else _ctf_model(found, exposure, spectrum.shape[0], pixel_size),
        curves=array_of(reader, "fit_curves"),
        defocus_u_angstrom=found.defocus_u_angstrom,
        defocus_v_angstrom=found.defocus_v_angstrom,
        fit_resolution_angstrom=found.fit_resolution_angstrom,
        pixel_size_angstrom=pixel_size,
    )
    return png(exposure_plots.ctf_fit(fit), 160)


def _ctf_model(found: ExposureCtf, exposure: Exposure, n: int, pixel_size_angstrom: float) -> NDArray:
    """(y, x_half) |CTF| of the fit."""
    defocus = Defocus.of(
        found.defocus_u_angstrom,
        found.defocus_v_angstrom,
        float(np.deg2rad(found.defocus_angle_deg)),
        float(np.deg2rad(found.phase_shift_deg)),
    )
    return torch.abs(ctf(frequencies((n, n), pixel_size_angstrom), defocus, exposure.optics)).numpy()


def _motion_png(contents: Contents, exposure_id: str, exposure: Exposure | None) -> bytes | None:
    if exposure is None or exposure.kind != "movie":
        return None
    reader = contents.read(f"exposures/{exposure_id}/correct_motion")
    if reader is None or "global_shift_angstrom" not in reader:
        return None
    has_patches = "patch_center_px" in reader and "patch_shift_angstrom" in reader
    figure = exposure_plots.motion_trajectory(
        reader["global_shift_angstrom"],
        reader["patch_center_px"] if has_patches else None,
        reader["patch_shift_angstrom"] if has_patches else None,
        exposure.shape,
    )
    return png(figure, 48)
