"""Particles made of Gaussians: projections and maps are exact, so is everything that is planted in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.optics import Optics
from kernels.rotations import symmetry_group


def cage_points(symmetry: str = "O", n_per_unit: int = 12, radius_angstrom: float = 50.0, seed: int = 0) -> Tensor:
    """(point, 3) centres of a hollow particle: random points of one unit in a shell, and their symmetry mates."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(3, generator=generator)
    direction = start / start.norm() + 0.45 * torch.randn(n_per_unit, 3, generator=generator)
    length = radius_angstrom * (0.7 + 0.4 * torch.rand(n_per_unit, 1, generator=generator))
    unit = direction / direction.norm(dim=1, keepdim=True) * length
    return torch.einsum("sij,pj->spi", symmetry_group(symmetry).float(), unit).reshape(-1, 3)


def _profile(n: int, coordinate_angstrom: Tensor, pixel_size_angstrom: float, width_angstrom: float) -> Tensor:
    """(..., n) Gaussians of unit sum along one axis."""
    grid = (torch.arange(n) - n // 2) * pixel_size_angstrom
    exponent = -0.5 * ((grid - coordinate_angstrom[..., None]) / width_angstrom) ** 2
    return exponent.exp() * pixel_size_angstrom / (math.sqrt(2 * math.pi) * width_angstrom)


def gaussian_map(points: Tensor, n: int, pixel_size_angstrom: float, width_angstrom: float) -> Tensor:
    """(z, y, x) map of Gaussians, one unit of mass each."""
    z, y, x = (_profile(n, points[:, axis], pixel_size_angstrom, width_angstrom) for axis in range(3))
    return torch.einsum("pz,py,px->zyx", z, y, x)


def gaussian_projections(
    points: Tensor, rotation: Tensor, shift_angstrom: Tensor, n: int, pixel_size_angstrom: float, width_angstrom: float
) -> Tensor:
    """(particle, y, x) exact projections: sums of the rotated map along z."""
    placed = torch.einsum("rij,pj->rpi", rotation, points)[..., 1:] + shift_angstrom[:, None]
    images = [
        _profile(n, yx[:, 0], pixel_size_angstrom, width_angstrom).T
        @ _profile(n, yx[:, 1], pixel_size_angstrom, width_angstrom)
        for yx in placed
    ]
    return torch.stack(images)


@dataclass(frozen=True)
class Imaged:
    """Images as a microscope gives them, with what made them."""

    images: Tensor
    """(particle, y, x), protein dark, noise of standard deviation 1."""
    defocus: Defocus
    optics: Optics
    transfer: Tensor
    """(particle, y, x_half)"""


def imaged(projections: Tensor, pixel_size_angstrom: float, signal_to_noise: float, seed: int = 0) -> Imaged:
    """CTF and white noise applied; ``signal_to_noise`` is the ratio of variances after the CTF, over the image."""
    generator = torch.Generator().manual_seed(seed)
    n_particles, n = projections.shape[:2]
    u = 10000 + 12000 * torch.rand(n_particles, generator=generator)
    angle = math.pi * torch.rand(n_particles, generator=generator)
    defocus = Defocus(u, u - 400, angle, torch.zeros(n_particles))
    optics = Optics(300.0, 2.7, 0.07, pixel_size_angstrom)
    transfer = ctf(fourier.frequencies((n, n), pixel_size_angstrom), defocus, optics)
    signal = fourier.inverse(fourier.transform(projections) * transfer, (n, n))
    scale = math.sqrt(signal_to_noise / float(signal.var(dim=(1, 2)).mean()))
    noise = torch.randn(signal.shape, generator=generator)
    return Imaged(signal * scale + noise, defocus, optics, transfer)
