"""Particles of Gaussians with a domain that turns and moves against the body, each particle by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.masks import falling_edge
from kernels.rotations import from_rotation_vector, random_rotations
from tests.truth.gaussian_particles import Imaged, gaussian_map, gaussian_projections, imaged

PIXEL, N, WIDTH = 3.0, 48, 2.0


@dataclass(frozen=True)
class MovingDomain:
    """What is planted."""

    body: Tensor
    """(point, 3) Å"""
    domain: Tensor
    """(point, 3) Å, in its mean place."""
    middle: Tensor
    """(3,) Å, of the domain."""
    rotation: Tensor
    """(particle, 3, 3) of the bodies."""
    shift: Tensor
    """(particle, 2) Å, of the bodies."""
    turn: Tensor
    """(particle, 3, 3) of the domain about its middle, in the frame of the map."""
    move: Tensor
    """(particle, 3) Å, of the domain, in the frame of the map."""
    imaged: Imaged

    @property
    def density(self) -> Tensor:
        """(z, y, x) with the domain in its mean place."""
        return gaussian_map(torch.cat([self.body, self.domain]), N, PIXEL, WIDTH)

    @property
    def domain_density(self) -> Tensor:
        """(z, y, x) the domain alone."""
        return gaussian_map(self.domain, N, PIXEL, WIDTH)

    @property
    def mask(self) -> Tensor:
        """(z, y, x) soft, around the domain."""
        axis = (torch.arange(N) - N // 2) * PIXEL
        position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        distance = torch.cdist(position, self.domain).amin(1).reshape(N, N, N)
        return falling_edge(distance, 6.0, 8.0)


def moving_domain(
    n_particles: int, turn_deg: float, move_angstrom: float, signal_to_noise: float, seed: int = 0
) -> MovingDomain:
    """A lump of 240 points and one of 130 beside it; ``turn_deg`` and ``move_angstrom`` are rms, over all axes."""
    generator = torch.Generator().manual_seed(seed)
    body = _lump(240, 26.0, generator) + torch.tensor([-14.0, 0.0, 0.0])
    middle = torch.tensor([30.0, 6.0, -3.0])
    domain = _lump(130, 20.0, generator) + middle
    rotation = random_rotations(n_particles, generator)
    shift = 1.5 * torch.randn(n_particles, 2, generator=generator)
    turn = from_rotation_vector(
        math.radians(turn_deg) / math.sqrt(3) * torch.randn(n_particles, 3, generator=generator)
    )
    move = move_angstrom / math.sqrt(3) * torch.randn(n_particles, 3, generator=generator)
    place = (rotation @ (middle + move)[..., None])[..., 1:, 0] + shift
    images = gaussian_projections(body, rotation, shift, N, PIXEL, WIDTH) + gaussian_projections(
        domain - middle, rotation @ turn, place, N, PIXEL, WIDTH
    )
    return MovingDomain(
        body, domain, middle, rotation, shift, turn, move, imaged(images, PIXEL, signal_to_noise, seed + 1)
    )


def _lump(n: int, radius_angstrom: float, generator: torch.Generator) -> Tensor:
    """(point, 3) in a ball."""
    direction = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    return direction * radius_angstrom * torch.rand(n, 1, generator=generator) ** (1 / 3)
