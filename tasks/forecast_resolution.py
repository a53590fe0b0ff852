"""How far a session will get: resolution against particles, and how many exposures a goal still needs.

The refined particles are halved again and again; each part is reconstructed with the poses it has, half by half, and
what its halves agree to is a point of the curve of Rosenthal and Henderson. What earlier refinements of the session
reached are points too. Poses come from all particles, so the small parts do a little better than particles refined
alone would.
"""

from __future__ import annotations

import logging
import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, Field

from kernels import fourier
from kernels.maps.fsc import corrected_fsc, crossing_shell
from kernels.maps.projection import Accumulator
from kernels.maps.reconstruction import complete, symmetrise, wiener_map
from kernels.maps.refinement import back_project
from kernels.maps.resolution_forecast import ResolutionForecast, ResolutionPoint, forecast, point_of
from kernels.particles.expectation import disc
from kernels.particles.likelihood import Observation, PoseFit
from kernels.rotations import symmetry_group
from tasks.progress import progress
from tasks.records.forecast import Need, Outline
from tasks.records.particles import ParticleSet
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Figure
from tasks.stores.ledger import read_entries
from tasks.stores.products.map_store import density_map, read_map
from tasks.stores.products.observations import Geometry, read_coefficients, reading_memory_bytes, stack_geometry
from tasks.stores.products.outline import particles_outline
from tasks.stores.products.particle_store import read_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.blocks import run_blocks
from tasks.workers.connection import require_workers
from tasks.workers.device import device
from tasks.workers.room import DoesNotFitError, fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

_STAGE, _VERSION = "forecast_resolution", 2
_PRODUCT, _MAP, _PARTICLES = "session/resolution_forecast", "maps/refined", "particles/refined"
_PADDING = 1
"""Coarser interpolation than in the refinement, at an eighth of its cost: both halves suffer alike from it, and what
they agree to moves by less than its error."""
_SIGNAL_TO_NOISE = 1.0
"""About that where halves cease to agree: coefficients that few particles of a small part saw count for less."""
_LARGEST_FACTOR = 100.0
"""Of the particles that are there: how far the curve is drawn."""


class ForecastResolutionParams(StageParams):
    """Parameters of `forecast_resolution`."""

    goal_angstrom: float | None = Field(default=None, gt=0)
    """Resolution that the session is to reach."""
    n_planned_exposures: int | None = Field(default=None, ge=1)
    """Exposures that the session will have; four times those that are there when None."""
    n_halvings: int = Field(default=4, ge=1, le=10)
    fewest_views: int = Field(default=1_000, ge=4)
    """Of the smallest part: particles times the operations of the point group; fewer cover directions unevenly."""
    coarsest_angstrom: float = Field(default=15.0, gt=0)
    """Parts that reach less follow the shape of the particle, not its B-factor."""
    particles_at_once: int = Field(default=500, ge=10)
    seed: int = 0
    """Of the parts."""


class HistoryPoint(BaseModel):
    """What one refinement of the session reached, and what was foreseen then."""

    fingerprint: str
    """Of the refined map."""
    written_at: str
    n_particles: int
    n_exposures: int
    resolution_angstrom: float | None
    frequency_error_per_angstrom: float | None
    b_factor_angstrom2: float | None = None
    reachable_angstrom: float | None = None


@task(name="forecast_resolution", cache_policy=NO_CACHE)
def forecast_resolution(session_url: str, params: ForecastResolutionParams) -> StageReport:
    """``session/resolution_forecast`` from ``maps/refined`` and ``particles/refined``; every refinement adds a point.

    The points of earlier refinements stand in ``history`` of the record's details, so a forecast also depends on those
    that were made before it. The B-factor is that of the spectrum which the parts probe; shells of a structure
    undulate, so its estimate may be a quarter off, as its interval then says. Where its memory (see `need`) does not
    fit, the forecast fails and stops nothing, as nothing is made from it.
    """
    store = SessionStore.open(session_url)
    report = StageReport(stage=_STAGE)
    try:
        inputs = store.fingerprints([_MAP, _PARTICLES])
    except StoreError as error:
        report.skipped[_PRODUCT] = str(error)
        return report
    scratch = Scratch(store, _STAGE, _VERSION, params, inputs)
    if store.product(_PRODUCT).is_current(scratch.fingerprint):
        report.kept.append(_PRODUCT)
        return report
    try:
        _find_points(scratch, report)
    except DoesNotFitError as error:
        report.failed[_PRODUCT] = str(error)
        logger.warning("%s", error)
        return report
    words = _write_product(scratch)
    scratch.remove()
    report.done.append(_PRODUCT)
    logger.info("forecast_resolution: %s; %.1f CPU-s", words, report.cpu_seconds)
    return report


