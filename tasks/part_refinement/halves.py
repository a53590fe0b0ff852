"""Both halves of a part put together from their blocks: what an iteration leaves to the next."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch

from kernels.maps.part_refinement import compare_in_mask
from kernels.particles.pose_prior import PosePrior, prior_widths
from tasks.part_refinement.scratch import SPREAD, PartScratch, whole_particles
from tasks.refinement.halves import POSES, compared_arrays, gathered, next_state
from tasks.refinement.iterations import Block, State, iteration_name, write_iteration
from tasks.refinement.radii import insert_radius, map_size, search_radius
from tasks.stores.commit import Attempt
from tasks.workers.device import device

logger = logging.getLogger(__name__)


def merge_part_halves(
    iteration: int, scratch: PartScratch, attempt: Attempt, state: State, blocks: list[Block], is_final: bool
) -> None:
    """Maps, FSC in the mask, noise, poses, the next references, and how far particles are expected to deviate."""
    _, geometry = whole_particles(scratch)
    before, first = scratch.read(iteration_name(state.iteration)), scratch.read(iteration_name(0))
    both = gathered(scratch, iteration, before, blocks, (*POSES, *SPREAD), geometry.box, "C1")
    radius = insert_radius(state, geometry.box, is_final)
    size = geometry.box if is_final else map_size(radius, geometry.box)
    mask = torch.from_numpy(first["mask"]).to(device())
    found = compare_in_mask(both.sums[0], both.sums[1], size, mask, torch.Generator().manual_seed(0))
    (turn_rad, move_px), widest = before["prior"].tolist(), first["prior"].tolist()
    rotation, shift_px = (torch.from_numpy(first[name]) for name in ("rotation", "shift_px"))
    deviation, precision = (torch.from_numpy(both.tables[name]) for name in SPREAD)
    told = prior_widths(deviation, precision, PosePrior(rotation, shift_px, turn_rad, move_px), widest)
    # what is found depends on the width that it was found under: half way there on a scale of ratios does not swing
    widths = [math.sqrt(old * new) for old, new in zip((turn_rad, move_px), told)]
    logger.info(
        "%s: iteration %d, %d shells, %.2f Å in the mask; turns by %.1f°, moves by %.1f Å", scratch.stage, iteration,
        state.radius, geometry.field_angstrom / found.shell_143 if found.shell_143 else math.inf,
        math.degrees(widths[0]), widths[1] * geometry.pixel_size_angstrom,
    )  # fmt: skip
    write_iteration(
        attempt, next_state(state, iteration, found, search_radius(geometry), radius, is_final),
        half_set=before["half_set"], noise=both.noise, prior=np.array(widths), **both.tables,
        **compared_arrays(found, both.sums, geometry, is_final),
    )  # fmt: skip
