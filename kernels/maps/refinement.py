"""One round of gold-standard refinement: poses against a reference, sums of a half, two halves compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.fsc import (
    CorrectedFsc,
    corrected_fsc,
    crossing_shell,
    fsc_of_transforms,
    signal_to_noise,
    significant_correlation,
)
from kernels.maps.projection import Accumulator, FourierVolume, insert, prepare_volume, slices
from kernels.maps.reconstruction import symmetrise_memory_bytes, wiener_map
from kernels.masks import soft_mask_from_map, soft_sphere
from kernels.particles.expectation import Disc, shift_grid, shift_ramps
from kernels.particles.likelihood import Observation, PoseFit, model, refine_poses, search_poses
from kernels.particles.pose_prior import PosePrior
from kernels.rotations import rotation_grid

MAX_ORIENTATIONS = 20_000
"""Of the search grid; without symmetry it becomes coarser than asked for, and refinement has further to go."""

UNFILTERED = 20.0
"""Signal-to-noise ratio that unfiltered maps are divided with: voxels that were hardly seen stay small."""


@dataclass(frozen=True)
class Search:
    """How poses are sought anew."""

    radius: int
    """Fourier radius of the search, in coefficients."""
    spacing_rad: float
    shift_range_px: float
    shift_step_px: float
    n_candidates: int
    """Poses of the grid that are refined beside the given one; 0 to look no further than that one."""
    is_amplitude_known: bool


def search_spacing_rad(
    radius: int, box: int, pixel_size_angstrom: float, diameter_angstrom: float, order: int
) -> float:
    """Spacing of orientations at which features of the search's resolution still overlap at the particle's rim.

    0.8 d / D for resolution d and diameter D leaves at most a quarter of a period of error at the rim; for a point
    group of few operations the spacing is what `MAX_ORIENTATIONS` allow.
    """
    resolution = box * pixel_size_angstrom / radius
    finest = (8 * math.pi**2 / (order * MAX_ORIENTATIONS)) ** (1 / 3)
    return max(min(0.8 * resolution / diameter_angstrom, 0.3), finest)


def align(
    observation: Observation,
    coefficients: Disc,
    reference: Tensor,
    radius: int,
    symmetry: str,
    rotation: Tensor,
    shift_px: Tensor,
    search: Search | None,
) -> tuple[PoseFit, FourierVolume]:
    """Best poses of all images against one map, and the volume that they were compared with.

    Without a search the poses given are refined. With one, the best candidates of a grid and the poses given are
    refined at the search's radius, the two best of these half way up, and the best of those at the full radius; with
    a search of no candidates the poses given alone go this way.

    Parameters
    ----------
    observation, coefficients
        Images (particle, m) with the coefficients of a disc of at least ``radius``.
    reference
        (z, y, x) map over the field of view of the images, on no more voxels than its resolution needs.
    rotation, shift_px
        (particle, 3, 3) and (particle, 2).
    """
    volume = volume_to_align_to(reference, coefficients.n, radius)
    if search is not None:
        rotations, moves = rotation[:, None], shift_px[:, None]
        if search.n_candidates:
            rotations, moves, volume = _with_candidates(
                observation, coefficients, volume, symmetry, rotations, moves, search
            )
        rotation, shift_px = refined_upwards(observation, coefficients, volume, rotations, moves, search.radius, radius)
    disc = coefficients.within(radius)
    fit = refine_poses(observation.within(len(disc.shell)), volume, disc, rotation, shift_px, 4, max_turn_rad=0.03)
    return fit, volume


def volume_to_align_to(reference: Tensor, box: int, radius: int) -> FourierVolume:
    """A map (z, y, x) on no more voxels than its resolution needs, scaled for images of a box, up to a radius."""
    size = reference.shape[-1]
    return prepare_volume(
        reference * (box / size) ** 3, max_radius_px=min(radius + 1, (size - 1) / 2), with_slopes=True
    )


def refined_upwards(
    observation: Observation,
    coefficients: Disc,
    volume: FourierVolume,
    rotations: Tensor,
    shifts_px: Tensor,
    radius: int,
    last_radius: int,
    prior: PosePrior | None = None,
) -> tuple[Tensor, Tensor]:
    """The best of several poses of each particle, (particle, 3, 3) and (particle, 2), to be refined at the last radius.

    All are refined at the first radius, the two best half way up; none is compared at the last one.

    Parameters
    ----------
    rotations, shifts_px
        (particle, candidate, 3, 3) and (particle, candidate, 2).
    """
    n_particles, middle = len(rotations), (radius + last_radius) // 2
    for stage_radius, n_steps, n_kept in ((radius, 3, 2), (middle, 3, 1)):
        disc = coefficients.within(stage_radius)
        n_candidates = rotations.shape[1]
        owner = torch.arange(n_particles, device=rotations.device).repeat_interleave(n_candidates)
        fit = refine_poses(
            observation.within(len(disc.shell)).select(owner), volume, disc,
            rotations.flatten(0, 1), shifts_px.flatten(0, 1), n_steps,
            prior=None if prior is None else prior.select(owner),
        )  # fmt: skip
        best_of = fit.log_likelihood.view(n_particles, n_candidates).topk(min(n_kept, n_candidates), dim=1).indices
        chosen = best_of + torch.arange(n_particles, device=rotations.device)[:, None] * n_candidates
        rotations, shifts_px = fit.rotation[chosen], fit.shift_px[chosen]
    return rotations[:, 0], shifts_px[:, 0]


def alignment_memory_bytes(
    n_particles: int, box: int, radius: int, spacing_rad: float, order: int, n_candidates: int
) -> int:
    """Peak of `align` to Nyquist and of what follows it with the same images, `back_project` and `residual_power`.

    Measured for boxes of 64 to 168 px; images and transfer themselves, 12 bytes a coefficient, come on top.

    Parameters
    ----------
    radius, spacing_rad, n_candidates
        Of the search; its grid covers an asymmetric unit of ``order`` operations.
    """
    n_all = 8 * math.pi**2 / spacing_rad**3
    low, high = (math.pi / 2 * r**2 for r in (radius, (radius + box / 2) / 2))
    selected = 12 * n_particles * (math.pi / 2 * (box / 2) ** 2 + max((n_candidates + 1) * low, 2 * high))
    return int(1.08 * (275 * box**3 + selected + n_all * (54 * low / order + 10 * order + 300) + _buffers(box)))


def comparison_memory_bytes(box: int, symmetry: str) -> int:
    """Peak of two halves on the way from sums to maps at the full box: summed, completed, symmetrised, compared."""
    return int(1.08 * (350 * box**3 + symmetrise_memory_bytes(box, symmetry) + _buffers(box)))


def _buffers(box: int) -> int:
    """Chunks that the kernels work in, and what an allocator holds between them."""
    return int(80e6 + min(220e6, 100 * box**3))


def _with_candidates(
    observation: Observation,
    coefficients: Disc,
    volume: FourierVolume,
    symmetry: str,
    rotations: Tensor,
    moves: Tensor,
    search: Search,
) -> tuple[Tensor, Tensor, FourierVolume]:
    """Poses (particle, candidate, …), the best of a grid before those given, and the volume at its amplitude.

    Where the amplitude is not known it is found on the way, and the poses given, which mean nothing then, are left out.
    """
    low = coefficients.within(search.radius)
    part = observation.within(len(low.shell))
    grid = rotation_grid(search.spacing_rad, symmetry).to(rotations)
    shifts = shift_grid(search.shift_range_px, search.shift_step_px, rotations.device)
    references = slices(volume, grid, low.points)
    ramps = shift_ramps(low, shifts)
    found = search_poses(part, references, ramps, search.n_candidates, is_amplitude_known=search.is_amplitude_known)
    best_rotations, best_moves = grid[found.orientation], shifts[found.shift]
    if search.is_amplitude_known:
        return torch.cat([best_rotations, rotations], dim=1), torch.cat([best_moves, moves], dim=1), volume
    best = model(part, volume, low, best_rotations[:, 0], best_moves[:, 0])
    cross = ((part.image.conj() * best).real / part.noise_variance).sum()
    amplitude = cross / (best.abs().square() / part.noise_variance).sum()
    return best_rotations, best_moves, FourierVolume(volume.coefficients * amplitude, volume.box, volume.padding)


def back_project(
    observation: Observation, coefficients: Disc, fit: PoseFit, radius: int, padding: int = 2
) -> Accumulator:
    """Sums of images at their poses, weighted by CTF over noise power."""
    disc = coefficients.within(radius)
    part = observation.within(len(disc.shell))
    points = disc.points
    accumulator = Accumulator.empty(disc.n, radius, padding, device=part.image.device)
    chunk = max(1, 2_000_000 // len(points))
    for start in range(0, len(fit.rotation), chunk):
        rows = slice(start, start + chunk)
        some = part.select(rows)
        moved_back = some.image * shift_ramps(disc, fit.shift_px[rows]).conj()
        weighted = some.transfer / some.noise_variance
        insert(accumulator, moved_back * weighted, weighted * some.transfer, fit.rotation[rows], points)
    return accumulator


def residual_power(
    observation: Observation, coefficients: Disc, volume: FourierVolume, fit: PoseFit, radius: int
) -> tuple[Tensor, Tensor]:
    """(shell,) sums of |image - model|² and their counts; beyond ``radius`` of |image|²."""
    disc = coefficients.within(radius)
    m, n_shells = len(disc.shell), coefficients.n // 2
    power = torch.zeros(n_shells, device=fit.rotation.device)
    chunk = max(1, 2_000_000 // len(coefficients.shell))
    for start in range(0, len(fit.rotation), chunk):
        rows = slice(start, start + chunk)
        some = observation.select(rows)
        residual = some.image.clone()
        residual[:, :m] -= model(some.within(m), volume, disc, fit.rotation[rows], fit.shift_px[rows])
        power += fourier.shell_sums(residual.abs().square(), coefficients.shell, n_shells).sum(0)
    counts = fourier.shell_sums(torch.ones_like(coefficients.frequency_per_px[:, 0]), coefficients.shell, n_shells)
    return power, counts * len(fit.rotation)


@dataclass(frozen=True)
class HalfComparison:
    """What two halves say about each other."""

    half_1: Tensor
    """(z, y, x) unfiltered."""
    half_2: Tensor
    mask: Tensor
    """(z, y, x) 0 to 1"""
    curves: CorrectedFsc
    shell_143: float
    """Where the corrected correlation crosses 0.143, or on low shells what noise alone may reach."""


def compare_halves(
    sums_1: Accumulator,
    sums_2: Accumulator,
    size: int,
    pixel_size_angstrom: float,
    diameter_angstrom: float,
    n_operations: int,
    generator: torch.Generator,
) -> HalfComparison:
    """Unfiltered maps of completed, symmetrised sums on ``size`` voxels, a mask around them, and their correlation.

    ``pixel_size_angstrom`` is that of the maps, ``n_operations`` the order of their point group.
    """
    half_1, half_2 = wiener_map(sums_1, UNFILTERED, size), wiener_map(sums_2, UNFILTERED, size)
    mask = envelope(half_1, half_2, pixel_size_angstrom, diameter_angstrom)
    return compared_inside(half_1, half_2, mask, n_operations, generator)


def compared_inside(
    half_1: Tensor, half_2: Tensor, mask: Tensor, n_operations: int, generator: torch.Generator
) -> HalfComparison:
    """Unfiltered half maps (z, y, x) and their correlation inside a soft mask."""
    curves = corrected_fsc(half_1, half_2, mask, generator)
    threshold = significant_correlation(len(curves.corrected), n_operations).to(mask.device)
    return HalfComparison(half_1, half_2, mask, curves, crossing_shell(curves.corrected, threshold))


def envelope(half_1: Tensor, half_2: Tensor, pixel_size_angstrom: float, diameter_angstrom: float) -> Tensor:
    """(z, y, x) soft mask around what both halves show at low resolution, inside the particle's ball.

    The mean map is low-passed where the halves still correlate at 0.9, between 12 and 30 Å; what rises above a
    fifth of its strongest density, and four standard deviations of what lies outside the ball, is inside, with 5 Å
    around it and an edge of 8 Å.
    """
    n = half_1.shape[-1]
    ball = soft_sphere(n, diameter_angstrom / 2 / pixel_size_angstrom, 5 / pixel_size_angstrom, device=half_1.device)
    first, second = fourier.transform(half_1, 3), fourier.transform(half_2, 3)
    shell = crossing_shell(fsc_of_transforms(first, second, half_1.shape), 0.9)
    resolution = min(max(n * pixel_size_angstrom / max(shell, 1.0), 12.0), 30.0)
    low_passed = fourier.inverse(
        (first + second) * low_pass(n, pixel_size_angstrom, resolution, half_1.device), (n,) * 3
    )
    inside, outside = low_passed[ball == 1], low_passed[ball == 0]
    noise = float(outside.std()) if len(outside) > 1 else 0.0
    strongest = float(inside.sort().values[-max(1, len(inside) // 500)])
    threshold = max(0.2 * strongest, 4 * noise)
    if not float((low_passed * ball).max()) > threshold:
        return ball
    found = soft_mask_from_map(low_passed * ball, threshold, 5 / pixel_size_angstrom, 8 / pixel_size_angstrom)
    return found * ball


def low_pass(n: int, pixel_size_angstrom: float, resolution_angstrom: float, device: torch.device | str) -> Tensor:
    """(z, y, x_half) smooth filter, one half at the resolution."""
    frequency = fourier.frequency_length((n,) * 3, pixel_size_angstrom, device=device)
    return 0.5 * torch.erfc((frequency * resolution_angstrom - 1) * 4)


def half_reference(half: Tensor, mask: Tensor, curve: Tensor, pixel_size_angstrom: float, shell: float) -> Tensor:
    """(z, y, x) what a finished half is worth as a reference: its map weighted by FSC and low-passed at a shell.

    For spectral noise of the half alone, the FSC is the Wiener filter of its map.

    Parameters
    ----------
    half, mask
        (z, y, x)
    curve
        (shell,) corrected FSC of the finished halves.
    """
    n = half.shape[-1]
    index = fourier.shell_index(half.shape, device=half.device).clamp(max=len(curve) - 1)
    gain = curve.clamp(0, 1)[index] * low_pass(n, pixel_size_angstrom, n * pixel_size_angstrom / shell, half.device)
    return fourier.inverse(fourier.transform(half, 3) * gain, half.shape) * mask


def next_references(
    sums_1: Accumulator, sums_2: Accumulator, found: HalfComparison, joined_shell: float
) -> tuple[Tensor, Tensor]:
    """Wiener-filtered, masked map of each half; up to ``joined_shell`` both hold the mean, which keeps one frame."""
    ratio = signal_to_noise(found.curves.corrected, found.shell_143)
    size = found.half_1.shape[-1]
    first, second = (fourier.transform(wiener_map(sums, ratio, size), 3) for sums in (sums_1, sums_2))
    is_joined = fourier.shell_index((size,) * 3, device=first.device) <= joined_shell
    mean = (first + second) / 2
    references = [
        fourier.inverse(torch.where(is_joined, mean, half), (size,) * 3) * found.mask for half in (first, second)
    ]
    return references[0], references[1]
