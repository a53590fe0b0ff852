"""A part of a particle refined by itself: its place, the rest of the particle taken off, poses sought near known ones.

The frame of the part is that of the whole, moved so that the middle of the part's mask is the origin: turns are about
that middle, and a pose is a turn and the place of the middle in the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.alignment import transformed
from kernels.maps.projection import Accumulator, FourierVolume, prepare_volume, slices
from kernels.maps.reconstruction import wiener_map
from kernels.maps.refinement import UNFILTERED, HalfComparison, compared_inside, refined_upwards, volume_to_align_to
from kernels.particles.expectation import Disc, shift_ramps
from kernels.particles.likelihood import Observation, PoseFit, model, refine_poses
from kernels.particles.pose_prior import PosePrior
from kernels.rotations import from_rotation_vector

_WORKING_ELEMENTS = 12_000_000
"""Floats that one chunk may need at once, about 50 MB."""


@dataclass(frozen=True)
class NearbySearch:
    """Which poses about known ones are tried."""

    radius: int
    """Fourier radius of the search, in coefficients."""
    turns_rad: Tensor
    """(turn, 3) of `turn_grid`."""
    shifts_px: Tensor
    """(shift, 2) of `expectation.shift_grid`."""
    n_candidates: int
    """That are refined beside the pose given and the known one."""


@dataclass(frozen=True)
class Place:
    """Where a part lies in its map."""

    middle_px: tuple[int, int, int]
    """(z, y, x) of its mask from element n // 2, in whole voxels: maps are moved there and back without a loss."""
    diameter_px: float
    """Of the ball about the middle that holds the mask where it is above one half."""