def need(about: Outline, params: ForecastResolutionParams) -> Need:
    """What comparing the largest parts needs at the sampling of ``about.box``."""
    n_values = min(params.particles_at_once, about.n_particles) * math.pi / 2 * (about.box / 2) ** 2
    summing = 15 * n_values + min(300e6, 160 * n_values) + 20 * about.box**3
    comparing = 1.1 * (130 * about.box**3 + 30e6)
    memory = int(max(comparing, summing + reading_memory_bytes(about.densest, about.box)))
    n_groups = 2 * (1 + params.n_halvings)
    return Need(
        stage=_STAGE,
        n_items=n_groups + 1,
        memory_bytes=memory,
        disk_bytes=7 * n_groups * about.box**3,
        cpu_seconds=1 + n_groups * 1e-7 * about.box**3 + 4e-7 * about.n_particles * about.box**2,
        told_from=about.particles_words,
        remedy="refine smaller images (`extract_particles.output_box_px`)",
    )


def _find_points(scratch: Scratch[ForecastResolutionParams], report: StageReport) -> None:
    geometry, particles = _geometry(scratch.store)
    about = particles_outline(scratch.store, particles)
    about = about.model_copy(update={"box": _sampled_box(scratch.store, geometry)})
    foreseen = fitting(scratch.store, "GPU", need(about, scratch.params), report)
    with foreseen, stage_usage(require_workers("GPU"), "GPU", report), progress(_STAGE, 1) as advance:
        groups = {f"half_{half}_group_{g}": (half, g) for half in (1, 2) for g in range(_n_groups(scratch))}
        run_blocks(scratch, _sum_group, groups)
        run_blocks(scratch, _compare_parts, {"points": None})
        advance()


def _n_groups(scratch: Scratch[ForecastResolutionParams]) -> int:
    """Groups of 1/2, 1/4, … of the particles, and the last one twice: their sums are the nested parts."""
    refined = density_map(scratch.store, "refined")
    n_views = refined.n_particles * len(symmetry_group(refined.symmetry))
    n_halvings = math.floor(math.log2(max(n_views / scratch.params.fewest_views, 1)))
    return 1 + min(scratch.params.n_halvings, n_halvings)


def _write_product(scratch: Scratch[ForecastResolutionParams]) -> str:
    """The curve through the points, what it says of the session, and the history one point longer."""
    store, params = scratch.store, scratch.params
    points = [ResolutionPoint(int(n), d, error) for n, d, error in scratch.read("points")["points"].tolist()]
    geometry, particles = _geometry(store)
    n_particles, n_exposures = len(particles), len(particles.exposure_ids)
    history = [p for p in _history(store) if p.fingerprint != scratch.inputs[_MAP]]
    earlier = [
        ResolutionPoint(p.n_particles, p.resolution_angstrom, p.frequency_error_per_angstrom)
        for p in history
        if p.resolution_angstrom and p.frequency_error_per_angstrom and p.n_particles < n_particles
    ]
    limit = 2 * geometry.pixel_size_angstrom
    found = forecast([*points, *earlier], limit, params.coarsest_angstrom)
    per_exposure = n_particles / max(n_exposures, 1) * _share_accepted(store)
    n_now = n_particles / per_exposure
    figures, words = _figures(found, params, n_particles, per_exposure, points)
    whole = next((p for p in points if p.n_particles == n_particles), None)
    history.append(
        HistoryPoint(
            fingerprint=scratch.inputs[_MAP],
            written_at=record.written_at if (record := store.product(_MAP).record()) else "",
            n_particles=n_particles,
            n_exposures=round(n_now),
            resolution_angstrom=whole.resolution_angstrom if whole else None,
            frequency_error_per_angstrom=whole.frequency_error_per_angstrom if whole else None,
            b_factor_angstrom2=found.b_factor_angstrom2.estimate if found.is_supported else None,
            reachable_angstrom=figures["reachable_angstrom"],  # type: ignore[arg-type]
        )
    )
    with store.product(_PRODUCT).write(_STAGE, _VERSION, params, scratch.inputs) as attempt:
        table = [[p.n_particles, p.resolution_angstrom, p.frequency_error_per_angstrom] for p in points]
        attempt.write("points", np.array(table, dtype=np.float64).reshape(-1, 3))
        attempt.write("curve", _curve(found, points, n_particles))
        attempt.figures.update(figures)
        attempt.details["history"] = [point.model_dump() for point in history]
        attempt.details["points"] = table
    return words


