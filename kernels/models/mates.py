"""Copies that the point group of a map makes of each of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.neighbours import pairs_within
from kernels.rotations import symmetry_group


@dataclass(frozen=True, eq=False)
class Mates:
    """Operations of a point group about a place; the first one leaves everything where it is."""

    rotation: Tensor
    """(operation, 3, 3) float64, acting on (z, y, x)."""
    centre_angstrom: Tensor
    """(3,) float64 where the axes meet, (z, y, x)."""

    @staticmethod
    def about(symmetry: str, grid: DensityGrid) -> Mates:
        """Those of a map: its axes meet in voxel ``n // 2``, in the setting of `symmetry_group`.

        Raises
        ------
        ValueError
            For a symmetry that is unknown.
        """
        middle = torch.tensor([n // 2 for n in grid.voxels.shape])
        return Mates(symmetry_group(symmetry), grid.to_angstrom(middle).cpu())

    def __len__(self) -> int:
        return len(self.rotation)

    def of(self, places_angstrom: Tensor) -> Tensor:
        """(operation, ..., 3) all copies of places (..., 3)."""
        from_centre = places_angstrom.double() - self.centre_angstrom
        return torch.einsum("oij,...j->o...i", self.rotation, from_centre) + self.centre_angstrom

    def moved(self, operation: Tensor, places_angstrom: Tensor) -> Tensor:
        """(n, 3) each of the places (n, 3) by its own operation (n,)."""
        from_centre = places_angstrom.double() - self.centre_angstrom
        return self.turned(operation, from_centre) + self.centre_angstrom

    def turned(self, operation: Tensor, vectors: Tensor) -> Tensor:
        """(n, ..., 3) vectors of each row by its own operation (n,)."""
        return torch.einsum("nij,n...j->n...i", self.rotation[operation], vectors.double())

    @cached_property
    def product(self) -> Tensor:
        """(operation, operation) int64: the one that does the second and then the first."""
        products = self.rotation[:, None] @ self.rotation[None]
        apart = (products[:, :, None] - self.rotation).abs().amax((-2, -1))
        return apart.argmin(-1)

    @cached_property
    def inverse(self) -> Tensor:
        """(operation,) int64: the one that undoes each."""
        return (self.product == 0).int().argmax(1)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """A model with what of its mates comes near it."""

    model: AtomicModel
    """The model itself comes first."""
    atom: Tensor
    """(atom,) int64 which atom of the model each is a copy of."""


def copies(model: AtomicModel, mates: Mates) -> list[AtomicModel]:
    """The model by every operation, itself first; names of chains are left as they are."""
    return [model.at(place) for place in mates.of(model.coordinates_angstrom)]


def neighbourhood(model: AtomicModel, mates: Mates, reach_angstrom: float) -> Neighbourhood:
    """A model with the residues of its mates that have an atom within reach of one of its own."""
    parts, atoms = [model], [torch.arange(len(model))]
    place = model.coordinates_angstrom
    for copy in copies(model, mates)[1:]:
        _, near, _ = pairs_within(place, copy.coordinates_angstrom, reach_angstrom)
        is_near = torch.zeros(model.n_residues, dtype=torch.bool)
        is_near[model.residue[near]] = True
        if is_near.any():
            parts.append(copy.take_residues(is_near))
            atoms.append(torch.nonzero(is_near[model.residue]).squeeze(1))
    return Neighbourhood(joined(parts), torch.cat(atoms))
