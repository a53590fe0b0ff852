"""Particles of a real protein of two domains, one of which swings about a hinge, in each particle by its own angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.neighbours import pairs_within
from kernels.rotations import from_rotation_vector, random_rotations
from kernels.specimen.potential import Atoms
from kernels.specimen.simulation import project_atoms
from tests.truth.bent_models import hinge_residue
from tests.truth.gaussian_particles import Imaged, imaged
from tests.truth.model_maps import hydrogens_of
from tests.truth.states import turned

_B_ANGSTROM2 = 70.0
_N_AXES = 24
_TOO_NEAR_ANGSTROM = 3.8
_BLOCK = 8


@dataclass(frozen=True, eq=False)
class SwingingProtein:
    """What is planted."""

    model: AtomicModel
    """One chain in the middle of the swing, in the frame of the map."""
    moves: Tensor
    """(residue,) whether it is of the domain that swings."""
    pivot: Tensor
    """(3,) Å, a point of the axis, in the frame of the map."""
    axis: Tensor
    """(3,)"""
    angle_rad: Tensor
    """(particle,)"""
    rotation: Tensor
    """(particle, 3, 3) of the bodies."""
    shift: Tensor
    """(particle, 2) Å, of the bodies."""
    box: int
    pixel_size_angstrom: float
    signal_to_noise: float
    seed: int

    @cached_property
    def imaged(self) -> Imaged:
        """All particles, with CTF and noise, projected from their atoms."""
        origin = self.origin_angstrom
        turn = from_rotation_vector(self.axis.float() * self.angle_rad[:, None])
        pivot = (self.pivot - origin).float()
        placed = (self.rotation @ pivot)[:, 1:] + self.shift
        body = self._projections(~self.moves, self.rotation, origin, self.shift)
        swung = self._projections(self.moves, self.rotation @ turn, self.pivot, placed)
        return imaged(body + swung, self.pixel_size_angstrom, self.signal_to_noise, self.seed + 1)

    @property
    def origin_angstrom(self) -> Tensor:
        """(3,) where voxel ``n // 2`` of the map stands."""
        return torch.full((3,), self.box // 2 * self.pixel_size_angstrom, dtype=torch.float64)

    @property
    def diameter_angstrom(self) -> float:
        """Of the ball about the origin that holds all atoms, and some Å around them."""
        return 2 * float((self.model.coordinates_angstrom - self.origin_angstrom).norm(dim=1).max()) + 6

    @property
    def swing_rms_deg(self) -> float:
        """Of all particles."""
        return math.degrees(float(self.angle_rad.square().mean().sqrt()))

    def _projections(self, chosen: Tensor, rotation: Tensor, about: Tensor, shift: Tensor) -> Tensor:
        part = self.model.take_residues(chosen)
        place = (part.coordinates_angstrom - about).float()
        atoms = Atoms(place, tuple(part.elements), hydrogens_of(part), _B_ANGSTROM2)
        return project_atoms(
            atoms, rotation, self.box, self.pixel_size_angstrom, shift_angstrom=shift, block_size=_BLOCK
        )


def swinging_protein(
    chain: AtomicModel,
    n_particles: int,
    swing_deg: float,
    box: int,
    pixel_size_angstrom: float,
    signal_to_noise: float,
    seed: int = 0,
) -> SwingingProtein:
    """The smaller of the two parts of a chain swings about the hinge by angles spread evenly over ± ``swing_deg``.

    Its axis is at right angles to the line from the hinge to the middle of the part; of many such axes the one is
    taken about which the fewest Cα of both parts come too near to each other at either end of the swing.
    """
    generator = torch.Generator().manual_seed(seed)
    place = chain.coordinates_angstrom.double()
    middle = (place.amin(0) + place.amax(0)) / 2
    model = chain.at(place - middle + box // 2 * pixel_size_angstrom)
    alpha = model.positions("CA")[:, 0]
    hinge = hinge_residue(alpha)
    is_after = torch.arange(len(alpha)) > hinge
    moves = is_after if 2 * int(is_after.sum()) <= len(alpha) else ~is_after
    pivot = alpha[hinge]
    arm = torch.nn.functional.normalize(alpha[moves].mean(0) - pivot, dim=0)
    drawn = torch.randn(_N_AXES, 3, generator=generator, dtype=torch.float64)
    axes = torch.nn.functional.normalize(torch.linalg.cross(drawn, arm.expand_as(drawn)), dim=-1)
    axis = min(axes, key=lambda some: _crowding(model, moves, some, pivot, swing_deg))
    angle = math.radians(swing_deg) * (2 * torch.rand(n_particles, generator=generator) - 1)
    rotation = random_rotations(n_particles, generator)
    shift = 1.5 * torch.randn(n_particles, 2, generator=generator)
    return SwingingProtein(
        model, moves, pivot, axis, angle, rotation, shift, box, pixel_size_angstrom, signal_to_noise, seed
    )  # fmt: skip


def _crowding(model: AtomicModel, moves: Tensor, axis: Tensor, pivot: Tensor, swing_deg: float) -> int:
    """Pairs of Cα of both parts that come too near at the ends of the swing."""
    found = 0
    for angle in (-swing_deg, swing_deg):
        alpha = turned(model, moves, axis, pivot, angle, 0.0).positions("CA")[:, 0]
        found += len(pairs_within(alpha[moves], alpha[~moves], _TOO_NEAR_ANGSTROM)[0])
    return found