def _figures(
    found: ResolutionForecast,
    params: ForecastResolutionParams,
    n_particles: int,
    per_exposure: float,
    points: list[ResolutionPoint],
) -> tuple[dict[str, Figure], str]:
    """What an operator asks for, and the same in words."""
    n_now = n_particles / per_exposure
    n_planned = params.n_planned_exposures or 4 * n_now
    now = next((p.resolution_angstrom for p in points if p.n_particles == n_particles), None)
    figures: dict[str, Figure] = {
        "resolution_angstrom": None if now is None else round(now, 2),
        "n_particles": n_particles,
        "n_exposures": round(n_now),
        "particles_per_exposure": round(per_exposure, 2),
        "limit_angstrom": round(found.limit_angstrom, 2),
        **dict.fromkeys(("b_factor_angstrom2", "b_factor_low", "b_factor_high")),
        "n_planned_exposures": round(n_planned),
        **dict.fromkeys(("reachable_angstrom", "reachable_low", "reachable_high")),
        "goal_angstrom": params.goal_angstrom,
        **dict.fromkeys(("exposures_for_goal", "exposures_for_goal_low", "exposures_for_goal_high")),
    }
    if not found.is_supported:
        words = f"not enough evidence: {found.reason}"
        return {**figures, "verdict": words}, words
    b_factor = found.b_factor_angstrom2
    reach = found.resolution_angstrom(n_planned * per_exposure)
    for name, interval, digits in (("b_factor", b_factor, 1), ("reachable", reach, 2)):
        unit = "angstrom2" if name == "b_factor" else "angstrom"
        figures[f"{name}_{unit}"] = round(interval.estimate, digits)
        figures[f"{name}_low"], figures[f"{name}_high"] = round(interval.low, digits), round(interval.high, digits)
    words = f"{reach.estimate:.1f} Å ({reach.low:.1f} to {reach.high:.1f}) with {n_planned:.0f} exposures"
    if reach.low <= found.limit_angstrom:
        words += f"; the box's pixel size limits at {found.limit_angstrom:.1f} Å"
    if params.goal_angstrom:
        needed = found.n_particles(params.goal_angstrom)
        if needed is None:
            words += f"; {params.goal_angstrom:g} Å is beyond the pixel size, whatever the number of exposures"
        else:
            ends = [needed.estimate, needed.low, needed.high]
            for name, n in zip(("exposures_for_goal", "exposures_for_goal_low", "exposures_for_goal_high"), ends):
                figures[name] = math.ceil(min(n / per_exposure, 1e12))
            missing = max(0, math.ceil(min(needed.estimate / per_exposure, 1e12) - n_now))
            words += (
                f"; {params.goal_angstrom:g} Å needs {missing} more exposures, {figures['exposures_for_goal']} in all "
                f"({figures['exposures_for_goal_low']} to {figures['exposures_for_goal_high']})"
                if missing
                else f"; {params.goal_angstrom:g} Å is reached"
            )
    return {**figures, "verdict": words}, words


def _curve(found: ResolutionForecast, points: list[ResolutionPoint], n_particles: int) -> NDArray:
    """(point, 4) particles, resolution expected and the ends of its interval; empty without evidence."""
    if not found.is_supported:
        return np.zeros((0, 4))
    numbers = np.geomspace(min(p.n_particles for p in points), _LARGEST_FACTOR * n_particles, 40)
    intervals = [found.resolution_angstrom(float(n)) for n in numbers]
    return np.array([[n, i.estimate, i.low, i.high] for n, i in zip(numbers, intervals)])


def _history(store: SessionStore) -> list[HistoryPoint]:
    record = store.product(_PRODUCT).record()
    return [HistoryPoint.model_validate(p) for p in (record.details.get("history", []) if record else [])]


def _share_accepted(store: SessionStore) -> float:
    """Share of the exposures that were processed to the end which gave particles, from the ledger; 1 without one."""
    processed, extracted = (read_entries(store, stage) for stage in ("curate_exposures", "extract_particles"))
    n_rejected = sum(entry.state != "done" for entry in processed.values())
    n_good = sum(entry.state == "done" for entry in extracted.values())
    return n_good / (n_good + n_rejected) if n_good else 1.0


def _geometry(store: SessionStore) -> tuple[Geometry, ParticleSet]:
    particles = read_particles(store.product(_PARTICLES).read())
    return stack_geometry(store, particles), particles


