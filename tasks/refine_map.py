"""Gold-standard refinement: two halves of the particles, each with a reference of its own, compared by FSC.

Particles are split once; the halves share nothing but the initial map, low-passed, and the frame below 40 Å. Each
iteration takes the best pose of every particle (a grid search, then least squares), since at the signal of single
proteins above 200 kDa posteriors are narrower than the fine step; below that, soft posteriors would be the better
choice. Blocks write their sums and poses to scratch products and one item puts them together, so that an interrupted
refinement continues at the block it lost.

Where particles were added to those that were refined with the same parameters and the same initial map, the next
refinement starts from the last one. Each half starts from its own last half map, low-passed to where the halves agreed
well, never from the map of both. Particles that were there start at their last poses and are sought near them; new
ones are sought everywhere. Which half a particle belongs to follows from the particle and the seed alone, so none ever
changes it. The result depends on the order in which the data came, which its fingerprint does not show;
``renewed_from`` in the details of its record does.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, Field
from torch import Tensor

from kernels import fourier
from kernels.maps.fsc import crossing_shell, resolution_angstrom, signal_to_noise, significant_correlation
from kernels.maps.projection import Accumulator
from kernels.maps.reconstruction import complete, symmetrise, wiener_map
from kernels.maps.refinement import (
    Search,
    align,
    alignment_memory_bytes,
    back_project,
    compare_halves,
    comparison_memory_bytes,
    half_reference,
    low_pass,
    next_references,
    residual_power,
    search_spacing_rad,
)
from kernels.particles.expectation import Disc, disc
from kernels.particles.likelihood import Observation, PoseFit
from kernels.rotations import symmetry_group
from tasks.progress import progress
from tasks.records.density_map import DensityMap
from tasks.records.forecast import Need, Outline
from tasks.records.particle_identity import half_sets, particle_keys, rows_in
from tasks.records.particles import ParticleSet
from tasks.records.point_group import PointGroup
from tasks.records.renewal import Renewal
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Reader, Record
from tasks.stores.products.map_store import density_map, describe, read_map
from tasks.stores.products.observations import Geometry, read_coefficients, stack_geometry
from tasks.stores.products.outline import particles_outline
from tasks.stores.products.particle_store import read_particles, write_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.allotment import kept, n_pieces
from tasks.workers.blocks import run_blocks
from tasks.workers.connection import require_workers
from tasks.workers.device import device
from tasks.workers.items import run_all
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

_STAGE, _VERSION = "refine_map", 2
_MAP, _PARTICLES = "maps/refined", "particles/refined"
_CACHED_BLOCKS = 4
_PADDING = 2
_JOINED_ANGSTROM = 40.0
_SEARCH_ANGSTROM = 12.0
_EARLIEST_END = 5
_WELL_ABOVE = 0.5
"""FSC of the last halves up to which they are believed as references."""
_SHARE_LEFT = 0.5
"""A set in which less than this is left of the last one is another set."""
_FREE_TO_CHANGE = {"start", "max_iterations", "particles_per_block"}
"""Parameters that do not forbid to start from the last map."""

Block = tuple[int, int, int]
"""Half (1 or 2), and first and last row + 1 among the particles of that half."""


class RefineMapParams(StageParams):
    """Parameters of `refine_map`."""

    diameter_angstrom: float = Field(gt=0)
    """Outer diameter of the particle; the mask stays inside a ball of this size."""
    symmetry: PointGroup = "C1"
    initial_map: str = "initial"
    """Name under ``maps/`` of the map that the first iteration starts from, in the frame of the point group."""
    initial_low_pass_angstrom: float = Field(default=20.0, gt=0)
    max_iterations: int = Field(default=10, ge=2, le=100)
    shift_range_angstrom: float = Field(default=10.0, ge=0)
    """How far particles may lie from the centre of their image."""
    shift_step_angstrom: float = Field(default=2.0, gt=0)
    n_candidates: int = Field(default=8, ge=1, le=100)
    """Poses of the search that are refined for each particle."""
    particles_per_block: int = Field(default=1000, ge=10)
    """Particles per item; a worker keeps four blocks where it has room, one where not, of 5 bytes · box² a particle.
    On disk each block leaves sums of 50 bytes · box³ until an iteration ends."""
    start: Literal["last", "initial"] = "last"
    """From the last half maps and poses where particles were added to theirs, or always from the initial map."""
    seed: int = 1
    """Of the split into halves."""


_Scratch = Scratch[RefineMapParams]


class _State(BaseModel):
    """What an iteration leaves to the next, beside its arrays."""

    iteration: int
    radius: int
    """Fourier radius that poses are refined to next, in coefficients of the particle images."""
    is_amplitude_known: bool = False
    """Whether the references have the scale of the images."""
    shell_143: float = 0.0
    n_stalled: int = 0
    """Iterations in a row that did not gain half a shell."""
    is_renewal: bool = False
    is_final: bool = False


@task(name="refine_map", cache_policy=NO_CACHE)
def refine_map(session_url: str, params: RefineMapParams) -> StageReport:
    """Half maps, mask, FSC and poses of ``particles/selected`` (else ``particles/extracted``).

    Writes ``particles/refined`` and, last, ``maps/refined``. Memory and disk: see `need`, which foresees the last
    iteration, of all particles to Nyquist; it is refused before the first where that one would not fit.
    """
    store = SessionStore.open(session_url)
    report = StageReport(stage=_STAGE)
    inputs = store.fingerprints([_source(store), f"maps/{params.initial_map}"])
    scratch = Scratch(store, _STAGE, _VERSION, params, inputs)
    if all(store.product(address).is_current(scratch.fingerprint) for address in (_PARTICLES, _MAP)):
        report.kept.extend([_PARTICLES, _MAP])
        return report
    renewed_from = _last_refinement(scratch)
    particles = read_particles(store.product(_source(store)).read())
    foreseen = fitting(store, "GPU", need(particles_outline(store, particles), params), report)
    with foreseen, stage_usage(require_workers("GPU"), "GPU", report):
        _refine(_renewal(scratch, renewed_from.fingerprint) if renewed_from else scratch, renewed_from, inputs)
    report.done.extend([_PARTICLES, _MAP])
    found = density_map(store, "refined")
    logger.info(
        "refine_map: %d particles, %s, %s Å; %.1f CPU-s",
        found.n_particles, found.symmetry, found.resolution_angstrom, report.cpu_seconds,
    )  # fmt: skip
    return report


def need(about: Outline, params: RefineMapParams) -> Need:
    """What a refinement needs in its last iteration: poses of a block to Nyquist, or both halves put together."""
    n_half = math.ceil(0.51 * about.n_particles)
    n_blocks = max(1, math.ceil(n_half / params.particles_per_block))
    box, block = about.box, _block_bytes(math.ceil(n_half / n_blocks), about.box)
    radius, order = max(1, round(about.field_angstrom / _SEARCH_ANGSTROM)), len(symmetry_group(params.symmetry))
    spacing = search_spacing_rad(radius, box, about.particle_pixel_size_angstrom, params.diameter_angstrom, order)
    align_bytes = alignment_memory_bytes(
        math.ceil(n_half / n_blocks), box, radius, spacing, order, params.n_candidates
    )  # fmt: skip
    least = block + max(align_bytes, comparison_memory_bytes(box, params.symmetry)) + 400 * about.n_particles
    n_coefficients = about.n_particles * block / 12 / max(1, math.ceil(n_half / n_blocks))
    return Need(
        stage=_STAGE,
        n_items=2 * n_blocks,
        memory_bytes=least + (min(_CACHED_BLOCKS, 2 * n_blocks) - 1) * block,
        least_memory_bytes=least,
        disk_bytes=(2 * n_blocks * 50 + 60) * box**3 + 200 * about.n_particles,
        cpu_seconds=5 + 6.5e-6 * n_coefficients * params.max_iterations / 10 + 8e-6 * box**3,
        told_from=about.particles_words,
        remedy="lower `refine_map.particles_per_block`, or extract smaller images (`extract_particles.output_box_px`)",
    )


def _block_bytes(n_particles: int, box: int) -> int:
    """Images and transfer functions of a block to Nyquist."""
    return int(12 * n_particles * math.pi / 2 * (box / 2 - 1) ** 2)


def _renewal(scratch: _Scratch, last_fingerprint: str) -> _Scratch:
    """Where a refinement of the same inputs lies that starts from the last one."""
    return replace(scratch, inputs=scratch.inputs | {_MAP: last_fingerprint})


def _last_refinement(scratch: _Scratch) -> Renewal | None:
    """The refinement to start from, None to start from the initial map."""
    record = scratch.store.product(_MAP).record()
    if scratch.params.start == "initial" or record is None or record.state != "done" or record.attempt is None:
        return None
    # an interrupted renewal has all it needs in scratch, also when its particles are written and its map is not
    is_under_way = _renewal(scratch, record.fingerprint).record(_name(0)) is not None
    reason = None if is_under_way else _reason_against(record, scratch)
    if reason:
        logger.info("refine_map: from maps/%s: %s", scratch.params.initial_map, reason)
        return None
    n_particles = int(record.figures["n_particles"] or 0)
    logger.info("refine_map: from the last map, of %d particles", n_particles)
    generation = 1 + int(record.figures["generation"] or 0)
    return Renewal(product=_MAP, fingerprint=record.fingerprint, n_particles=n_particles, generation=generation)


def _reason_against(record: Record, scratch: _Scratch) -> str | None:
    """Why the refinement of a record is not where this one starts, None where it is."""
    store, params, initial = scratch.store, scratch.params, f"maps/{scratch.params.initial_map}"
    ours = params.model_dump(mode="json")
    changed = sorted(name for name in ours.keys() - _FREE_TO_CHANGE if record.params.get(name) != ours[name])
    if record.stage_version != _VERSION or changed:
        return f"the last map is of other parameters ({', '.join(changed)})"
    if record.inputs.get(initial) != scratch.inputs[initial]:
        return f"{initial} is another one than the last map started from"
    poses = store.product(_PARTICLES).record()
    if poses is None or poses.attempt is None or poses.fingerprint != record.fingerprint:
        return f"{_PARTICLES} and {_MAP} are not of one refinement"
    particles, geometry = _particles(scratch)
    last = read_map(store, "refined")
    if last.shape("map")[-1] != geometry.box or _pixel_size_of(record) != geometry.pixel_size_angstrom:
        return "the particle images have another size"
    if _trusted_shell(last) <= _first_radius(geometry, params):
        return f"the last halves agree well no further than {params.initial_low_pass_angstrom:g} Å"
    before = read_particles(store.product(_PARTICLES).read())
    rows = rows_in(particle_keys(before), particle_keys(particles))
    if (rows >= 0).mean() < _SHARE_LEFT:
        return "the last map is of other particles"
    is_left = rows >= 0
    if (half_sets(particles, params.seed)[rows[is_left]] != before["half_set"][is_left]).any():
        return "the last halves were drawn in another way"
    return None


def _pixel_size_of(record: Record) -> float:
    return DensityMap.model_validate(record.details["density_map"]).pixel_size_angstrom


def _trusted_shell(refined: Reader) -> int:
    """Last shell that the halves of a finished refinement are believed to, in coefficients of the particle images."""
    return math.floor(crossing_shell(torch.from_numpy(refined["fsc_curves"][4]), _WELL_ABOVE))


def _refine(scratch: _Scratch, renewed_from: Renewal | None, inputs: dict[str, str]) -> None:
    """Run the iterations that are not in scratch yet, to the products."""
    run_blocks(scratch, _start_again if renewed_from else _start, {_name(0): None})
    blocks, last = _blocks(scratch), scratch.params.max_iterations
    # of the iterations, the first and the newest are kept
    state = next(found for k in range(last, -1, -1) if (found := _state(scratch, k)) is not None)
    with progress(_STAGE, last) as advance:
        for iteration in range(1, last + 1):
            if iteration > state.iteration and not state.is_final:
                n_allowed = 1 if iteration >= _EARLIEST_END or state.is_renewal else 2
                is_final = iteration == last or state.n_stalled >= n_allowed
                sums = {_block_name(iteration, block): block for block in blocks}
                run_blocks(scratch, _align_block, sums, state, is_final)
                run_blocks(scratch, _merge, {_name(iteration): iteration}, state, blocks, is_final)
                scratch.remove(*sums, *([_name(iteration - 1)] if iteration > 1 else []))
                found = _state(scratch, iteration)
                assert found is not None
                state = found
            advance()
    run_all(_write_products, [scratch], state, renewed_from, inputs, label="GPU", name=_STAGE)
    scratch.remove()


def _state(scratch: _Scratch, iteration: int) -> _State | None:
    record = scratch.record(_name(iteration))
    return _State.model_validate(record.details["state"]) if record else None


def _blocks(scratch: _Scratch) -> list[Block]:
    half_set = scratch.read(_name(0))["half_set"]
    blocks = []
    for half in (1, 2):
        n = int((half_set == half).sum())
        edges = np.linspace(0, n, math.ceil(n / scratch.params.particles_per_block) + 1).round().astype(int).tolist()
        blocks += [(half, a, b) for a, b in pairwise(edges)]
    return blocks


def _source(store: SessionStore) -> str:
    record = store.product("particles/selected").record()
    return "particles/selected" if record is not None and record.state == "done" else "particles/extracted"


def _name(iteration: int) -> str:
    return f"iteration_{iteration:03d}"


def _block_name(iteration: int, block: Block) -> str:
    return f"{_name(iteration)}_half_{block[0]}_block_{block[1]:08d}"


# --- on the worker --------------------------------------------------------------------------------------------------


def _start(_item: None, scratch: _Scratch, attempt: Attempt) -> None:
    """Iteration 0: the halves, the low-passed initial map and the power of the images as first noise."""
    particles, geometry = _particles(scratch)
    half_set = _halves(scratch, particles)
    reference = _initial_reference(scratch, geometry)
    _write_iteration(
        attempt, _State(iteration=0, radius=_first_radius(geometry, scratch.params)), reference_1=reference,
        reference_2=reference, noise=_image_power(scratch, particles, geometry, half_set), half_set=half_set,
        is_found=np.zeros(len(particles), bool), **_no_poses(len(particles)),
    )  # fmt: skip


def _start_again(_item: None, scratch: _Scratch, attempt: Attempt) -> None:
    """Iteration 0 of a renewal: each half's own last map as its reference, and the last poses of what was there."""
    particles, geometry = _particles(scratch)
    half_set = _halves(scratch, particles)
    last, before = read_map(scratch.store, "refined"), read_particles(scratch.store.product(_PARTICLES).read())
    shell, pixel_size = _trusted_shell(last), geometry.pixel_size_angstrom
    mask, curve = (torch.from_numpy(values).to(device()) for values in (last["mask"], last["fsc_curves"][4]))
    size = _size(math.ceil(1.3 * shell), geometry.box)
    references = {}
    for half in (1, 2):
        # coefficients are divided by the box when they are read
        density = torch.from_numpy(last[f"half_{half}"]).to(device()) / geometry.box
        reference = half_reference(density, mask, curve, pixel_size, shell)
        references[f"reference_{half}"] = fourier.resample(reference, (size,) * 3).cpu().numpy()
    rows = rows_in(particle_keys(particles), particle_keys(before))
    is_known = rows >= 0
    poses = _no_poses(len(particles))
    poses["rotation"][is_known] = before["rotation"][rows[is_known]]
    poses["shift_px"][is_known] = before["shift_angstrom"][rows[is_known]] / pixel_size
    poses["log_likelihood"][is_known] = before["log_likelihood"][rows[is_known]]
    # what the search looks at was there already when these poses were found: a search would find them again
    is_found = is_known & (shell >= _search_radius(geometry))
    state = _State(
        iteration=0, radius=shell, shell_143=crossing_shell(curve, 0.143), is_amplitude_known=True, is_renewal=True
    )
    _write_iteration(
        attempt, state, noise=_image_power(scratch, particles, geometry, half_set), half_set=half_set,
        is_found=is_found, **poses, **references,
    )  # fmt: skip


