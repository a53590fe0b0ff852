"""One page that tells an operator what became of a session: how many exposures, how good, and what went wrong.

The page holds all of its pictures and needs no network. It is written from the commit records, so a session that is
half done has a report that says what is not there yet. The same pictures become artifacts of the Prefect run.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError
from pydantic import Field, ValidationError

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies
from tasks.plots import exposures as exposure_plots
from tasks.plots import maps as map_plots
from tasks.plots import page
from tasks.plots import particles as particle_plots
from tasks.plots.style import png
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.session import StageParams
from tasks.stores.commit import Figure as RecordFigure
from tasks.stores.commit import Reader, Record, software_version
from tasks.stores.ledger import STAGES, Ledger, Line, read_ledger
from tasks.stores.location import StoreError
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)

_BYTES_OF_CARDS = 9_000_000
"""Pictures of single exposures stop here, so that the page stays below 15 MB with its base64 text."""
_ROWS_OF_LISTS = 500
_RECORDS_FOR_CPU = 300
_THIN = "\u202f"


class ReportSessionParams(StageParams):
    """How much of a session is shown."""

    max_exposures: int = Field(default=24, ge=0, le=200)
    """Exposures shown with pictures: those not used first (up to a third), the others evenly over the session."""
    max_classes: int = Field(default=60, ge=0, le=200)
    thumbnail_px: int = Field(default=400, ge=100, le=1000)
    """Longer side of a micrograph."""
    low_pass_angstrom: float = Field(default=20.0, ge=0)
    """Of the micrographs that are shown."""


@task(name="report_session", cache_policy=NO_CACHE)
def report_session(session_url: str, params: ReportSessionParams) -> str:
    """Write ``report.html`` into the store and return its address.

    Holds one exposure, or one map and its mask, in memory at a time, and the page itself (< 15 MB).
    """
    store = SessionStore.open(session_url)
    ledger = read_ledger(store)
    contents = _Contents(store, ledger)
    body = [_section(contents, params, *section) for section in _SECTIONS]
    links = [(identifier, label) for identifier, label, _ in _SECTIONS]
    html = page.page(f"{store.session.name} · Vitriflow report", _header(contents), links, body)
    location = store.location / "report.html"
    location.write_bytes(html.encode())
    _publish(contents)
    logger.info("report_session: %s, %.1f MB", location.url, len(html) / 1e6)
    return location.url


def _section(
    contents: _Contents,
    params: ReportSessionParams,
    identifier: str,
    label: str,
    write: Callable[[_Contents, ReportSessionParams], str],
) -> str:
    """A section, or why it cannot be shown: one odd product does not cost the operator the others."""
    try:
        return write(contents, params)
    except (StoreError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        logger.exception("report_session: section %s", identifier)
        words = f"This part cannot be shown: {type(error).__name__}: {error}"
        return page.section(identifier, label, page.paragraph(words, "reason"))


@dataclass
class _Contents:
    """What the sections share, and the pictures they made."""

    store: SessionStore
    ledger: Ledger
    pictures: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Name -> PNG and description; the artifacts."""
    cards: list[str] = field(default_factory=list)
    """Markdown of the exposures; one artifact."""

    def show(self, name: str, content: bytes, alt: str, caption: str = "") -> str:
        self.pictures[name] = (content, alt)
        return page.picture(content, alt, caption)

    def record(self, address: str) -> Record | None:
        """The record of a product that is done, None otherwise or where it cannot be read."""
        try:
            record = self.store.product(address).record()
        except StoreError as error:
            logger.warning("report_session: %s", error)
            return None
        return record if record is not None and record.state == "done" else None

    def read(self, address: str) -> Reader | None:
        if self.record(address) is None:
            return None
        try:
            return self.store.product(address).read()
        except StoreError as error:
            logger.warning("report_session: %s", error)
            return None


def _array(reader: Reader | None, name: str) -> NDArray | None:
    return reader[name] if reader is not None and name in reader else None


# --- header and summary -------------------------------------------------------------------------------------------


def _header(contents: _Contents) -> str:
    session = contents.store.session
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<p class="kicker">Vitriflow session report</p>'
        f"<h1>{escape(session.name)}</h1>"
        f'<p class="verdict">{escape(_verdict(contents))}</p>'
        f'<p class="meta">Session of {escape(_time(session.created_at))} · {escape(contents.store.url)} · '
        f"report of {made} by {escape(software_version())}</p>"
    )


