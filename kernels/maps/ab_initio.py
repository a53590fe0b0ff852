"""A first map without a reference: expectation maximisation over orientations and shifts from random starts.

Each iteration scores all images against slices of the map on a grid of orientations (of the asymmetric unit, turned
at random as a whole), and reconstructs the next map from the posterior-weighted images with the symmetry imposed.
Resolution and temperature are annealed. Projections do not tell a map from its mirror image: either hand comes out.

Source: Scheres, J. Mol. Biol. 2012, 415:406 (the maximisation); Punjani et al., Nat. Methods 2017, 14:290 (that
random starts, taken up slowly in resolution, end at the right map).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.projection import Accumulator, insert, prepare_volume, slices
from kernels.maps.reconstruction import reconstruct
from kernels.particles.expectation import Disc, Sums, expectation, residual_power, shell_means, shift_grid
from kernels.rotations import random_rotations, rotation_grid, symmetry_group

_VALUES_AT_ONCE = 4_000_000
"""Of slices that are cut or put in together: each takes some 200 bytes meanwhile."""

_PADDING = 2


@dataclass(frozen=True)
class FirstMap:
    """The state of a search for the first map."""

    density: Tensor
    """(z, y, x), in units in which its slices are the coefficients of the images."""
    noise_variance: Tensor
    """(shell,) mean of |noise|² of a coefficient."""
    shift_variance_px2: float
    log_likelihood: float = -math.inf
    """Of all particles' coefficients within the radius of the last iteration, per particle, in nats."""


@dataclass(frozen=True)
class Step:
    """What one iteration looks at."""

    radius: int
    """Fourier radius in pixels."""
    spacing_rad: float
    shift_radius_px: float
    shift_step_px: float
    temperature: float = 1.0


def steps(
    n_iterations: int,
    box: int,
    field_angstrom: float,
    diameter_angstrom: float,
    first_resolution_angstrom: float,
    resolution_angstrom: float,
    shift_radius_px: float,
    first_temperature: float = 1.0,
) -> list[Step]:
    """Iterations from one resolution to another, the last fifth at the finer one; orientations get finer with it.

    Neighbouring orientations move the rim of the particle by 0.7 of the resolution.
    """
    found = []
    for iteration in range(n_iterations):
        progress = min(1.0, iteration / max(1.0, 0.8 * (n_iterations - 1)))
        resolution = 1 / (
            1 / first_resolution_angstrom + progress * (1 / resolution_angstrom - 1 / first_resolution_angstrom)
        )
        radius = max(3, round(field_angstrom / resolution))
        spacing = min(0.45, 0.7 * (field_angstrom / radius) / (diameter_angstrom / 2))
        temperature = max(1.0, first_temperature ** (1 - 1.5 * progress))
        shift_step_px = max(1.0, 0.15 * box / radius)
        shift_step_px = shift_radius_px / max(1, round(shift_radius_px / shift_step_px))
        found.append(Step(radius, spacing, shift_radius_px, shift_step_px, temperature))
    return found


def improvement_memory_bytes(step: Step, order: int) -> int:
    """Peak of `improved` for a point group of ``order`` operations: slices at all orientations, put in together."""
    n_all = 8 * math.pi**2 / step.spacing_rad**3
    n_values = n_all / order * math.pi / 2 * step.radius**2
    return int(45 * n_values + 200 * min(n_values, _VALUES_AT_ONCE) + n_all * (10 * order + 300)) + 110_000_000


def random_start(
    images: Tensor, transfer: Tensor, coefficients: Disc, symmetry: str, radius: float, mask: Tensor,
    generator: torch.Generator,
) -> FirstMap:  # fmt: skip
    """A map from all images at random orientations: the right radial profile, features by chance."""
    low = coefficients.within(radius)
    m = len(low.shell)
    rotations = random_rotations(len(images), generator).to(images.device)
    accumulator = Accumulator.empty(coefficients.n, radius + 1, _PADDING, device=images.device)
    part, ctf = images[:, :m], transfer[:, :m]
    insert(accumulator, part * ctf, ctf.square(), rotations, low.points)
    density = reconstruct(accumulator, symmetry, signal_to_noise=1.0) * mask
    noise = shell_means(images.abs().square().mean(0), coefficients)
    return FirstMap(density, noise, shift_variance_px2=2.0)