def _halves(scratch: _Scratch, particles: ParticleSet) -> NDArray:
    half_set = half_sets(particles, scratch.params.seed)
    counts = [int((half_set == half).sum()) for half in (1, 2)]
    if min(counts) < 2:
        raise ValueError(
            f"{_source(scratch.store)}: found {len(particles)} particles, {counts[0]} and {counts[1]} in the halves, "
            "expected at least 2 in each; look at picks and 2D classes"
        )
    return half_set


def _no_poses(n: int) -> dict[str, NDArray]:
    return {
        "rotation": np.tile(np.eye(3, dtype=np.float32), (n, 1, 1)),
        "shift_px": np.zeros((n, 2), np.float32),
        "log_likelihood": np.zeros(n, np.float32),
    }


def _image_power(scratch: _Scratch, particles: ParticleSet, geometry: Geometry, half_set: NDArray) -> NDArray:
    """(half, shell) power of the first images of each half: the noise, before anything is known of the signal."""
    power = np.empty((2, geometry.box // 2), dtype=np.float32)
    coefficients = disc(geometry.box, geometry.box // 2 - 1)
    for half in (1, 2):
        rows = np.flatnonzero(half_set == half)[:200]
        images, _ = read_coefficients(scratch.store, particles.select(rows), geometry, coefficients, device())
        power[half - 1] = _shell_means(images.abs().square(), coefficients, geometry.box).cpu().numpy()
    return power


def _first_radius(geometry: Geometry, params: RefineMapParams) -> int:
    """Fourier radius that the initial map has content to; no later iteration aligns at less."""
    return max(4, round(geometry.field_angstrom / params.initial_low_pass_angstrom))


@lru_cache(maxsize=1)
def _particles(scratch: _Scratch) -> tuple[ParticleSet, Geometry]:
    """The table that is refined and the size of its images; the latter asks every exposure, so a worker keeps it."""
    source = next(address for address in scratch.inputs if address.startswith("particles/"))
    particles = read_particles(scratch.store.product(source).read())
    return particles, stack_geometry(scratch.store, particles)


def _shell_means(values: Tensor, coefficients: Disc, box: int) -> Tensor:
    """(shell,) means of (particle, m) values over particles and shells; shell 0 takes the value of shell 1."""
    mean = values.mean(0)
    index = coefficients.shell.to(values.device)
    sums, counts = (fourier.shell_sums(v, index, box // 2) for v in (mean, torch.ones_like(mean)))
    means = sums / counts.clamp(min=1)
    return torch.cat([means[1:2], means[1:]])


def _initial_reference(scratch: _Scratch, geometry: Geometry) -> NDArray:
    """The initial map on the field of view of the particles, low-passed and on few voxels."""
    store, params = scratch.store, scratch.params
    reader, known = read_map(store, params.initial_map), density_map(store, params.initial_map)
    density = torch.from_numpy(reader["map"]).to(device())
    n = round(geometry.field_angstrom / known.pixel_size_angstrom)
    density = _cropped_or_padded(density, n)
    filtered = fourier.transform(density, 3) * low_pass(
        n, geometry.field_angstrom / n, params.initial_low_pass_angstrom, density.device
    )
    size = _size(math.ceil(1.5 * geometry.field_angstrom / params.initial_low_pass_angstrom), geometry.box)
    return fourier.resample(fourier.inverse(filtered, (n,) * 3), (size,) * 3).cpu().numpy()


def _cropped_or_padded(density: Tensor, n: int) -> Tensor:
    """Map on ``n`` voxels a side, its origin kept at element n // 2."""
    old = density.shape[-1]
    before = n // 2 - old // 2
    after = n - old - before
    return torch.nn.functional.pad(density, (before, after) * 3)


def _size(radius: int, box: int) -> int:
    """Voxels a side that hold a map out to a Fourier radius."""
    return min(box, fourier.fast_size(2 * radius + 4))


def _write_iteration(attempt: Attempt, state: _State, **arrays: NDArray) -> None:
    for name, values in arrays.items():
        attempt.write(name, values)
    attempt.details["state"] = state.model_dump()


def _align_block(block: Block, scratch: _Scratch, attempt: Attempt, state: _State, is_final: bool) -> None:
    """Poses of one block against the reference of its half, and the sums of its images at them."""
    half, params = block[0], scratch.params
    before = scratch.read(_name(state.iteration))
    geometry, coefficients, images, transfer = _block_coefficients(block, scratch)
    to = images.device
    rows = _rows_of(before, block)
    noise = torch.from_numpy(before["noise"][half - 1]).to(to).clamp(min=1e-12)
    observation = Observation(images, transfer, noise[coefficients.shell])
    reference = torch.from_numpy(before[f"reference_{half}"]).to(to)
    rotation, shift_px = (torch.from_numpy(before[name][rows]).to(to) for name in ("rotation", "shift_px"))
    search = _search(params, geometry, state)
    is_found = torch.from_numpy(before["is_found"][rows]).to(to)
    fits = []
    for group, how in ((is_found, replace(search, n_candidates=0)), (~is_found, search)):
        index = group.nonzero()[:, 0]
        if len(index):
            fit, volume = align(
                observation.select(index), coefficients, reference, state.radius, params.symmetry,
                rotation[index], shift_px[index], None if is_final else how,
            )  # fmt: skip
            fits.append((index, fit))
    fit = _in_order(fits)
    sums = back_project(observation, coefficients, fit, _insert_radius(state, geometry.box, is_final))
    power, counts = residual_power(observation, coefficients, volume, fit, state.radius)
    for name, values in {
        "data": sums.data, "weight": sums.weight, "power": power, "counts": counts, "rotation": fit.rotation,
        "shift_px": fit.shift_px, "log_likelihood": fit.log_likelihood,
    }.items():  # fmt: skip
        attempt.write(name, values.cpu().numpy())


def _in_order(fits: list[tuple[Tensor, PoseFit]]) -> PoseFit:
    """The fits of groups of particles, each with the numbers of its particles, as one."""
    order = torch.cat([index for index, _ in fits]).argsort()
    names = ("rotation", "shift_px", "log_likelihood", "cross", "power")
    return PoseFit(*(torch.cat([getattr(fit, name) for _, fit in fits])[order] for name in names))


def _rows_of(iteration: Reader, block: Block) -> NDArray:
    half, first, last = block
    return np.flatnonzero(iteration["half_set"] == half)[first:last]


def _search(params: RefineMapParams, geometry: Geometry, state: _State) -> Search:
    radius = min(state.radius, _search_radius(geometry))
    pixel_size = geometry.pixel_size_angstrom
    return Search(
        radius,
        search_spacing_rad(
            radius, geometry.box, pixel_size, params.diameter_angstrom, len(symmetry_group(params.symmetry))
        ),
        params.shift_range_angstrom / pixel_size,
        params.shift_step_angstrom / pixel_size,
        params.n_candidates,
        is_amplitude_known=state.is_amplitude_known,
    )


def _search_radius(geometry: Geometry) -> int:
    """Fourier radius beyond which no search looks."""
    return round(geometry.field_angstrom / _SEARCH_ANGSTROM)


def _insert_radius(state: _State, box: int, is_final: bool) -> int:
    """Far enough beyond the references to see what the next ones may hold; to Nyquist in the end."""
    nyquist = box // 2 - 1
    return nyquist if is_final else min(nyquist, math.ceil(1.25 * state.radius) + 6)


def _block_coefficients(block: Block, scratch: _Scratch) -> tuple[Geometry, Disc, Tensor, Tensor]:
    """Images and CTFs of a block; a worker keeps the last few blocks, so that iterations read them once."""
    _, geometry = _particles(scratch)
    n_kept = n_pieces(_block_bytes(block[2] - block[1], geometry.box), _CACHED_BLOCKS)
    return kept(_STAGE, (block, scratch), lambda: _read_block(block, scratch), n_kept)


def _read_block(block: Block, scratch: _Scratch) -> tuple[Geometry, Disc, Tensor, Tensor]:
    particles, geometry = _particles(scratch)
    rows = _rows_of(scratch.read(_name(0)), block)
    coefficients = disc(geometry.box, geometry.box // 2 - 1)
    images, transfer = read_coefficients(scratch.store, particles.select(rows), geometry, coefficients, device())
    return geometry, coefficients.to(images.device), images, transfer


def _merge(
    iteration: int, scratch: _Scratch, attempt: Attempt, state: _State, blocks: list[Block], is_final: bool
) -> None:
    """Both halves from their blocks: maps, FSC, mask, and the references, noise and poses of the next iteration."""
    params = scratch.params
    _, geometry = _particles(scratch)
    before = scratch.read(_name(state.iteration))
    poses = {name: before[name] for name in ("rotation", "shift_px", "log_likelihood")}
    noise = before["noise"]
    sums: list[Accumulator] = []
    for half in (1, 2):
        mine = [block for block in blocks if block[0] == half]
        total, power, counts = _half_sums(scratch, iteration, mine, before, poses, geometry.box)
        sums.append(symmetrise(complete(total), params.symmetry))
        noise[half - 1, 1:] = power[1:] / np.maximum(counts[1:], 1)
        noise[half - 1, 0] = noise[half - 1, 1]
    radius = _insert_radius(state, geometry.box, is_final)
    size = geometry.box if is_final else _size(radius, geometry.box)
    pixel_size = geometry.field_angstrom / size
    generator, n_operations = torch.Generator().manual_seed(params.seed), len(symmetry_group(params.symmetry))
    found = compare_halves(sums[0], sums[1], size, pixel_size, params.diameter_angstrom, n_operations, generator)
    gained = found.shell_143 > state.shell_143 + 0.5
    next_state = _State(
        iteration=iteration,
        radius=int(min(max(_first_radius(geometry, params), math.floor(found.shell_143)), radius - 2)),
        shell_143=max(found.shell_143, state.shell_143),
        n_stalled=0 if gained else state.n_stalled + 1,
        is_final=is_final,
        is_amplitude_known=True,
        is_renewal=state.is_renewal,
    )
    is_found = before["is_found"] | (state.is_renewal and state.radius >= _search_radius(geometry))
    resolution = geometry.field_angstrom / found.shell_143 if found.shell_143 else math.inf
    logger.info("refine_map: iteration %d, %d shells, %.2f Å", iteration, state.radius, resolution)
    curves = found.curves
    arrays = {
        "fsc_curves": torch.stack([curves.unmasked, curves.masked, curves.randomised, curves.corrected]),
        "mask": found.mask,
    }
    if is_final:
        merged = sums[0] + sums[1]
        ratio = 2 * signal_to_noise(curves.corrected, found.shell_143)
        sums.clear()
        maps = {"half_1": found.half_1, "half_2": found.half_2, "map": wiener_map(merged, ratio)}
        # coefficients were divided by the box when they were read
        arrays |= {name: values * geometry.box for name, values in maps.items()}
    else:
        references = next_references(sums[0], sums[1], found, geometry.field_angstrom / _JOINED_ANGSTROM)
        arrays |= {"reference_1": references[0], "reference_2": references[1]}
    as_numpy = {name: values.cpu().numpy() for name, values in arrays.items()}
    _write_iteration(
        attempt, next_state, half_set=before["half_set"], noise=noise, is_found=is_found, **poses, **as_numpy
    )


def _half_sums(
    scratch: _Scratch, iteration: int, blocks: list[Block], before: Reader, poses: dict[str, NDArray], box: int
) -> tuple[Accumulator, NDArray, NDArray]:
    """Sums of the blocks of a half; their poses are put into the tables ``poses``."""
    sums: list[Tensor] = []
    for block in blocks:
        reader = scratch.read(_block_name(iteration, block))
        rows = _rows_of(before, block)
        for name, table in poses.items():
            table[rows] = reader[name]
        parts = [torch.from_numpy(reader[name]).to(device()) for name in ("data", "weight", "power", "counts")]
        sums = [a.add_(b) for a, b in zip(sums, parts)] if sums else parts
    return Accumulator(sums[0], sums[1], box, _PADDING), sums[2].cpu().numpy(), sums[3].cpu().numpy()


def _write_products(scratch: _Scratch, state: _State, renewed_from: Renewal | None, inputs: dict[str, str]) -> None:
    """``particles/refined``, then ``maps/refined`` from the last iteration."""
    store, params = scratch.store, scratch.params
    particles, geometry = _particles(scratch)
    last = scratch.read(_name(state.iteration))
    refined = particles.with_columns(
        rotation=last["rotation"],
        shift_angstrom=last["shift_px"] * geometry.pixel_size_angstrom,
        half_set=last["half_set"],
        log_likelihood=last["log_likelihood"],
    )
    with store.product(_PARTICLES).write(_STAGE, _VERSION, params, inputs) as attempt:
        write_particles(attempt, refined)
        attempt.figures["n_particles"] = len(refined)
    curves = last["fsc_curves"]
    frequency = np.arange(curves.shape[1], dtype=np.float32) / geometry.field_angstrom
    significant = significant_correlation(curves.shape[1], len(symmetry_group(params.symmetry)))
    resolution = {
        name: _resolution(torch.from_numpy(curves[row]), threshold, geometry)
        for name, row, threshold in (
            ("resolution_angstrom", 3, significant),
            ("resolution_unmasked_angstrom", 0, significant),
            ("fsc_0143_angstrom", 3, 0.143),
            ("fsc_half_angstrom", 3, 0.5),
        )
    }
    record = DensityMap(
        name="refined",
        kind="refined",
        pixel_size_angstrom=geometry.pixel_size_angstrom,
        symmetry=params.symmetry.upper(),
        resolution_angstrom=resolution["resolution_angstrom"],
        n_particles=len(refined),
    )
    with store.product(_MAP).write(_STAGE, _VERSION, params, inputs) as attempt:
        for name in ("map", "half_1", "half_2", "mask"):
            attempt.write(name, last[name])
        attempt.write("fsc_curves", np.concatenate([frequency[None], curves]).astype(np.float32))
        describe(attempt, record)
        attempt.details["renewed_from"] = renewed_from.model_dump() if renewed_from else None
        attempt.figures.update(
            generation=renewed_from.generation if renewed_from else 0,
            n_particles=len(refined),
            symmetry=record.symmetry,
            n_iterations=state.iteration,
            **resolution,
        )


def _resolution(curve: Tensor, threshold: float | Tensor, geometry: Geometry) -> float | None:
    """Å where a curve crosses a threshold, None where it starts below."""
    found = resolution_angstrom(curve, geometry.box, geometry.pixel_size_angstrom, threshold)
    return round(found, 3) if math.isfinite(found) else None
