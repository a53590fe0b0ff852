"""Particles of Gaussians with a domain that turns and moves against the body, each particle by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.maps.fsc import signal_to_noise
from kernels.maps.reconstruction import complete, symmetrise, wiener_map
from kernels.maps.refinement import back_project, compare_halves
from kernels.masks import falling_edge
from kernels.particles.expectation import disc
from kernels.particles.likelihood import Observation, PoseFit
from kernels.rotations import from_rotation_vector, random_rotations, symmetry_group
from tasks.records.density_map import DensityMap
from tasks.records.particle_identity import half_sets
from tasks.records.session import StageParams
from tasks.stores.products.map_store import describe
from tasks.stores.products.observations import Geometry, read_coefficients
from tasks.stores.products.particle_store import write_particles
from tasks.stores.session_store import SessionStore
from tests.truth.extracted_session import write_extracted
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
    particles = write_extracted(store, truth.imaged)
    coefficients = disc(N, N // 2 - 1)
    images, transfer = read_coefficients(store, particles, Geometry(N, PIXEL), coefficients, torch.device("cpu"))
    observation = Observation(images, transfer, torch.ones(images.shape[1]))
    half_set, nothing = half_sets(particles, 1), torch.zeros(len(particles))
    sums = []
    for half in (1, 2):
        rows = torch.from_numpy(half_set == half)
        poses = PoseFit(truth.rotation[rows], truth.shift[rows] / PIXEL, nothing, nothing, nothing)
        total = complete(back_project(observation.select(rows), coefficients, poses, N // 2 - 1))
        sums.append(symmetrise(total, truth.symmetry))
    order = len(symmetry_group(truth.symmetry))
    found = compare_halves(sums[0], sums[1], N, PIXEL, 130, order, torch.Generator().manual_seed(1))
    merged = wiener_map(sums[0] + sums[1], 2 * signal_to_noise(found.curves.corrected, found.shell_143))
    curves = found.curves
    frequency = torch.arange(N // 2 + 1) / (N * PIXEL)
    rows = torch.stack([frequency, curves.unmasked, curves.masked, curves.randomised, curves.corrected])
    refined = particles.with_columns(
        rotation=truth.rotation.numpy(), shift_angstrom=truth.shift.numpy(), half_set=half_set,
        log_likelihood=nothing.numpy(),
    )  # fmt: skip
    with store.product("particles/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        write_particles(attempt, refined)
    with store.product("maps/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        for name, density in {"map": merged, "half_1": found.half_1, "half_2": found.half_2}.items():
            attempt.write(name, (N * density).numpy())
        attempt.write("mask", found.mask.numpy())
        attempt.write("fsc_curves", rows.numpy())
        describe(attempt, DensityMap(
            name="refined", kind="refined", pixel_size_angstrom=PIXEL, symmetry=truth.symmetry,
            resolution_angstrom=N * PIXEL / found.shell_143, n_particles=len(particles),
        ))  # fmt: skip