def improved(
    state: FirstMap,
    images: Tensor,
    transfer: Tensor,
    coefficients: Disc,
    symmetry: str,
    step: Step,
    mask: Tensor,
    generator: torch.Generator,
) -> FirstMap:
    """One iteration over all images given.

    Parameters
    ----------
    images, transfer
        (particle, m) coefficients and CTFs over ``coefficients``; those beyond the step's radius are not used.
    mask
        (z, y, x) sphere that holds the particle.
    """
    used = coefficients.within(step.radius)
    m = len(used.shell)
    part, ctf = images[:, :m], transfer[:, :m]
    turn = random_rotations(1, generator)
    rotations = (turn @ rotation_grid(step.spacing_rad, symmetry)).to(images.device)
    shifts = shift_grid(step.shift_radius_px, step.shift_step_px, images.device)
    volume = prepare_volume(state.density, _PADDING, step.radius + 1)
    at_once = max(1, _VALUES_AT_ONCE // m)
    references = torch.cat([slices(volume, some, used.points) for some in rotations.split(at_once)])
    of_shift = torch.log_softmax(-0.5 * shifts.square().sum(1) / max(state.shift_variance_px2, 0.25), dim=0)
    prior = (of_shift - math.log(len(rotations)))[:, None].expand(-1, len(rotations))
    variance = state.noise_variance[used.shell]
    sums, found = expectation(
        part, ctf, references, variance, used, shifts, prior, temperature=step.temperature
    )  # fmt: skip
    alone = (part.abs().square() / variance + variance.log()).sum(1)
    density, noise = _maximised(state, sums, references, rotations, used, coefficients, symmetry, len(images))
    return FirstMap(
        density * mask,
        noise,
        float(sums.squared_shift_px2) / len(images) / 2,
        float((found.evidence - alone).mean()),
    )


def on_box(density: Tensor, n: int) -> Tensor:
    """A map on n voxels a side over the same field of view, its Fourier coefficients kept (grey values are not)."""
    shape = tuple(density.shape)
    if shape == (n, n, n):
        return density
    return fourier.inverse(fourier.crop_transform(fourier.transform(density, 3), shape, (n, n, n)), (n, n, n))


def _maximised(
    state: FirstMap,
    sums: Sums,
    references: Tensor,
    rotations: Tensor,
    used: Disc,
    coefficients: Disc,
    symmetry: str,
    n_particles: int,
) -> tuple[Tensor, Tensor]:
    """The Wiener-filtered map from the sums, and the noise spectrum that it leaves."""
    n_shells = used.n_shells
    noise = state.noise_variance.clone()
    noise[:n_shells] = (shell_means(residual_power(sums, references), used) / n_particles).clamp_min(1e-12)
    signal = shell_means(references.abs().square().mean(0), used)
    shell = torch.arange(n_shells, device=noise.device).clamp_min(1)
    # CTF² that falls on one independent coefficient of the map: a shell has 2 π s² of them
    total = fourier.shell_sums(sums.denominator.sum(0), used.shell, n_shells)
    weight = len(symmetry_group(symmetry)) * total / (2 * math.pi * shell**2)
    ratio = (weight * signal / noise[:n_shells]).clamp_min(1e-3)
    ratio[0] = ratio[1]
    accumulator = Accumulator.empty(coefficients.n, used.n_shells, _PADDING, device=references.device)
    at_once = max(1, _VALUES_AT_ONCE // len(used.points))
    parts = (whole.split(at_once) for whole in (sums.numerator, sums.denominator, rotations))
    for numerator, denominator, some in zip(*parts, strict=True):
        insert(accumulator, numerator, denominator, some, used.points)
    return reconstruct(accumulator, symmetry, signal_to_noise=ratio), noise


def centred(density: Tensor, symmetry: str) -> Tensor:
    """The map with its centre of mass at the origin, as far as the symmetry leaves that open (all axes, z, none)."""
    name = symmetry.strip().upper()
    if not name.startswith("C"):
        return density
    bright = (density - 0.2 * density.max()).clamp_min(0)
    axis = torch.arange(density.shape[-1], device=density.device, dtype=density.dtype) - density.shape[-1] // 2
    mass = bright.sum().clamp_min(1e-20)
    center = torch.stack([(bright.sum(dim=[d for d in range(3) if d != along]) * axis).sum() for along in range(3)])
    center = center / mass
    if name != "C1":
        center[1:] = 0
    return fourier.shift(density, -center)
