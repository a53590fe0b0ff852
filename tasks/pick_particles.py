"""Particles of each micrograph, found by their CTF-modulated shape: balls and shells, or 2D class averages.

The threshold comes from the micrograph itself: the same templates are correlated with noise that has the spectrum of
what is left once the found particles are subtracted, and peaks are taken as far down as ``noise_share`` of them are
expected to be noise. A learned picker is to come beside these two methods.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field
from torch import Tensor

from kernels.ctf import Defocus, ctf
from kernels.fourier import fast_size, frequencies, frequency_length, inverse, resample, transform
from kernels.masks import soft_circle
from kernels.micrographs.picking import (
    band_pass,
    blob_templates,
    contaminated,
    correlate,
    distinct,
    filtered,
    flattened,
    noise_threshold,
    peaks,
    phase_randomised,
    picking_memory_bytes,
    rotated,
    without_particles,
)
from kernels.optics import Optics
from tasks.records.forecast import Need, Outline
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.exposure_store import exposure, exposure_ctf, micrograph, micrograph_address
from tasks.stores.products.outline import exposures_outline
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.device import device
from tasks.workers.stage import Stage, run_stage

logger = logging.getLogger(__name__)

_STAGE = "pick_particles"


_Relative = Annotated[float, Field(gt=0, le=10)]
_Hollow = Annotated[float, Field(ge=0, lt=1)]


class PickParticlesParams(StageParams):
    method: Literal["blob", "template"] = "blob"
    diameter_angstrom: float = Field(gt=0)
    """Outer diameter of the particle, the longest one where it is not round."""
    relative_diameters: tuple[_Relative, ...] = Field(default=(0.9, 1.0, 1.1), min_length=1)
    """Blobs that are tried, as parts of the diameter."""
    hollow_fractions: tuple[_Hollow, ...] = Field(default=(0.0, 0.65), min_length=1)
    """Blobs that are tried: inner over outer diameter, 0 for a solid ball."""
    templates: str = "classes/2d"
    """Product whose class averages are the templates of method ``template``."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Finest detail that is used; None for an eighth of the diameter, at least 10 Å."""
    min_separation: float = Field(default=0.6, gt=0, le=3)
    """Smallest distance of two particles, in diameters."""
    min_edge_distance: float = Field(default=0.25, ge=0, le=2)
    """Smallest distance of a particle's centre from the edge of the micrograph, in diameters."""
    noise_share: float = Field(default=0.03, gt=0, lt=1)
    """Share of the picks that may be noise; sets the threshold."""
    min_score: float | None = Field(default=None, ge=-1, le=1)
    """Threshold of the operator, in place of the automatic one."""
    is_contamination_avoided: bool = True


@task(name="pick_particles", cache_policy=NO_CACHE)
def pick_particles(session_url: str, exposure_ids: list[str], params: PickParticlesParams) -> StageReport:
    """Coordinates and scores of the particles of every curated exposure.

    A micrograph of 1200 × 1280 px takes half a CPU-second with blobs, and three with twenty class averages at 50
    angles. Memory: see `need`; it does not grow with the session.
    """
    inputs = _inputs
    if params.method == "template":
        _require_templates(SessionStore.open(session_url), params.templates)
        inputs = partial(_inputs, templates=params.templates)  # type: ignore[assignment]
    stage = Stage(_STAGE, 1, "GPU", _pick, inputs, needs=_needs)
    return run_stage(session_url, stage, exposure_ids, params)