def _verdict(contents: _Contents) -> str:
    lines = contents.ledger.lines
    if not lines:
        return "No exposure has been seen yet."
    counts = Counter(_outcome(line) for line in lines)
    words = [f"{counts['in use']} of {_plural(len(lines), 'exposure')} in use"]
    lost = [f"{counts[outcome]} {outcome}" for outcome in _TONES if outcome != "in use" and counts[outcome]]
    if lost:
        words[0] += f" ({', '.join(lost)})"
    best = _best_map(contents)
    resolution = _resolution(best[1]) if best else None
    if best and resolution:
        words.append(f"a map at {resolution:.2f} Å")
    elif best:
        words.append("a map without a resolution estimate")
    else:
        words.append("no refined map yet")
    return "; ".join(words) + "."


_TONES: dict[str, page.Tone] = {
    "in use": "good",
    "rejected": "warn",
    "skipped": "warn",
    "failed": "bad",
    "quarantined": "bad",
}


def _outcome(line: Line) -> str:
    """The state in an operator's words."""
    if line.state == "done":
        return "in use"
    return "rejected" if line.state == "skipped" and line.stage == "curate_exposures" else line.state


def _summary(contents: _Contents, params: ReportSessionParams) -> str:
    ledger = contents.ledger
    counts = Counter(_outcome(line) for line in ledger.lines)
    n_seen = len(ledger.lines)
    share = counts["in use"] / n_seen if n_seen else 0.0
    tiles = [
        page.tile("Exposures seen", str(n_seen)),
        page.tile("in use", str(counts["in use"]), f"{100 * share:.0f} %", _tone(share)),
    ]
    for outcome, note in (
        ("rejected", "by curation"),
        ("skipped", "nothing to do"),
        ("failed", "in a stage"),
        ("quarantined", "unreadable files"),
    ):
        if counts[outcome] or outcome != "skipped":
            tiles.append(
                page.tile(outcome, str(counts[outcome]), note, _TONES[outcome] if counts[outcome] else "plain")
            )
    science = []
    best = _best_map(contents)
    if best:
        resolution = _resolution(best[1])
        details = best[1].details.get("density_map", {})
        note = f"{best[0]}, symmetry {details.get('symmetry', '?')}"
        science.append(page.tile("Resolution", f"{resolution:.2f} Å" if resolution else "unknown", note, "good"))
    else:
        science.append(page.tile("Resolution", "–", "no map yet"))
    science.append(_particle_tile(contents))
    accepted = [line for line in ledger.lines if line.state == "done"]
    for one in _SERIES:
        values = _values(accepted, one)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = np.percentile(values, [5, 95])
            science.append(
                page.tile(
                    f"{one.title}, median",
                    f"{np.median(values):{one.format}} {one.unit}".strip(),
                    f"most: {low:{one.format}} to {high:{one.format}}",
                )
            )
    parts = " + ".join(f"{counts[outcome]} {outcome}" for outcome in _TONES)
    balance = f"The ledger balances: {n_seen} seen = {parts}."
    return page.section(
        "summary", "Summary", page.grid(tiles, "tiles"), page.grid(science, "tiles"), _steps(contents),
        page.paragraph(balance, "note"),
    )  # fmt: skip


def _tone(share: float) -> page.Tone:
    return "good" if share >= 0.8 else "warn" if share >= 0.5 else "bad"


def _particle_tile(contents: _Contents) -> str:
    """How many particles the last set has, and how many those before it had."""
    counts = []
    for name in ("refined", "selected", "extracted"):
        n = _n_particles(contents, name)
        if n is not None:
            counts.append((name, n))
    if not counts:
        return page.tile("Particles", "–", "not yet")
    name, n = counts[0]
    earlier = ", ".join(f"{_number(m)} {other}" for other, m in counts[1:])
    return page.tile("Particles", _number(n), f"{name}; {earlier}" if earlier else name)


def _n_particles(contents: _Contents, name: str) -> int | None:
    reader = contents.read(f"particles/{name}")
    if reader is None or "exposure" not in reader:
        return None
    return int(reader.shape("exposure")[0])


_SET_STAGES = (
    ("classify_2d", "classes/2d"),
    ("build_initial_map", "maps/initial"),
    ("refine_map", "maps/refined"),
    ("sharpen_map", "maps/sharpened"),
)


