"""Both halves put together from their blocks: what an iteration leaves to the next."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.maps.fsc import signal_to_noise
from kernels.maps.projection import Accumulator
from kernels.maps.reconstruction import complete, symmetrise, wiener_map
from kernels.maps.refinement import HalfComparison, compare_halves, next_references
from kernels.rotations import symmetry_group
from tasks.refinement.images import particles_of
from tasks.refinement.iterations import (
    Block,
    Params,
    RefinementScratch,
    State,
    block_name,
    iteration_name,
    rows_of,
    write_iteration,
)
from tasks.refinement.radii import first_radius, insert_radius, map_size, search_radius
from tasks.stores.commit import Attempt, Reader
from tasks.stores.products.observations import Geometry
from tasks.stores.products.scratch import Scratch
from tasks.workers.device import device

logger = logging.getLogger(__name__)

POSES = ("rotation", "shift_px", "log_likelihood")
_PADDING = 2
_JOINED_ANGSTROM = 40.0


def merge_halves(
    iteration: int, scratch: RefinementScratch, attempt: Attempt, state: State, blocks: list[Block], is_final: bool
) -> None:
    """Both halves from their blocks: maps, FSC, mask, and the references, noise and poses of the next iteration."""
    params = scratch.params
    _, geometry = particles_of(scratch)
    before = scratch.read(iteration_name(state.iteration))
    both = gathered(scratch, iteration, before, blocks, POSES, geometry.box, params.symmetry)
    radius = insert_radius(state, geometry.box, is_final)
    size = geometry.box if is_final else map_size(radius, geometry.box)
    pixel_size = geometry.field_angstrom / size
    generator, n_operations = torch.Generator().manual_seed(params.seed), len(symmetry_group(params.symmetry))
    first, second = both.sums
    found = compare_halves(first, second, size, pixel_size, params.diameter_angstrom, n_operations, generator)
    del first, second
    is_found = before["is_found"] | (state.is_renewal and state.radius >= search_radius(geometry))
    resolution = geometry.field_angstrom / found.shell_143 if found.shell_143 else math.inf
    logger.info("refine_map: iteration %d, %d shells, %.2f Å", iteration, state.radius, resolution)
    write_iteration(
        attempt, next_state(state, iteration, found, first_radius(geometry, params), radius, is_final),
        half_set=before["half_set"], noise=both.noise, is_found=is_found, **both.tables,
        **compared_arrays(found, both.sums, geometry, is_final), mask=found.mask.cpu().numpy(),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the blocks of an iteration add up to."""

    sums: list[Accumulator]
    """Of the halves, completed and symmetrised."""
    noise: NDArray
    """(half, shell)"""
    tables: dict[str, NDArray]
    """What is known of each particle."""


def gathered(
    scratch: Scratch[Params],
    iteration: int,
    before: Reader,
    blocks: list[Block],
    names: Sequence[str],
    box: int,
    symmetry: str,
) -> Gathered:
    """Both halves from their blocks; ``names`` are the tables of the iteration before that blocks have rows of."""
    tables = {name: before[name] for name in names}
    noise = before["noise"]
    sums: list[Accumulator] = []
    for half in (1, 2):
        mine = [block for block in blocks if block[0] == half]
        total, power, counts = _half_sums(scratch, iteration, mine, before, tables, box)
        sums.append(symmetrise(complete(total), symmetry))
        noise[half - 1, 1:] = power[1:] / np.maximum(counts[1:], 1)
        noise[half - 1, 0] = noise[half - 1, 1]
    return Gathered(sums, noise, tables)


def next_state(
    state: State, iteration: int, found: HalfComparison, least_radius: int, inserted_radius: int, is_final: bool
) -> State:
    """How far the next iteration believes its references, and whether this one gained anything."""
    gained = found.shell_143 > state.shell_143 + 0.5
    return State(
        iteration=iteration,
        radius=int(min(max(least_radius, math.floor(found.shell_143)), inserted_radius - 2)),
        shell_143=max(found.shell_143, state.shell_143),
        n_stalled=0 if gained else state.n_stalled + 1,
        is_final=is_final,
        is_amplitude_known=True,
        is_renewal=state.is_renewal,
    )


def compared_arrays(
    found: HalfComparison, sums: list[Accumulator], geometry: Geometry, is_final: bool
) -> dict[str, NDArray]:
    """The correlation of the halves, and their maps in the end, the next references before; empties ``sums``."""
    curves = found.curves
    arrays = {"fsc_curves": torch.stack([curves.unmasked, curves.masked, curves.randomised, curves.corrected])}
    if is_final:
        ratio = 2 * signal_to_noise(curves.corrected, found.shell_143)
        merged = sums[0] + sums[1]
        sums.clear()
        maps = {"half_1": found.half_1, "half_2": found.half_2, "map": wiener_map(merged, ratio)}
        # coefficients were divided by the box when they were read
        arrays |= {name: values * geometry.box for name, values in maps.items()}
    else:
        references = next_references(sums[0], sums[1], found, geometry.field_angstrom / _JOINED_ANGSTROM)
        arrays |= {"reference_1": references[0], "reference_2": references[1]}
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def _half_sums(
    scratch: Scratch[Params], iteration: int, blocks: list[Block], before: Reader, tables: dict[str, NDArray], box: int
) -> tuple[Accumulator, NDArray, NDArray]:
    """Sums of the blocks of a half; what they found of their particles is put into the tables."""
    sums: list[Tensor] = []
    for block in blocks:
        reader = scratch.read(block_name(iteration, block))
        rows = rows_of(before, block)
        for name, table in tables.items():
            table[rows] = reader[name]
        parts = [torch.from_numpy(reader[name]).to(device()) for name in ("data", "weight", "power", "counts")]
        sums = [a.add_(b) for a, b in zip(sums, parts)] if sums else parts
    return Accumulator(sums[0], sums[1], box, _PADDING), sums[2].cpu().numpy(), sums[3].cpu().numpy()