def need(about: Outline, params: PickParticlesParams) -> Need:
    """What picking needs: the micrograph four times for its sampling, and what is done with the sampled one."""
    sampled_px = _shortest(about.pixel_size_angstrom, params) / _PX_PER_RESOLUTION
    diameter_px = params.diameter_angstrom / sampled_px
    n_averages = 50 if params.method == "template" else len(params.relative_diameters) * len(params.hollow_fractions)
    n_angles = math.ceil(2 * math.pi * diameter_px / _PX_PER_RESOLUTION) if params.method == "template" else 1
    n_sampled = round(about.n_px * (about.pixel_size_angstrom / sampled_px) ** 2)
    work = picking_memory_bytes(
        n_sampled, params.min_separation * diameter_px, n_averages * n_angles, math.ceil(2.5 * diameter_px)
    )
    memory = int(1.05 * (16 * about.n_px + 60_000_000 + work))
    return Need(
        stage=_STAGE,
        n_items=about.n_exposures,
        memory_bytes=memory,
        disk_bytes=about.n_exposures * 50_000,
        cpu_seconds=about.n_exposures * (6 if params.method == "template" else 1) * (0.15 + 0.1e-6 * about.n_px),
        told_from=about.frames_words,
        remedy="raise `pick_particles.resolution_angstrom`, or bin the movies",
    )


def _needs(store: SessionStore, exposure_ids: Sequence[str], params: PickParticlesParams) -> Need:
    return need(exposures_outline(store, exposure_ids), params)


def _inputs(store: SessionStore, item: str, templates: str | None = None) -> list[str]:
    addresses = [
        f"exposures/{item}/curate_exposures",
        f"exposures/{item}/estimate_ctf",
        micrograph_address(store, item),
    ]
    return addresses if templates is None else [*addresses, templates]


def _require_templates(store: SessionStore, address: str) -> None:
    record = store.product(address).record()
    if record is None or record.state != "done":
        raise StoreError(
            f"pick_particles: no class averages at {address!r}; run classify_2d first, or pick with method: blob"
        )