def _steps(contents: _Contents) -> str:
    """The stages in order and how far each of them came."""
    reached: Counter[str] = Counter()
    for line in contents.ledger.lines:
        n = STAGES.index(line.stage) + (line.state == "done")
        reached.update(STAGES[:n])
    stages = [stage for stage in STAGES if stage != "correct_motion" or _has_movies(contents)]
    items = [(stage, f"{reached[stage]}" if reached[stage] else "") for stage in stages]
    items += [(stage, "done" if contents.record(address) else "") for stage, address in _SET_STAGES]
    listed = "".join(
        f"<li>{escape(name.replace('_', ' '))} <b>{escape(state)}</b></li>"
        if state
        else f'<li class="todo">{escape(name.replace("_", " "))}, not yet</li>'
        for name, state in items
    )
    return f'<ol class="steps" aria-label="Stages">{listed}</ol>'


def _has_movies(contents: _Contents) -> bool:
    """Whether the first exposure that was imported is a movie; true while nothing is known."""
    imported = (_exposure(contents, line.exposure) for line in contents.ledger.lines)
    first = next((exposure for exposure in imported if exposure is not None), None)
    return first is None or first.kind == "movie"


# --- the map --------------------------------------------------------------------------------------------------------


def _best_map(contents: _Contents) -> tuple[str, Record] | None:
    for name in ("sharpened", "refined"):
        record = contents.record(f"maps/{name}")
        if record is not None:
            return name, record
    return None


def _resolution(record: Record) -> float | None:
    value = record.details.get("density_map", {}).get("resolution_angstrom")
    return float(value) if isinstance(value, int | float) and np.isfinite(value) and value > 0 else None


def _pixel_size(record: Record) -> float:
    value = record.details.get("density_map", {}).get("pixel_size_angstrom")
    return float(value) if isinstance(value, int | float) and value > 0 else 1.0


def _map_section(contents: _Contents, params: ReportSessionParams) -> str:
    best = _best_map(contents)
    if best is None:
        return page.section("map", "Map", page.not_yet("no map has been refined"))
    name, record = best
    pictures = []
    reader = contents.read(f"maps/{name}")
    if reader is not None and "map" in reader:
        density, pixel_size = reader["map"], _pixel_size(record)
        for kind, plot in (("projections", map_plots.projections), ("slices", map_plots.central_slices)):
            figure = plot(density, pixel_size, f"{kind.capitalize()} of the {name} map")
            pictures.append(contents.show(f"map-{kind}", png(figure), f"{kind} of the {name} map along its axes"))
    else:
        pictures.append(page.not_yet(f"the {name} map has no voxels"))
    pictures.append(_fsc(contents))
    pictures.append(_orientations(contents))
    pictures.append(_local_resolution(contents))
    pictures.append(_guinier(contents))
    facts = _map_facts(contents) + "".join(
        _figures(contents.record(f"maps/{name}"), f"{name}: ") for name in ("refined", "sharpened")
    )
    return page.section("map", "Map", page.grid([p for p in (*pictures, f"<div>{facts}</div>") if p]))


def _fsc(contents: _Contents) -> str:
    for name in ("refined", "sharpened"):
        record, reader = contents.record(f"maps/{name}"), contents.read(f"maps/{name}")
        if record is not None and reader is not None and "fsc_curves" in reader:
            resolution = _resolution(record)
            figure = map_plots.fsc_curves(reader["fsc_curves"], resolution)
            words = f"{resolution:.2f} Å" if resolution else "no resolution"
            return contents.show(
                "fsc", png(figure), f"Half-map FSC: {words}", f"Half-map FSC, corrected for the mask: {words}"
            )
    return page.not_yet("no half-map FSC")


def _orientations(contents: _Contents) -> str:
    reader = contents.read("particles/refined")
    if reader is None or "rotation" not in reader:
        return page.not_yet("no refined orientations")
    record = contents.record("maps/refined")
    symmetry = record.details.get("density_map", {}).get("symmetry", "C1") if record is not None else "C1"
    figure = particle_plots.orientation_distribution(reader["rotation"], symmetry)
    alt = "Heat map of viewing directions over the sphere"
    caption = f"Viewing directions in map coordinates with their mates in {symmetry}, equal-area map"
    return contents.show("orientations", png(figure), alt, caption)


