"""A structure that moves as one: its atoms, its density and the mask around it, in a frame of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_places import places_of_residues
from kernels.specimen.potential import deposit

BELL = 0.225
"""Standard deviation of an atom's density at a resolution, in units of it (as molmap of ChimeraX)."""
_INSIDE = 0.15
"""Of the strongest density of a structure: beyond it its mask ends."""
_MARGIN = 3.5
"""Around the atoms, in standard deviations of their density."""
_ATOMIC_NUMBERS = {
    "H": 1.0, "D": 1.0, "C": 6.0, "N": 7.0, "O": 8.0, "F": 9.0, "NA": 11.0, "MG": 12.0, "P": 15.0, "S": 16.0,
    "CL": 17.0, "K": 19.0, "CA": 20.0, "MN": 25.0, "FE": 26.0, "CO": 27.0, "NI": 28.0, "CU": 29.0, "ZN": 30.0,
    "SE": 34.0,
}  # fmt: skip
_HEAVY = 30.0


@dataclass(frozen=True, eq=False)
class RigidBody:
    """Atoms about their mean place."""

    atoms: Tensor
    """(atom, 3) float32 in Å, their mean is 0."""
    weights: Tensor
    """(atom,) float32, how strongly each scatters."""
    middle_angstrom: Tensor
    """(3,) float64, the mean place of the atoms where the structure came from."""
    places: Tensor
    """(place, 3) float32 in Å about the same mean: one for each residue."""

    @staticmethod
    def of(coordinates_angstrom: Tensor, weights: Tensor, places_angstrom: Tensor | None = None) -> RigidBody:
        """From coordinates (atom, 3); their places are the atoms themselves where none are given."""
        middle = coordinates_angstrom.double().mean(0)
        places = coordinates_angstrom if places_angstrom is None else places_angstrom
        return RigidBody(
            (coordinates_angstrom - middle).float(), weights.float(), middle, (places.double() - middle).float()
        )

    @staticmethod
    def of_model(model: AtomicModel) -> RigidBody:
        """All atoms of a model but its hydrogens; a Cα or C4' stands for each residue that has one."""
        heavy = model.take(torch.tensor([e not in ("H", "D") for e in model.elements], dtype=torch.bool))
        weights = torch.tensor([_ATOMIC_NUMBERS.get(e, _HEAVY) for e in heavy.elements]) * heavy.occupancy.float()
        return RigidBody.of(heavy.coordinates_angstrom, weights, places_of_residues(heavy))

    def to(self, device: torch.device) -> RigidBody:
        """The same on another device; the middle stays where it is."""
        return RigidBody(self.atoms.to(device), self.weights.to(device), self.middle_angstrom, self.places.to(device))

    def mirrored(self) -> RigidBody:
        """Its mirror image: as large, as long and as dense, but another shape."""
        mirror = torch.tensor([1.0, 1.0, -1.0], device=self.atoms.device)
        return RigidBody(self.atoms * mirror, self.weights, self.middle_angstrom, self.places * mirror)

    @property
    def radius_angstrom(self) -> float:
        """Of gyration."""
        return float(self.atoms.square().sum(-1).mean().sqrt())

    @property
    def reach_angstrom(self) -> float:
        """Of the farthest atom."""
        return float(self.atoms.norm(dim=-1).max())


@dataclass(frozen=True, eq=False)
class Template:
    """The density of a body at a resolution, on a grid of its own about its middle."""

    density: Tensor
    """(z, y, x), a cube whose middle is element n // 2."""
    mask: Tensor
    """(z, y, x) 1 inside of the body, else 0."""
    voxel_size_angstrom: float

    @staticmethod
    def of(body: RigidBody, resolution_angstrom: float, voxel_size_angstrom: float) -> Template:
        """Each atom as a Gaussian of 0.225 times the resolution.

        Memory: 30 bytes a voxel of a cube around the body.
        """
        sigma = BELL * resolution_angstrom
        side = fourier.fast_size(2 * math.ceil((body.reach_angstrom + _MARGIN * sigma) / voxel_size_angstrom) + 1)
        shape = (side,) * 3
        points = body.atoms / voxel_size_angstrom + side // 2
        squared = fourier.frequency_length(shape, voxel_size_angstrom, device=body.atoms.device) ** 2
        bell = torch.exp(-2 * math.pi**2 * sigma**2 * squared)
        density = torch.fft.irfftn(torch.fft.rfftn(deposit(points, body.weights, shape)) * bell, s=shape)
        return Template(density, (density > _INSIDE * density.max()).float(), voxel_size_angstrom)

    def inside(self) -> tuple[Tensor, Tensor]:
        """(voxel, 3) places in Å about the body's middle that lie inside of its mask, and the density there."""
        index = torch.nonzero(self.mask)
        places = (index - self.mask.shape[0] // 2) * self.voxel_size_angstrom
        return places.float(), self.density[tuple(index.T)]