def place_of(mask: Tensor) -> Place:
    """Where the part in a soft mask (z, y, x) lies.

    Raises
    ------
    ValueError
        Where the mask is empty.
    """
    inside = (mask > 0.5).nonzero().double()
    if not len(inside):
        raise ValueError(f"the mask is empty: its largest value is {float(mask.max()):g}, expected values up to 1")
    position = inside - torch.tensor([n // 2 for n in mask.shape], device=mask.device)
    middle = position.mean(0).round()
    z, y, x = (int(value) for value in middle.tolist())
    return Place((z, y, x), 2 * float((position - middle).norm(dim=1).max()) + 1)


def to_part(density: Tensor, place: Place) -> Tensor:
    """(z, y, x) map in the frame of the part."""
    return density.roll([-n for n in place.middle_px], (0, 1, 2))


def to_whole(density: Tensor, place: Place) -> Tensor:
    """(z, y, x) map of the part's frame in that of the whole."""
    return density.roll(place.middle_px, (0, 1, 2))


def middle_in_image(rotation: Tensor, place: Place) -> Tensor:
    """(pose, 2) px (y, x) from the particle's origin to the part's middle in images at rotations (pose, 3, 3)."""
    return rotation[..., 1:, :] @ rotation.new_tensor(place.middle_px)


def subtracted(
    images: Tensor, transfer: Tensor, coefficients: Disc, rest: Tensor, rotation: Tensor, shift_px: Tensor
) -> Tensor:
    """(particle, m) coefficients without the projections of ``rest`` (z, y, x), at the poses of the whole."""
    volume = prepare_volume(rest)
    observation = Observation(images, transfer, transfer.new_ones(len(coefficients.shell)))
    out = torch.empty_like(images)
    chunk = max(1, 2_000_000 // len(coefficients.shell))
    for start in range(0, len(images), chunk):
        rows = slice(start, start + chunk)
        expected = model(observation.select(rows), volume, coefficients, rotation[rows], shift_px[rows])
        out[rows] = images[rows] - expected
    return out


def turn_grid(range_rad: float, spacing_rad: float) -> Tensor:
    """(turn, 3) rotation vectors (z, y, x) on a cubic grid within a ball; the first is no turn."""
    n = math.floor(range_rad / spacing_rad + 1e-6)
    axis = torch.arange(-n, n + 1) * spacing_rad
    grid = torch.cartesian_prod(axis, axis, axis)
    length = grid.norm(dim=1)
    order = torch.argsort(length, stable=True)
    return grid[order[length[order] <= range_rad + 1e-6]]


def align_nearby(
    observation: Observation,
    coefficients: Disc,
    reference: Tensor,
    radius: int,
    prior: PosePrior,
    rotation: Tensor,
    shift_px: Tensor,
    search: NearbySearch | None,
) -> tuple[PoseFit, FourierVolume]:
    """Poses of highest posterior near the known ones of a prior, and the volume that images were compared with.

    Without a search the poses given are refined. With one, also the known poses and the best of a grid about them;
    candidates go up in resolution as in `refinement.align`.

    Parameters
    ----------
    observation, coefficients
        Images (particle, m) with the coefficients of a disc of at least ``radius``.
    reference
        (z, y, x) map of the part in its frame, over the field of view of the images.
    rotation, shift_px
        (particle, 3, 3) and (particle, 2).
    """
    volume = volume_to_align_to(reference, coefficients.n, radius)
    if search is not None:
        turned, moved = nearby_poses(observation, coefficients, volume, prior, search)
        rotations = torch.cat([turned, prior.rotation[:, None], rotation[:, None]], dim=1)
        shifts = torch.cat([moved, prior.shift_px[:, None], shift_px[:, None]], dim=1)
        rotation, shift_px = refined_upwards(
            observation, coefficients, volume, rotations, shifts, search.radius, radius, prior
        )
    disc = coefficients.within(radius)
    fit = refine_poses(
        observation.within(len(disc.shell)), volume, disc, rotation, shift_px, 4, max_turn_rad=0.03, prior=prior
    )
    return fit, volume


def nearby_poses(
    observation: Observation, coefficients: Disc, volume: FourierVolume, prior: PosePrior, search: NearbySearch
) -> tuple[Tensor, Tensor]:
    """The best poses of a grid about the known ones, (particle, candidate, 3, 3) and (particle, candidate, 2)."""
    disc = coefficients.within(search.radius)
    part = observation.within(len(disc.shell))
    turns = from_rotation_vector(search.turns_rad.to(prior.rotation))
    shifts = search.shifts_px.to(prior.shift_px)
    width = prior.precision
    penalty = 0.5 * (
        (search.turns_rad.to(width).square() @ width[:3])[:, None] + (shifts.square() @ width[3:])[None]
    )  # fmt: skip
    ramps = shift_ramps(disc, shifts)
    rotations, moves = [], []
    chunk = max(1, _WORKING_ELEMENTS // (len(disc.shell) * 8 * len(turns)))
    for start in range(0, len(prior.rotation), chunk):
        rows = slice(start, start + chunk)
        some = part.select(rows)
        tried = turns @ prior.rotation[rows, None]
        expected = slices(volume, tried, disc.points)
        weight = some.transfer / some.noise_variance
        moved_back = some.image * weight * shift_ramps(disc, prior.shift_px[rows]).conj()
        cross = torch.einsum("pkm,pm,sm->pks", expected.conj(), moved_back, ramps.conj()).real
        power = (expected.abs().square() * (some.transfer * weight)[:, None]).sum(-1)
        score = (2 * cross - power[..., None] - penalty).flatten(1)
        best = score.topk(min(search.n_candidates, score.shape[1]), dim=1).indices
        row = torch.arange(len(best), device=best.device)[:, None]
        rotations.append(tried[row, best // len(shifts)])
        moves.append(prior.shift_px[rows, None] + shifts[best % len(shifts)])
    return torch.cat(rotations), torch.cat(moves)


def compare_in_mask(
    sums_1: Accumulator, sums_2: Accumulator, size: int, mask: Tensor, generator: torch.Generator
) -> HalfComparison:
    """Unfiltered maps of completed sums on ``size`` voxels, and their correlation inside the part's mask.

    ``mask`` (z, y, x) is on the voxels of the images.
    """
    half_1, half_2 = wiener_map(sums_1, UNFILTERED, size), wiener_map(sums_2, UNFILTERED, size)
    smaller = fourier.resample(mask, (size,) * 3).clamp(0, 1)
    return compared_inside(half_1, half_2, smaller, 1, generator)


def joined(whole: Tensor, part: Tensor, mask: Tensor, operations: Tensor) -> Tensor:
    """(z, y, x) map that is the part inside its soft mask and the whole outside, in every copy.

    ``operations`` (operation, 3, 3) are those of the point group, identity first; copies of a part that overlap share
    what they cover.
    """
    covered, added = mask.clone(), mask * part
    for operation in operations[1:]:
        still = torch.zeros(3, device=whole.device)
        turned = transformed(mask, operation, still).clamp(0, 1)
        covered += turned
        added += turned * transformed(part, operation, still)
    return whole * (1 - covered.clamp(max=1)) + added / covered.clamp(min=1)