def _local_resolution(contents: _Contents) -> str:
    for name in ("sharpened", "refined"):
        record, reader = contents.record(f"maps/{name}"), contents.read(f"maps/{name}")
        if record is not None and reader is not None and "local_resolution" in reader:
            mask = _array(reader, "mask")
            figure = map_plots.local_resolution_histogram(reader["local_resolution"], mask, _resolution(record))
            return contents.show("local-resolution", png(figure), "Histogram of the local resolution in the mask")
    return page.not_yet("no local resolution")


def _guinier(contents: _Contents) -> str:
    record = contents.record("maps/sharpened")
    curve = record.details.get("guinier") if record is not None else None
    b_factor = record.details.get("density_map", {}).get("b_factor_angstrom2") if record is not None else None
    if not isinstance(curve, dict) or not isinstance(b_factor, int | float):
        return ""
    squared, logarithm = (
        np.array([np.nan if v is None else float(v) for v in curve.get(name, [])])
        for name in ("frequency_squared", "log_amplitude")
    )
    figure = map_plots.guinier(squared, logarithm, float(b_factor))
    return contents.show("guinier", png(figure), f"Guinier plot with a B-factor of {b_factor:.0f} Å²")


def _map_facts(contents: _Contents) -> str:
    rows = []
    for name in ("initial", "refined", "sharpened"):
        record = contents.record(f"maps/{name}")
        if record is None:
            continue
        known = record.details.get("density_map", {})
        resolution, b_factor = _resolution(record), known.get("b_factor_angstrom2")
        rows.append(
            [
                name, str(known.get("symmetry", "")), f"{_pixel_size(record):.3f}",
                f"{resolution:.2f}" if resolution else "–",
                f"{b_factor:.0f}" if isinstance(b_factor, int | float) else "–",
                _number(int(known.get("n_particles") or 0)),
            ]
        )  # fmt: skip
    header = ("map", "symmetry", "pixel size / Å", "resolution / Å", "B-factor / Å²", "particles")
    return page.table(header, rows) if rows else ""


def _figures(record: Record | None, before: str = "") -> str:
    """The figures of a product in a line, as its stage named them."""
    if record is None or not record.figures:
        return ""
    told = (f"{name.replace('_', ' ')} {_value(value)}" for name, value in record.figures.items() if value is not None)
    return page.paragraph(before + " · ".join(told), "meta")


def _initial_map(contents: _Contents, params: ReportSessionParams) -> str:
    record, reader = contents.record("maps/initial"), contents.read("maps/initial")
    if record is None or reader is None or "map" not in reader:
        return page.section("initial", "Initial map", page.not_yet("no map has been built"))
    density, pixel_size = reader["map"], _pixel_size(record)
    pictures = [
        contents.show(
            f"initial-{kind}",
            png(plot(density, pixel_size, f"{kind.capitalize()} of the initial map")),
            f"{kind} of the initial map along its axes",
        )
        for kind, plot in (("projections", map_plots.projections), ("slices", map_plots.central_slices))
    ]
    return page.section("initial", "Initial map", page.grid(pictures), _figures(record))


# --- the session ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SeriesSpec:
    title: str
    unit: str
    figure: str
    """Name among the ledger's figures."""
    scale: float
    format: str


_SERIES = (
    _SeriesSpec("Defocus", "µm", "defocus_u_angstrom", 1e-4, ".2f"),
    _SeriesSpec("CTF fit resolution", "Å", "fit_resolution_angstrom", 1.0, ".1f"),
    _SeriesSpec("Total motion", "Å", "total_motion_angstrom", 1.0, ".1f"),
    _SeriesSpec("Drift within the exposure", "Å", "drift_angstrom", 1.0, ".1f"),
    _SeriesSpec("Picks per exposure", "", "n_picks", 1.0, ".0f"),
)


def _values(lines: Sequence[Line], one: _SeriesSpec) -> NDArray[np.float64]:
    """(exposure,) the figure of each line, NaN where it has none."""
    values = np.full(len(lines), np.nan)
    for i, line in enumerate(lines):
        found = line.figures.get(one.figure)
        if isinstance(found, int | float) and not isinstance(found, bool):
            values[i] = float(found) * one.scale
    return values


