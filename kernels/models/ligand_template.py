"""A small molecule before it has a place: its atoms, the bonds that turn, and conformers to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.rotations import from_rotation_vector

_POLAR = ("N", "O", "F", "S")


@dataclass(frozen=True, eq=False)
class LigandTemplate:
    """Heavy atoms of a molecule."""

    code: str
    """Name of its residues."""
    names: tuple[str, ...]
    """(atom,) unique."""
    elements: tuple[str, ...]
    """(atom,) in capitals."""
    n_hydrogens: Tensor
    """(atom,) int64 hydrogens on each."""
    bonds: Tensor
    """(bond, 2) int64."""
    axes: Tensor
    """(torsion, 2) int64: bonds that turn."""
    moving: Tensor
    """(torsion, atom) whether an atom turns with the second end of the axis."""
    conformers_angstrom: Tensor
    """(conformer, atom, 3) float64 in (z, y, x)."""

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.conformers_angstrom.shape[1:] != (n, 3) or self.moving.shape != (len(self.axes), n):
            raise ValueError(
                f"{self.code}: {n} atoms, but conformers {tuple(self.conformers_angstrom.shape)} and turning atoms"
                f" {tuple(self.moving.shape)}; expected (conformer, {n}, 3) and ({len(self.axes)}, {n})"
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def is_polar(self) -> Tensor:
        """(atom,) whether an atom may come as near to others as a hydrogen bond is long."""
        return torch.tensor([element in _POLAR for element in self.elements])

    @cached_property
    def is_apart(self) -> Tensor:
        """(atom, atom) whether more than three bonds lie between two atoms."""
        near = torch.eye(len(self), dtype=torch.bool)
        bound = torch.zeros(len(self), len(self), dtype=torch.bool)
        bound[self.bonds[:, 0], self.bonds[:, 1]] = True
        bound |= bound.T.clone()
        for _ in range(3):
            near = near | ((near.float() @ bound.float()) > 0)
        return ~near

    def placed(self, conformer: Tensor, turn_rad: Tensor, torsions_rad: Tensor, centre_angstrom: Tensor) -> Tensor:
        """(pose, atom, 3) places of the atoms.

        Parameters
        ----------
        conformer
            (pose, atom, 3) starting places, the mean of their atoms at zero.
        turn_rad
            (pose, 3) rotation vector, about the mean.
        torsions_rad
            (pose, torsion) how far each axis is turned from where it is in the conformer.
        centre_angstrom
            (pose, 3) where the mean comes to lie.
        """
        place = conformer
        for k, (a, b) in enumerate(self.axes.tolist()):
            origin = place[:, b : b + 1]
            axis = torch.nn.functional.normalize(place[:, b] - place[:, a], dim=-1)
            turned = (place - origin) @ from_rotation_vector(axis * torsions_rad[:, k : k + 1]).mT + origin
            place = torch.where(self.moving[k][:, None], turned, place)
        place = place - place.mean(1, keepdim=True)
        return place @ from_rotation_vector(turn_rad).mT + centre_angstrom[:, None]


def turning_parts(n_atoms: int, bonds: Tensor, axes: Tensor) -> Tensor:
    """(torsion, atom) atoms on the side of the second end of each axis, which must not be in a ring."""
    moving = torch.zeros(len(axes), n_atoms, dtype=torch.bool)
    for k, (a, b) in enumerate(axes.tolist()):
        left = bonds[~(((bonds[:, 0] == a) & (bonds[:, 1] == b)) | ((bonds[:, 0] == b) & (bonds[:, 1] == a)))]
        reached = torch.zeros(n_atoms, dtype=torch.bool)
        reached[b] = True
        while True:
            wider = reached.clone()
            wider[left[:, 1][reached[left[:, 0]]]] = True
            wider[left[:, 0][reached[left[:, 1]]]] = True
            if torch.equal(wider, reached):
                break
            reached = wider
        moving[k] = reached
        moving[k, b] = False
    return moving
