"""Poses of one block, and the sums of its images at them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels.maps.projection import FourierVolume
from kernels.maps.refinement import Search, align, back_project, residual_power, search_spacing_rad
from kernels.particles.expectation import Disc
from kernels.particles.likelihood import Observation, PoseFit
from kernels.rotations import symmetry_group
from tasks.refinement.images import block_coefficients
from tasks.refinement.iterations import Block, RefinementScratch, State, iteration_name, rows_of
from tasks.refinement.params import RefineMapParams
from tasks.refinement.radii import insert_radius, search_radius
from tasks.stores.commit import Attempt
from tasks.stores.products.observations import Geometry


def align_block(block: Block, scratch: RefinementScratch, attempt: Attempt, state: State, is_final: bool) -> None:
    """Poses of one block against the reference of its half, and the sums of its images at them."""
    half, params = block[0], scratch.params
    before = scratch.read(iteration_name(state.iteration))
    geometry, coefficients, images, transfer = block_coefficients(block, scratch)
    to = images.device
    rows = rows_of(before, block)
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
    write_sums(attempt, observation, coefficients, _in_order(fits), volume, state, is_final)


def write_sums(
    attempt: Attempt, observation: Observation, coefficients: Disc, fit: PoseFit, volume: FourierVolume, state: State,
    is_final: bool, **more: Tensor,
) -> None:  # fmt: skip
    """What a block leaves to its half: sums and residuals at its poses, the poses, and ``more`` of each particle."""
    sums = back_project(observation, coefficients, fit, insert_radius(state, coefficients.n, is_final))
    power, counts = residual_power(observation, coefficients, volume, fit, state.radius)
    for name, values in {
        "data": sums.data, "weight": sums.weight, "power": power, "counts": counts, "rotation": fit.rotation,
        "shift_px": fit.shift_px, "log_likelihood": fit.log_likelihood, **more,
    }.items():  # fmt: skip
        attempt.write(name, values.cpu().numpy())


def _in_order(fits: list[tuple[Tensor, PoseFit]]) -> PoseFit:
    """The fits of groups of particles, each with the numbers of its particles, as one."""
    order = torch.cat([index for index, _ in fits]).argsort()
    names = ("rotation", "shift_px", "log_likelihood", "cross", "power")
    return PoseFit(*(torch.cat([getattr(fit, name) for _, fit in fits])[order] for name in names))


def _search(params: RefineMapParams, geometry: Geometry, state: State) -> Search:
    radius = min(state.radius, search_radius(geometry))
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