def _overview(contents: _Contents, params: ReportSessionParams) -> str:
    lines = contents.ledger.lines
    series = [exposure_plots.Series(one.title, one.unit, _values(lines, one)) for one in _SERIES]
    series = [one for one in series if np.isfinite(one.values).any()]
    if not series:
        return page.section("overview", "Session", page.not_yet("no exposure has figures"))
    is_accepted = np.array([line.state == "done" for line in lines])
    names = ", ".join(one.title.lower() for one in series)
    figure = exposure_plots.session_overview(series, is_accepted)
    shown = contents.show("overview", png(figure), f"Course of the session: {names} for each exposure")
    return page.section("overview", "Session", page.grid([shown], "pictures wide"))


def _trouble(contents: _Contents, params: ReportSessionParams) -> str:
    lost = [line for line in contents.ledger.lines if line.state != "done"]
    if not lost:
        words = "Every exposure that was seen is in use." if contents.ledger.lines else "No exposure has been seen yet."
        return page.section("trouble", "Not used, and why", page.paragraph(words))
    kinds = Counter((line.stage, _outcome(line)) for line in lost)
    told = ", ".join(f"{n} {word} in {stage.replace('_', ' ')}" for (stage, word), n in kinds.most_common())
    rows = [
        [line.exposure, _outcome(line), line.stage, line.reason or "no reason was recorded"]
        for line in lost[:_ROWS_OF_LISTS]
    ]
    more = len(lost) - len(rows)
    return page.section(
        "trouble", "Not used, and why",
        page.paragraph(f"{told}."),
        page.table(("exposure", "state", "stage", "reason"), rows),
        page.paragraph(f"and {more} more; `vitriflow status` lists them all.") if more else "",
    )  # fmt: skip


# --- single exposures -------------------------------------------------------------------------------------------------