# --- on the worker --------------------------------------------------------------------------------------------------


def _sum_group(part: tuple[int, int], scratch: Scratch[ForecastResolutionParams], attempt: Attempt) -> None:
    """The sums of one group of one half, at the poses of the refinement."""
    half, group = part
    geometry, particles = _geometry(scratch.store)
    rows = np.flatnonzero(particles["half_set"] == half)
    rows = np.sort(rows[_groups(len(rows), _n_groups(scratch), scratch.params.seed + half)[group]])
    radius = _radius(scratch.store, geometry)
    coefficients = disc(geometry.box, radius)
    total: Accumulator | None = None
    for start in range(0, len(rows), scratch.params.particles_at_once):
        some = particles.select(rows[start : start + scratch.params.particles_at_once])
        images, transfer = read_coefficients(scratch.store, some, geometry, coefficients, device())
        on_device = coefficients.to(images.device)
        observation = Observation(images, transfer, torch.ones_like(transfer[0]))
        sums = back_project(observation, on_device, _poses(some, geometry, images.device), radius, _PADDING)
        total = sums if total is None else total + sums
    if total is None:
        total = Accumulator.empty(geometry.box, radius, _PADDING)
    attempt.write("data", total.data.cpu().numpy())
    attempt.write("weight", total.weight.cpu().numpy())
    attempt.figures["n_particles"] = len(rows)


def _groups(n: int, n_groups: int, seed: int) -> list[NDArray]:
    """Rows of each group, smallest first: n / 2^k twice, then twice as many each time."""
    order = np.random.default_rng(seed).permutation(n)
    edges = [0, *(round(n / 2**k) for k in range(n_groups - 1, -1, -1))]
    return [order[a:b] for a, b in pairwise(edges)]


def _radius(store: SessionStore, geometry: Geometry) -> int:
    """Fourier radius well beyond what the halves of all particles agree to."""
    curve = torch.from_numpy(read_map(store, "refined")["fsc_curves"][4])
    return min(geometry.box // 2 - 1, math.ceil(1.25 * crossing_shell(curve, 0.143)) + 8)


def _sampled_box(store: SessionStore, geometry: Geometry) -> int:
    """Voxels a side of the maps that are compared."""
    return min(geometry.box, fourier.fast_size(2 * _radius(store, geometry) + 4))


def _poses(particles: ParticleSet, geometry: Geometry, to: torch.device) -> PoseFit:
    rotation, shift = (torch.from_numpy(particles[name].copy()).to(to) for name in ("rotation", "shift_angstrom"))
    nothing = torch.zeros(len(particles), device=to)
    return PoseFit(rotation, shift / geometry.pixel_size_angstrom, nothing, nothing, nothing)


def _compare_parts(_item: None, scratch: Scratch[ForecastResolutionParams], attempt: Attempt) -> None:
    """A point for each part: its halves, in the mask of the refined map, compared."""
    store = scratch.store
    geometry, _ = _geometry(store)
    about = density_map(store, "refined")
    n_operations = len(symmetry_group(about.symmetry))
    size = _sampled_box(store, geometry)
    mask = torch.from_numpy(read_map(store, "refined")["mask"]).to(device())
    mask = fourier.resample(mask, (size,) * 3).clamp(0, 1)
    generator = torch.Generator().manual_seed(scratch.params.seed)
    totals: list[Accumulator | None] = [None, None]
    n_particles, points = 0, []
    for group in range(_n_groups(scratch)):
        halves = []
        for half in (1, 2):
            reader = scratch.read(f"half_{half}_group_{group}")
            n_particles += int(reader.record.figures["n_particles"] or 0)
            data, weight = (torch.from_numpy(reader[name]).to(mask.device) for name in ("data", "weight"))
            sums, before = Accumulator(data, weight, geometry.box, _PADDING), totals[half - 1]
            totals[half - 1] = sums = sums if before is None else before + sums
            halves.append(wiener_map(symmetrise(complete(sums), about.symmetry), _SIGNAL_TO_NOISE, size))
        curve = corrected_fsc(halves[0], halves[1], mask, generator).corrected.cpu()
        found = point_of(curve, n_particles, geometry.field_angstrom, n_operations, float(mask.mean()))
        if found is not None:
            points.append([found.n_particles, found.resolution_angstrom, found.frequency_error_per_angstrom])
    attempt.write("points", np.array(points, dtype=np.float64).reshape(-1, 3))