@dataclass(frozen=True)
class _View:
    """The micrograph at reduced sampling, in units of its noise, and what limits the detail used of it."""

    image: Tensor
    pixel_size_angstrom: float
    full_shape: tuple[int, int]
    longest_angstrom: float
    shortest_angstrom: float

    def band(self, frequency_per_angstrom: Tensor) -> Tensor:
        return band_pass(frequency_per_angstrom, self.longest_angstrom, self.shortest_angstrom)

    def to_micrograph(self, coordinate: Tensor) -> Tensor:
        """(particle, 2) coordinates of the full micrograph; both have their origin at element n // 2."""
        small, full = (torch.tensor(shape).to(coordinate) for shape in (self.image.shape, self.full_shape))
        return (coordinate - small // 2) * (full / small) + full // 2


def _pick(store: SessionStore, item: str, params: PickParticlesParams, attempt: Attempt) -> None:
    optics = exposure(store, item).optics
    image = torch.from_numpy(micrograph(store, item)["micrograph"]).to(device())
    _check(item, image, optics.pixel_size_angstrom, params.diameter_angstrom)
    view = _reduced(image, optics.pixel_size_angstrom, params)
    radius_px = params.diameter_angstrom / 2 / view.pixel_size_angstrom
    templates = _templates(store, item, params, view, optics)
    band = view.band(frequency_length(view.image.shape, view.pixel_size_angstrom, device=image.device))
    junk = contaminated(view.image, radius_px, torch.zeros(0, 2, dtype=torch.int64, device=image.device))
    if not params.is_contamination_avoided:
        junk = torch.zeros_like(junk)
    # what is left of an ice ball would ring through the filter
    seen = filtered(torch.where(junk, 0.0, view.image.clamp(-8, 8)), band)
    window_px = _WINDOW * 2 * radius_px
    separation_px = params.min_separation * 2 * radius_px
    score, which = correlate(seen, templates, window_px)
    coordinate, height = peaks(score, separation_px)
    threshold = params.min_score
    if threshold is None:
        threshold = _automatic_threshold(seen, templates, which, coordinate, height, params, radius_px)

    is_picked = height >= threshold
    position = coordinate.round().long()
    if params.is_contamination_avoided:
        junk |= contaminated(view.image, radius_px, position[is_picked])
    is_junk = is_picked & junk[position[:, 0], position[:, 1]]
    is_picked &= ~is_junk
    full = view.to_micrograph(coordinate)
    margin = params.min_edge_distance * params.diameter_angstrom / optics.pixel_size_angstrom
    last = torch.tensor(view.full_shape, device=full.device) - 1
    is_picked &= ((full >= margin) & (full <= last - margin)).all(-1)

    picked_height = height[is_picked].cpu()
    attempt.write("coordinate_px", full[is_picked].float().cpu().numpy())
    attempt.write("score", picked_height.float().numpy())
    attempt.figures = {
        "n_picks": len(picked_height),
        "score_threshold": round(float(threshold), 4),
        "median_score": round(float(picked_height.median()), 4) if len(picked_height) else None,
        "n_rejected_as_contamination": int(is_junk.sum()),
        "contaminated_share": round(float(junk.float().mean()), 4),
    }
    attempt.set_attributes(
        {
            "diameter_angstrom": params.diameter_angstrom,
            "sampled_at_angstrom": view.pixel_size_angstrom,
            "n_templates": len(templates),
        }
    )
    logger.info("pick_particles %s: %d particles above %.3f", item, len(picked_height), threshold)


_WINDOW = 0.7
"""Radius of the disc in which a template is compared, in diameters: the particle and its first CTF fringe."""
_PX_PER_RESOLUTION = 2.5


def _check(item: str, image: Tensor, pixel_size_angstrom: float, diameter_angstrom: float) -> None:
    n_bad = int((~torch.isfinite(image)).sum())
    if n_bad:
        raise ValueError(
            f"exposure {item}: {n_bad} of {image.numel()} pixels of its micrograph are not finite; expected none; "
            "run correct_motion again, or leave this exposure out"
        )
    if float(image.std()) == 0:
        raise ValueError(f"exposure {item}: its micrograph is constant at {float(image[0, 0]):g}; leave it out")
    extent = tuple(n * pixel_size_angstrom for n in image.shape)
    if diameter_angstrom > min(extent) / 2:
        raise ValueError(
            f"exposure {item}: a diameter of {diameter_angstrom:g} Å is more than half of the micrograph "
            f"({extent[0]:.0f} × {extent[1]:.0f} Å); set `pick_particles.diameter_angstrom` to that of the particle"
        )
    if diameter_angstrom < 8 * pixel_size_angstrom:
        raise ValueError(
            f"exposure {item}: a diameter of {diameter_angstrom:g} Å is fewer than 8 pixels of "
            f"{pixel_size_angstrom:g} Å; set `pick_particles.diameter_angstrom` to that of the particle, in Å"
        )


def _reduced(image: Tensor, pixel_size_angstrom: float, params: PickParticlesParams) -> _View:
    shortest = _shortest(pixel_size_angstrom, params)
    factor = _PX_PER_RESOLUTION * pixel_size_angstrom / shortest
    shape = tuple(max(1, round(n * factor)) for n in image.shape)
    small = resample(image - image.mean(), shape)
    flat = flattened(small)
    spread = 1.4826 * flat.abs().median()
    return _View(
        image=flat / spread.clamp(min=1e-20),
        pixel_size_angstrom=pixel_size_angstrom * image.shape[0] / shape[0],
        full_shape=(image.shape[0], image.shape[1]),
        longest_angstrom=2.5 * params.diameter_angstrom,
        shortest_angstrom=shortest,
    )


def _shortest(pixel_size_angstrom: float, params: PickParticlesParams) -> float:
    """Finest detail that is used, Å."""
    wanted = params.resolution_angstrom or max(10.0, params.diameter_angstrom / 8)
    return max(wanted, _PX_PER_RESOLUTION * pixel_size_angstrom)


def _templates(store: SessionStore, item: str, params: PickParticlesParams, view: _View, optics: Optics) -> Tensor:
    """(template, y, x) as the microscope shows them in this micrograph."""
    pixel_size, target = view.pixel_size_angstrom, view.image.device
    n = fast_size(math.ceil(2.5 * params.diameter_angstrom / pixel_size))
    if params.method == "blob":
        diameters = [part * params.diameter_angstrom for part in params.relative_diameters]
        templates = blob_templates(n, pixel_size, diameters, params.hollow_fractions, device=target)
    else:
        averages = _class_averages(store, params, n, pixel_size).to(target)
        n_angles = math.ceil(2 * math.pi * params.diameter_angstrom / view.shortest_angstrom)
        templates = rotated(averages, n_angles)
    fit = exposure_ctf(store, item)
    defocus = Defocus.of(
        fit.defocus_u_angstrom,
        fit.defocus_v_angstrom,
        math.radians(fit.defocus_angle_deg),
        math.radians(fit.phase_shift_deg),
    )
    frequency = frequencies((n, n), pixel_size, device=target)
    shown = ctf(frequency, defocus, optics) * view.band(frequency.norm(dim=-1))
    templates = inverse(transform(templates) * shown, (n, n))
    window_px = _WINDOW * params.diameter_angstrom / pixel_size
    return distinct(templates, window_px, most_alike=0.97) if params.method == "template" else templates


def _class_averages(store: SessionStore, params: PickParticlesParams, n: int, pixel_size_angstrom: float) -> Tensor:
    """(class, n, n) averages at another sampling, 0 outside of the particle."""
    reader = store.product(params.templates).read()
    averages = torch.from_numpy(reader["class_average"]).float()
    found = float(reader.attributes["pixel_size_angstrom"])
    side = max(8, round(averages.shape[-1] * found / pixel_size_angstrom))
    averages = resample(averages, (side, side))
    mask = soft_circle(side, params.diameter_angstrom / 2 / pixel_size_angstrom, 3.0)
    outside = 1 - mask
    background = (averages * outside).sum((-2, -1), keepdim=True) / outside.sum().clamp(min=1)
    averages = (averages - background) * mask
    is_empty = averages.flatten(1).std(-1) <= 1e-6 * averages.std()
    averages = averages[~is_empty]
    if not len(averages):
        raise StoreError(
            f"pick_particles: the class averages of {params.templates!r} are all empty; run classify_2d again"
        )
    before = max(0, n // 2 - side // 2)
    after = max(0, n - side - before)
    averages = torch.nn.functional.pad(averages, (before, after, before, after))
    first = averages.shape[-1] // 2 - n // 2 if side > n else 0
    return averages[:, first : first + n, first : first + n]


def _automatic_threshold(
    seen: Tensor, templates: Tensor, which: Tensor, coordinate: Tensor, height: Tensor,
    params: PickParticlesParams, radius_px: float,
) -> float:  # fmt: skip
    """Threshold from noise that has the spectrum of the micrograph without the particles found so far.

    In the first round nothing is subtracted and the threshold is too careful; each round corrects that.
    """
    generator = torch.Generator().manual_seed(0)
    n_taken = torch.arange(len(height), device=height.device)
    free_share = (1 - n_taken * math.pi * radius_px**2 / seen.numel()).clamp(min=0.3)
    # class averages are many, and fewer maps of their noise have to do
    n_maps, n_rounds = (4, 2) if params.method == "blob" else (2, 1)
    rest, threshold = seen, 1.0
    for remaining in range(n_rounds, -1, -1):
        noise = [
            peaks(
                correlate(phase_randomised(rest, generator), templates, _WINDOW * 2 * radius_px)[0],
                params.min_separation * 2 * radius_px,
            )[1]
            for _ in range(n_maps)
        ]
        threshold = noise_threshold(height, torch.cat(noise), n_maps, free_share, params.noise_share)
        if remaining:
            position = coordinate[height >= threshold].round().long()
            rest = without_particles(seen, templates, which[position[:, 0], position[:, 1]], position)
    return threshold