def _exposure_cards(contents: _Contents, params: ReportSessionParams) -> str:
    lines = _chosen(contents.ledger.lines, params.max_exposures)
    if not lines:
        return page.section("exposures", "Exposures", page.not_yet("there is no exposure to show"))
    cards: list[str] = []
    n_bytes = 0
    for line in lines:
        if n_bytes > _BYTES_OF_CARDS:
            break
        card, size = _card(contents, line, params)
        n_bytes += size
        cards.append(card)
    words = f"{len(cards)} of {len(contents.ledger.lines)} exposures, those not used first."
    return page.section(
        "exposures",
        "Exposures",
        page.paragraph(words, "note"),
        page.grid(cards, "cards" if _has_movies(contents) else "cards pairs"),
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


def _card(contents: _Contents, line: Line, params: ReportSessionParams) -> tuple[str, int]:
    """HTML of one exposure and the bytes of its pictures."""
    exposure = _exposure(contents, line.exposure)
    name = exposure.name if exposure else line.exposure
    state = _outcome(line)
    pictures = [
        (content, alt)
        for content, alt in (
            (_micrograph_png(contents, line.exposure, exposure, params), f"Micrograph of {name} with its picks"),
            (_ctf_png(contents, line.exposure, exposure), f"CTF fit of {name}"),
            (_motion_png(contents, line.exposure, exposure), f"Motion of {name}"),
        )
        if content is not None
    ]
    figures = []
    for one in _SERIES:
        value = _values([line], one)[0]
        if np.isfinite(value):
            figures.append(f"{one.title.lower()} {value:{one.format}} {one.unit}".strip())
    head = f'<div class="head"><h3>{escape(name)}</h3>{page.badge(state, _TONES[state])}</div>'
    why = f'<p class="reason">{escape(line.stage)}: {escape(line.reason or "")}</p>' if line.reason else ""
    warning = line.figures.get("warning")
    if isinstance(warning, str):
        figures.append(warning)
    facts = f'<p class="figures">{escape(" · ".join(figures))}</p>' if figures else ""
    shown = page.grid((page.picture(content, alt) for content, alt in pictures), "views")
    if not pictures:
        shown = page.not_yet("no picture of this exposure")
    contents.cards.append(
        f"### {_markdown(name)}: {state}\n\n{_markdown(line.reason or '')}\n\n"
        + "\n\n".join(f"![{_markdown(alt)}]({page.data_uri(content)})" for content, alt in pictures[:1])
    )
    kind = "card" if line.state == "done" else "card off"
    return f'<article class="{kind}">{head}{why}{facts}{shown}</article>', sum(len(c) for c, _ in pictures)


def _exposure(contents: _Contents, exposure_id: str) -> Exposure | None:
    record = contents.record(f"exposures/{exposure_id}/import_session")
    if record is None:
        return None
    try:
        return Exposure.model_validate(record.details.get("exposure"))
    except ValidationError:
        logger.warning("report_session: exposure %s: its import record describes no exposure", exposure_id)
        return None


def _micrograph_png(
    contents: _Contents, exposure_id: str, exposure: Exposure | None, params: ReportSessionParams
) -> bytes | None:
    if exposure is None:
        return None
    stage = "correct_motion" if exposure.kind == "movie" else "import_session"
    reader = contents.read(f"exposures/{exposure_id}/{stage}")
    if reader is None or "micrograph" not in reader:
        return None
    picks = contents.read(f"exposures/{exposure_id}/pick_particles")
    coordinates = _array(picks, "coordinate_px")
    pixel_size = exposure.optics.pixel_size_angstrom
    radius_px = _pick_diameter_angstrom(picks) / 2 / pixel_size
    return exposure_plots.micrograph_with_picks(
        reader["micrograph"], pixel_size, coordinates, radius_px, params.thumbnail_px, params.low_pass_angstrom
    )


def _pick_diameter_angstrom(picks: Reader | None) -> float:
    """As the picker recorded it; 100 Å where it did not."""
    value = picks.attributes.get("diameter_angstrom") if picks is not None else None
    return float(value) if isinstance(value, int | float) and value > 0 else 100.0


def _ctf_png(contents: _Contents, exposure_id: str, exposure: Exposure | None) -> bytes | None:
    reader = contents.read(f"exposures/{exposure_id}/estimate_ctf")
    if reader is None or exposure is None:
        return None
    try:
        found = ExposureCtf.model_validate(reader.record.details.get("ctf"))
    except ValidationError:
        return None
    spectrum = _array(reader, "power_spectrum")
    pixel_size = exposure.optics.pixel_size_angstrom
    fit = exposure_plots.CtfFit(
        power_spectrum=spectrum,
        model=None if spectrum is None else _ctf_model(found, exposure, spectrum.shape[0], pixel_size),
        curves=_array(reader, "fit_curves"),
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


def _motion_png(contents: _Contents, exposure_id: str, exposure: Exposure | None) -> bytes | None:
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


# --- classes and stages -----------------------------------------------------------------------------------------------


def _classes(contents: _Contents, params: ReportSessionParams) -> str:
    record, reader = contents.record("classes/2d"), contents.read("classes/2d")
    if record is None or reader is None or "class_average" not in reader:
        return page.section("classes", "2D classes", page.not_yet("no 2D classes"))
    averages = reader["class_average"]
    columns: dict[str, NDArray[np.float64] | None] = {}
    for name in ("n_particles", "resolution_angstrom", "is_kept"):
        values = record.details.get(name)
        if isinstance(values, list) and len(values) == len(averages):
            columns[name] = np.array([np.nan if v is None else float(v) for v in values])
        else:
            columns[name] = None
    kept = None if columns["is_kept"] is None else columns["is_kept"] > 0
    figure = particle_plots.class_gallery(
        averages, columns["n_particles"], columns["resolution_angstrom"], kept, params.max_classes
    )
    words = f"{len(averages)} classes"
    if kept is not None:
        words += f", {int(kept.sum())} kept (green frame)"
    alt = f"Gallery of {words}; each with its number of particles"
    return page.section(
        "classes",
        "2D classes",
        page.grid([contents.show("classes-2d", png(figure), alt, words)], "pictures wide"),
        _figures(record),
    )


def _stages(contents: _Contents, params: ReportSessionParams) -> str:
    """Parameters and cost of each stage, from the commit records."""
    rows, parameters, software = [], [], set()
    exposures = [line.exposure for line in contents.ledger.lines]
    sample = [exposures[round(i)] for i in np.linspace(0, len(exposures) - 1, min(len(exposures), _RECORDS_FOR_CPU))]
    per_exposure = [(stage, [f"exposures/{e}/{stage}" for e in sample]) for stage in STAGES]
    for stage, addresses in [*per_exposure, *((stage, [address]) for stage, address in _SET_STAGES)]:
        records = [record for record in (contents.record(address) for address in addresses) if record is not None]
        if not records:
            continue
        scale = len(exposures) / len(addresses) if stage in STAGES else 1.0
        seconds = scale * sum(record.cpu_seconds for record in records)
        software |= {record.software for record in records}
        latest = max(records, key=lambda record: record.written_at)
        n_done = round(scale * len(records))
        is_set = stage not in STAGES  # works in blocks, whose cost is not in the product's record
        rows.append(
            [
                stage, f"{latest.stage_version}", _number(n_done),
                "–" if is_set else f"{seconds:.1f}", "–" if is_set else f"{seconds / max(1, n_done):.2f}",
                f"{scale * sum(record.n_bytes for record in records) / 1e6:.1f}", _time(latest.written_at),
            ]
        )  # fmt: skip
        listed = page.table(("parameter", "value"), [(k, _value(v)) for k, v in sorted(latest.params.items())])
        n_sets = len({tuple(sorted((k, str(v)) for k, v in record.params.items())) for record in records})
        note = f" ({n_sets} different sets; the latest)" if n_sets > 1 else ""
        parameters.append(page.folded(f"{stage}{note}", listed if latest.params else page.paragraph("no parameters")))
    if not rows:
        return page.section("stages", "Parameters and cost", page.not_yet("no stage has run"))
    words = "CPU seconds of the thread that made each product; stages of the whole session work in blocks and have none"
    if len(sample) < len(exposures):
        words += f", from {len(sample)} of {len(exposures)} exposures"
    header = ("stage", "version", "products", "CPU / s", "per product / s", "MB", "last written")
    return page.section(
        "stages", "Parameters and cost",
        page.table(header, rows, words),
        page.paragraph("Software: " + ", ".join(sorted(s for s in software if s)), "note"),
        *parameters,
    )  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------------


def _number(value: int) -> str:
    return f"{value:,}".replace(",", _THIN)


def _plural(n: int, word: str) -> str:
    return f"{_number(n)} {word}" + ("" if n == 1 else "s")


def _time(iso: str) -> str:
    """2026-11-20T17:52:55+00:00 as 2026-11-20 17:52 UTC; other text as it is."""
    try:
        return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return iso


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)


def _markdown(text: str) -> str:
    """Text without what Markdown or HTML would act on."""
    return re.sub(r"([\\`*_\[\]<>()#|!])", r"\\\1", text.replace("\n", " "))


_SECTIONS: tuple[tuple[str, str, Callable[[_Contents, ReportSessionParams], str]], ...] = (
    ("summary", "Summary", _summary),
    ("map", "Map", _map_section),
    ("overview", "Session", _overview),
    ("trouble", "Not used", _trouble),
    ("exposures", "Exposures", _exposure_cards),
    ("classes", "2D classes", _classes),
    ("initial", "Initial map", _initial_map),
    ("stages", "Parameters", _stages),
)
"""Anchor, name in the menu, and what writes it; in the order of the page."""


# --- Prefect ----------------------------------------------------------------------------------------------------------


def _publish(contents: _Contents) -> None:
    """The same pictures as artifacts of the Prefect run; nothing outside of one."""
    try:
        get_run_context()
    except MissingContextError:
        return
    name = contents.store.session.name
    for key, (content, alt) in contents.pictures.items():
        create_image_artifact(
            image_url=page.data_uri(content), key=artifact_key(name, key), description=_markdown(f"{name}: {alt}")
        )
    text = f"# {_markdown(name)}\n\n{_markdown(_verdict(contents))}\n\nReport: {contents.store.url}/report.html\n\n"
    text += "\n\n".join(contents.cards[:12])
    create_markdown_artifact(markdown=text, key=artifact_key(name, "exposures"), description=_markdown(name))
    create_table_artifact(
        table=_ledger_rows(contents.ledger.lines), key=artifact_key(name, "ledger"), description=_markdown(name)
    )


def _ledger_rows(lines: Iterable[Line]) -> list[dict[str, RecordFigure]]:
    """Those not used first."""
    return [
        {"exposure": line.exposure, "state": line.state, "stage": line.stage, "reason": line.reason or ""}
        for line in sorted(lines, key=lambda line: line.state == "done")[:_ROWS_OF_LISTS]
    ]


def artifact_key(session_name: str, picture: str) -> str:
    """Key of an artifact: lower-case letters, digits and dashes, the session first so that each has its own."""
    return re.sub(r"[^a-z0-9]+", "-", f"{session_name}-{picture}".lower()).strip("-")
