"""Particles of Gaussians with a domain that turns and moves against the body, each particle by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.masks import falling_edge
from kernels.rotations import from_rotation_vector, random_rotations, symmetry_group
from tasks.stores.session_store import SessionStore
from tests.truth import consensus
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
    """(particle · copy, 3, 3) of each copy of the domain about its middle, in the frame of the map."""
    move: Tensor
    """(particle · copy, 3) Å, of each copy of the domain, in the frame of the map."""
    symmetry: str
    signal_to_noise: float
    seed: int

    @cached_property
    def imaged(self) -> Imaged:
        """All bodies and domains, with CTF and noise."""
        images = gaussian_projections(self.body, self.rotation, self.shift, N, PIXEL, WIDTH)
        turned = self.copy_rotation @ self.turn
        domains = gaussian_projections(self.domain - self.middle, turned, self.copy_place, N, PIXEL, WIDTH)
        images += domains.unflatten(0, (len(images), -1)).sum(1)
        return imaged(images, PIXEL, self.signal_to_noise, self.seed + 1)

    @property
    def copy_rotation(self) -> Tensor:
        """(particle · copy, 3, 3) that takes the domain of the map to each copy, were none turned."""
        return (self.rotation[:, None] @ symmetry_group(self.symmetry).float()).flatten(0, 1)

    @property
    def copy_place(self) -> Tensor:
        """(particle · copy, 2) Å, of the middle of each copy in its image."""
        placed = (self.copy_rotation @ (self.middle + self.move)[..., None])[..., 1:, 0]
        return placed + self.shift.repeat_interleave(len(placed) // len(self.shift), 0)

    @property
    def density(self) -> Tensor:
        """(z, y, x) with the domain in its mean place."""
        copies = torch.einsum("sij,pj->spi", symmetry_group(self.symmetry).float(), self.domain).flatten(0, 1)
        return gaussian_map(torch.cat([self.body, copies]), N, PIXEL, WIDTH)

    @property
    def domain_density(self) -> Tensor:
        """(z, y, x) the domain alone, without its copies."""
        return gaussian_map(self.domain, N, PIXEL, WIDTH)

    @property
    def mask(self) -> Tensor:
        """(z, y, x) soft, around the domain."""
        axis = (torch.arange(N) - N // 2) * PIXEL
        position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        distance = torch.cdist(position, self.domain).amin(1).reshape(N, N, N)
        return falling_edge(distance, 6.0, 8.0)


def moving_domain(
    n_particles: int,
    turn_deg: float,
    move_angstrom: float,
    signal_to_noise: float,
    seed: int = 0,
    symmetry: str = "C1",
) -> MovingDomain:
    """A lump of 240 points and one of 130 beside it; ``turn_deg`` and ``move_angstrom`` are rms, over all axes.

    With symmetry each copy of both stands in its place, and each copy of the domain moves by itself.
    """
    generator = torch.Generator().manual_seed(seed)
    operations = symmetry_group(symmetry).float()
    lump = _lump(240 // len(operations), 26.0, generator) + torch.tensor([-14.0, 0.0, 0.0])
    body = torch.einsum("sij,pj->spi", operations, lump).flatten(0, 1)
    middle = torch.tensor([30.0, 6.0, -3.0] if symmetry == "C1" else [12.0, 33.0, -3.0])
    domain = _lump(130, 20.0, generator) + middle
    rotation = random_rotations(n_particles, generator)
    shift = 1.5 * torch.randn(n_particles, 2, generator=generator)
    n = n_particles * len(operations)
    turn = from_rotation_vector(math.radians(turn_deg) / math.sqrt(3) * torch.randn(n, 3, generator=generator))
    move = move_angstrom / math.sqrt(3) * torch.randn(n, 3, generator=generator)
    return MovingDomain(body, domain, middle, rotation, shift, turn, move, symmetry, signal_to_noise, seed)


def _lump(n: int, radius_angstrom: float, generator: torch.Generator) -> Tensor:
    """(point, 3) in a ball."""
    direction = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    return direction * radius_angstrom * torch.rand(n, 1, generator=generator) ** (1 / 3)


def write_consensus(store: SessionStore, truth: MovingDomain) -> None:
    """``particles/refined`` at the poses of the bodies, and ``maps/refined`` of two halves."""
    consensus.write_consensus(store, truth.imaged, truth.rotation, truth.shift, 130, truth.symmetry)
