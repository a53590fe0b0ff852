"""Poses of a part in one block, and the sums of its images at them."""

from __future__ import annotations

import math

import torch

from kernels.maps.part_refinement import NearbySearch, align_nearby, turn_grid
from kernels.maps.refinement import search_spacing_rad
from kernels.particles.expectation import shift_grid
from kernels.particles.likelihood import Observation, pose_precision
from kernels.particles.pose_prior import PosePrior
from tasks.part_refinement.images import part_coefficients
from tasks.part_refinement.scratch import PartScratch, place_in, whole_particles
from tasks.refinement.alignment import write_sums
from tasks.refinement.iterations import Block, State, iteration_name, rows_of
from tasks.refinement.radii import search_radius
from tasks.stores.commit import Attempt


def align_part(block: Block, scratch: PartScratch, attempt: Attempt, state: State, is_final: bool) -> None:
    """Poses of one block against the reference of its half, near those of the whole, and the sums of its images."""
    half = block[0]
    before, first = scratch.read(iteration_name(state.iteration)), scratch.read(iteration_name(0))
    coefficients, images, transfer = part_coefficients(block, scratch)
    to = images.device
    rows = rows_of(before, block)
    noise = torch.from_numpy(before["noise"][half - 1]).to(to).clamp(min=1e-12)
    observation = Observation(images, transfer, noise[coefficients.shell])
    reference = torch.from_numpy(before[f"reference_{half}"]).to(to)
    rotation, shift_px, known_rotation, known_shift_px = (
        torch.from_numpy(reader[name][rows]).to(to) for reader in (before, first) for name in ("rotation", "shift_px")
    )
    turn_rad, move_px = before["prior"].tolist()
    prior = PosePrior(known_rotation, known_shift_px, turn_rad, move_px)
    search = None if is_final else search_about(scratch, state)
    fit, volume = align_nearby(
        observation, coefficients, reference, state.radius, prior, rotation, shift_px, search
    )  # fmt: skip
    disc = coefficients.within(state.radius)
    precision = pose_precision(observation.within(len(disc.shell)), volume, disc, fit.rotation, fit.shift_px)
    deviation = prior.deviation(fit.rotation, fit.shift_px)
    write_sums(
        attempt, observation, coefficients, fit, volume, state, is_final, deviation=deviation, precision=precision
    )


def search_about(scratch: PartScratch, state: State) -> NearbySearch:
    """The grid about known poses: as fine as features at the search's resolution need at the rim of the part."""
    params, (_, geometry) = scratch.params, whole_particles(scratch)
    pixel_size, radius = geometry.pixel_size_angstrom, min(state.radius, search_radius(geometry))
    diameter = place_in(scratch).diameter_px * pixel_size
    spacing = search_spacing_rad(radius, geometry.box, pixel_size, diameter, 1)
    return NearbySearch(
        radius,
        turn_grid(math.radians(params.turn_range_deg), spacing),
        shift_grid(params.shift_range_angstrom / pixel_size, params.shift_step_angstrom / pixel_size),
        params.n_candidates,
    )
