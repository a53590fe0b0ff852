"""Maps of symmetric particles: copies of a part of the simulated cage about the middle of a box."""

from __future__ import annotations

import torch

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.mates import Mates, copies
from kernels.rotations import symmetry_group
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import SimulatedMaps, simulated_maps

_AWAY = {
    "C": torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64),
    "D": torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64),
}
"""From where the axes meet, (z, y, x), in units of the distance that is asked for."""


def about_axis(symmetry: str, n_residues: int, away_angstrom: float) -> tuple[AtomicModel, Mates]:
    """A part of a subunit some way off the axes, all of them, which meet at the origin, and its mates."""
    unit = cage_subunit(n_residues)
    place = unit.coordinates_angstrom - unit.coordinates_angstrom.mean(0)
    mates = Mates(symmetry_group(symmetry), torch.zeros(3, dtype=torch.float64))
    return unit.at(place + _AWAY[symmetry[0]] * away_angstrom), mates


def dimer_maps(n_residues: int, resolution_angstrom: float, away_angstrom: float = 14.0) -> SimulatedMaps:
    """Maps of two copies about an axis along z; the model is the first copy."""
    return symmetric_maps("C2", n_residues, resolution_angstrom, away_angstrom)


def symmetric_maps(
    symmetry: str,
    n_residues: int,
    resolution_angstrom: float,
    away_angstrom: float = 14.0,
    padding_angstrom: float = 8.0,
) -> SimulatedMaps:
    """Maps of all copies about axes that meet in voxel n // 2; the model is the first copy."""
    unit, mates = about_axis(symmetry, n_residues, away_angstrom)
    whole = joined(copies(unit, mates))
    maps = simulated_maps(
        whole, resolution_angstrom, padding_angstrom=padding_angstrom, centre_angstrom=mates.centre_angstrom
    )
    is_first = torch.arange(maps.model.n_residues) < n_residues
    return SimulatedMaps(
        maps.half_1, maps.half_2, maps.sharpened, maps.model.take_residues(is_first), resolution_angstrom
    )
