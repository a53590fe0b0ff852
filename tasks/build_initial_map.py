"""The first map, from nothing but particles and a point group: the most likely of several random starts.

Restarts run side by side at low resolution; the one of highest likelihood is taken to the final resolution. The hand
of the map is not determined: projections do not tell a particle from its mirror image.

Once there is a convincing map, one that several restarts agree on, particles that are added do not change it: its
record stays that of the particles it was made from, and so does everything that started from it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels import fourier
from kernels.maps.ab_initio import (
    FirstMap,
    Step,
    centred,
    improved,
    improvement_memory_bytes,
    on_box,
    random_start,
    steps,
)
from kernels.maps.alignment import align_map
from kernels.masks import soft_sphere
from kernels.particles.expectation import Disc, disc, shell_means, shift_ramps
from kernels.rotations import symmetry_group
from tasks.progress import progress
from tasks.records.density_map import DensityMap
from tasks.records.forecast import Need, Outline
from tasks.records.particle_identity import sample_of, share_left
from tasks.records.particles import ParticleSet
from tasks.records.point_group import PointGroup
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import describe
from tasks.stores.products.observations import Geometry, read_coefficients, reading_memory_bytes, stack_geometry
from tasks.stores.products.outline import particles_outline
from tasks.stores.products.particle_store import read_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.blocks import run_blocks
from tasks.workers.connection import require_workers
from tasks.workers.device import device
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

_STAGE, _VERSION = "build_initial_map", 2
_INPUT, _OUTPUT = "particles/selected", "maps/initial"
_FEWEST_PARTICLES = 20
_N_COMPARED = 6
"""Restarts, the likeliest ones, that are laid over the best to see whether they agree."""
_FEWEST_AGREEING = 2
_SHARE_LEFT = 0.5
"""A set in which less than this is left of the last one is another set."""


class BuildInitialMapParams(StageParams):
    """Parameters of `build_initial_map`."""

    symmetry: PointGroup = "C1"
    n_restarts: int = Field(default=16, ge=1, le=500)
    """One start in two to four ends at the particle; a restart takes about a CPU-second in symmetry O."""
    n_iterations: int = Field(default=12, ge=2, le=500)
    """Of each restart."""
    n_final_iterations: int = Field(default=12, ge=1, le=500)
    first_resolution_angstrom: float = Field(default=20.0, gt=0)
    """Where restarts begin; at 40 Å all of them fall into the one broadest optimum, the right one or not."""
    restart_resolution_angstrom: float = Field(default=18.0, gt=0)
    """Where restarts end and are compared."""
    resolution_angstrom: float = Field(default=13.0, gt=0)
    diameter_angstrom: float | None = Field(default=None, gt=0)
    """Diameter of the sphere that holds the map; 80 % of the box when None."""
    shift_radius_angstrom: float = Field(default=12.0, ge=0)
    """How far particles may lie from where classification found them."""
    n_particles: int = Field(default=2_000, ge=_FEWEST_PARTICLES)
    """At most this many are used, chosen at random; memory grows with it, by about 10 kB each."""
    rebuild: Literal["when_poor", "always"] = "when_poor"
    """When particles were added: only where the restarts of the last map did not agree, or in any case."""
    seed: int = 0

    @model_validator(mode="after")
    def _detail_grows(self) -> BuildInitialMapParams:
        self.require_not_falling("resolution_angstrom", "restart_resolution_angstrom", "first_resolution_angstrom")
        return self


@task(name="build_initial_map", cache_policy=NO_CACHE)
def build_initial_map(session_url: str, params: BuildInitialMapParams) -> StageReport:
    """A map of ``particles/selected`` in ``maps/initial``, of either hand; kept where particles were only added."""
    store = SessionStore.open(session_url)
    report = StageReport(stage=_STAGE)
    scratch = Scratch(store, _STAGE, _VERSION, params, store.fingerprints([_INPUT]))
    particles = read_particles(store.product(_INPUT).read())
    if store.product(_OUTPUT).is_current(scratch.fingerprint):
        report.kept.append(_OUTPUT)
        return report
    if _is_still_good(store, particles, params):
        logger.info("build_initial_map: the last map is convincing and stays, now for %d particles", len(particles))
        report.kept.append(_OUTPUT)
        return report
    if len(particles) < _FEWEST_PARTICLES:
        raise ValueError(
            f"{_INPUT}: found {len(particles)} particles, expected at least {_FEWEST_PARTICLES} for a first map; "
            "look at the picks and at which classes were kept"
        )
    with (
        fitting(store, "GPU", need(particles_outline(store, particles), params), report),
        stage_usage(require_workers("GPU"), "GPU", report),
        progress(_STAGE, params.n_restarts + 1) as advance,
    ):
        run_blocks(scratch, _restart, {_name(k): k for k in range(params.n_restarts)}, advance=advance)
        likelihoods = [
            float(scratch.read(_name(k)).record.figures["log_likelihood"] or -math.inf)
            for k in range(params.n_restarts)
        ]
        best = int(np.argmax(likelihoods))
        run_blocks(scratch, _final, {"final": best}, advance=advance)
    _write_map(scratch, particles, likelihoods, best)
    scratch.remove()
    report.done.append(_OUTPUT)
    logger.info("build_initial_map: restart %d of %d; %.1f CPU-s", best, params.n_restarts, report.cpu_seconds)
    return report


def need(about: Outline, params: BuildInitialMapParams) -> Need:
    """What a first map needs in the last iteration of the best restart, when orientations are finest."""
    field, order = about.field_angstrom, len(symmetry_group(params.symmetry))
    n_used = min(about.n_particles, params.n_particles)
    finest = min(params.resolution_angstrom, params.restart_resolution_angstrom)
    diameter = params.diameter_angstrom or 0.8 * field
    last = steps(2, about.box, field, diameter, finest, finest, params.shift_radius_angstrom / field * about.box)[-1]
    n_coefficients = math.pi / 2 * min(field / finest, about.box / 2) ** 2
    # one iteration's images are a part of all of them, cut out at its sampling
    images = int(40 * n_used * n_coefficients)
    memory = images + max(improvement_memory_bytes(last, order), reading_memory_bytes(about.densest, about.box))
    n_orientations = 8 * math.pi**2 / order / last.spacing_rad**3
    n_iterations = 0.5 * params.n_restarts * params.n_iterations + params.n_final_iterations
    return Need(
        stage=_STAGE,
        n_items=params.n_restarts + 1,
        memory_bytes=memory,
        disk_bytes=8 * about.box**3 + params.n_restarts * 4 * about.box**3,
        cpu_seconds=1 + 1.2e-9 * n_iterations * n_used * n_orientations * n_coefficients,
        told_from=f"{n_used} of {about.particles_words}, {n_orientations:.0f} orientations",
        remedy="raise `build_initial_map.resolution_angstrom`",
    )


def _is_still_good(store: SessionStore, particles: ParticleSet, params: BuildInitialMapParams) -> bool:
    """Whether the last map is convincing and these are its particles and others that came later."""
    record = store.product(_OUTPUT).record()
    if params.rebuild == "always" or record is None or record.state != "done" or record.attempt is None:
        return False
    if record.stage_version != _VERSION or not record.figures["is_convincing"]:
        return False
    ours = params.model_dump(mode="json", exclude={"rebuild"})
    known = DensityMap.model_validate(record.details["density_map"])
    return (
        all(record.params.get(name) == value for name, value in ours.items())
        and share_left(record.details["sample"], particles) >= _SHARE_LEFT
        and abs(known.pixel_size_angstrom - stack_geometry(store, particles).pixel_size_angstrom) < 1e-6
    )


def _write_map(
    scratch: Scratch[BuildInitialMapParams], particles: ParticleSet, likelihoods: list[float], best: int
) -> None:
    store, params, final = scratch.store, scratch.params, scratch.read("final")
    agreement = final["agreement"].tolist()
    n_particles = min(len(particles), params.n_particles)
    n_compared = sum(not math.isnan(correlation) for correlation in agreement)
    n_agreeing = sum(correlation > 0.9 for correlation in agreement)
    geometry = stack_geometry(store, particles)
    box = geometry.box
    # coefficients were divided by the box; with them restored, projections of the map are the images
    density = on_box(torch.from_numpy(final["density"]), box) * box
    with store.product(_OUTPUT).write(_STAGE, _VERSION, params, scratch.inputs) as attempt:
        attempt.write("map", density.numpy())
        describe(
            attempt,
            DensityMap(
                name="initial", kind="initial", pixel_size_angstrom=geometry.pixel_size_angstrom,
                symmetry=params.symmetry, n_particles=n_particles,
            ),
        )  # fmt: skip
        attempt.figures.update(
            n_particles=n_particles,
            n_available=len(particles),
            n_restarts=params.n_restarts,
            best_restart=best,
            log_likelihood=round(max(likelihoods), 3),
            n_agreeing_restarts=n_agreeing,
            is_convincing=n_agreeing >= max(_FEWEST_AGREEING, math.ceil(n_compared / 2)),
            low_pass_angstrom=params.resolution_angstrom,
        )
        attempt.details["restart_log_likelihood"] = [round(value, 3) for value in likelihoods]
        attempt.details["restart_correlation_to_best"] = [
            None if math.isnan(value) else round(value, 3) for value in agreement
        ]
        attempt.details["sample"] = sample_of(particles)


def _name(restart: int) -> str:
    return f"restart_{restart:02d}"


# --- on the worker --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    geometry: Geometry
    images: torch.Tensor
    transfer: torch.Tensor
    coefficients: Disc


def _restart(number: int, scratch: Scratch[BuildInitialMapParams], attempt: Attempt) -> None:
    """One random start, taken to the resolution at which restarts are compared."""
    params = scratch.params
    data = _sampled_for(_data(scratch), params.restart_resolution_angstrom)
    generator = torch.Generator().manual_seed(1000 * params.seed + number)
    mask = _mask(data, params)
    plan = _plan(data, params, params.n_iterations, params.first_resolution_angstrom,
                 params.restart_resolution_angstrom)  # fmt: skip
    state = random_start(
        data.images, data.transfer, data.coefficients, params.symmetry, plan[0].radius, mask, generator
    )  # fmt: skip
    for step in plan:
        state = improved(state, data.images, data.transfer, data.coefficients, params.symmetry, step, mask, generator)
    attempt.write("density", state.density.cpu().numpy())
    attempt.write("noise_variance", state.noise_variance.cpu().numpy())
    attempt.figures.update(log_likelihood=state.log_likelihood, shift_variance_px2=state.shift_variance_px2)


def _final(best: int, scratch: Scratch[BuildInitialMapParams], attempt: Attempt) -> None:
    """The best restart at the final resolution, and how well the other restarts agree with it."""
    params = scratch.params
    data = _sampled_for(_data(scratch), params.resolution_angstrom)
    readers = [scratch.read(_name(k)) for k in range(params.n_restarts)]
    maps = [torch.from_numpy(reader["density"]) for reader in readers]
    likelihoods = [float(reader.record.figures["log_likelihood"] or -math.inf) for reader in readers]
    agreement = np.full(len(maps), np.nan, dtype=np.float32)
    for k in np.argsort(likelihoods)[::-1][:_N_COMPARED]:
        agreement[k] = 1.0 if k == best else align_map(maps[k], maps[best], params.symmetry).correlation
    n = data.coefficients.n
    known = torch.from_numpy(readers[best]["noise_variance"]).to(device())
    noise = shell_means(data.images.abs().square().mean(0), data.coefficients)
    noise[: len(known)] = known[: len(noise)]
    variance = float(readers[best].record.figures["shift_variance_px2"] or 1.0)
    scale = n / maps[best].shape[-1]
    state = FirstMap(on_box(maps[best], n).to(device()), noise, variance * scale**2)
    generator = torch.Generator().manual_seed(1000 * params.seed + 999)
    mask = _mask(data, params)
    for step in _plan(data, params, params.n_final_iterations, params.restart_resolution_angstrom,
                      params.resolution_angstrom):  # fmt: skip
        state = improved(state, data.images, data.transfer, data.coefficients, params.symmetry, step, mask, generator)
    attempt.write("density", centred(state.density, params.symmetry).cpu().numpy())
    attempt.write("agreement", agreement)
    attempt.figures.update(log_likelihood=state.log_likelihood)


@lru_cache(maxsize=1)
def _data(scratch: Scratch[BuildInitialMapParams]) -> _Data:
    """Images and CTFs of the particles that are used; a worker reads them once for all restarts."""
    store, params = scratch.store, scratch.params
    particles = read_particles(store.product(_INPUT).read())
    if len(particles) > params.n_particles:
        chosen = np.random.default_rng(params.seed).choice(len(particles), params.n_particles, replace=False)
        particles = particles.select(np.sort(chosen))
    geometry = stack_geometry(store, particles)
    finest = min(params.resolution_angstrom, params.restart_resolution_angstrom)
    coefficients = disc(geometry.box, geometry.field_angstrom / finest, device())
    images, transfer = read_coefficients(store, particles, geometry, coefficients, device())
    images = images * shift_ramps(coefficients, -_shifts_px(particles, geometry).to(images.device))
    return _Data(geometry, images, transfer, coefficients)


def _shifts_px(particles: ParticleSet, geometry: Geometry) -> torch.Tensor:
    """(particle, 2) where classification found the particles."""
    if "shift_angstrom" not in particles:
        return torch.zeros(len(particles), 2)
    return torch.from_numpy(particles["shift_angstrom"].copy()) / geometry.pixel_size_angstrom


def _sampled_for(data: _Data, resolution_angstrom: float) -> _Data:
    """The data out to a resolution, as coefficients of images with 2.5 pixels per detail."""
    field = data.geometry.field_angstrom
    n = min(fourier.fast_size(math.ceil(2.5 * field / resolution_angstrom)), data.geometry.box)
    kept = data.coefficients.within(min(field / resolution_angstrom, (n - 1) // 2))
    m = len(kept.shell)
    return _Data(data.geometry, data.images[:, :m], data.transfer[:, :m], Disc(n, kept.points, kept.shell))


def _diameter(data: _Data, params: BuildInitialMapParams) -> float:
    return params.diameter_angstrom or 0.8 * data.geometry.field_angstrom


def _mask(data: _Data, params: BuildInitialMapParams) -> torch.Tensor:
    n = data.coefficients.n
    radius_px = 0.55 * _diameter(data, params) * n / data.geometry.field_angstrom
    return soft_sphere(n, min(radius_px, n / 2 - 3), 2.0, device=data.images.device)


def _plan(data: _Data, params: BuildInitialMapParams, n_iterations: int, first: float, last: float) -> list[Step]:
    n, field = data.coefficients.n, data.geometry.field_angstrom
    return steps(
        n_iterations, n, field, _diameter(data, params), first, last, params.shift_radius_angstrom * n / field
    )  # fmt: skip
