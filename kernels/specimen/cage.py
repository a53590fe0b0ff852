"""A protein cage built in code: 24 copies of a four-helix bundle in octahedral symmetry, about 125 Å across.

It is no natural protein. The subunit is held as internal coordinates (sequence, backbone torsions, rotamers), from
which ideal bond lengths and angles give every heavy atom; its placement and the axes of
``rotations.symmetry_group("O")`` give the cage. Like ferritin it is hollow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.models.internal_coordinates import (
    backbone_coordinates,
    side_chain_coordinates,
    side_chain_hydrogens,
    side_chain_names,
)
from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS, PROTEIN_BACKBONE
from kernels.rotations import from_rotation_vector, symmetry_group
from kernels.specimen.cage_design import PLACEMENT_ANGSTROM, PLACEMENT_ROTATION_VECTOR, ROTAMERS, SEQUENCE, TORSIONS_DEG
from kernels.specimen.potential import Atoms

CHI_ANGLES_DEG: dict[str, tuple[tuple[float, ...], ...]] = {
    "A": ((),),
    "G": ((),),
    "C": ((-65,), (-177,), (62,)),
    "P": ((27, -35), (-25, 36)),
    "S": ((62,), (-65,), (-178,)),
    "T": ((62,), (-65,), (-175,)),
    "V": ((175,), (-60,), (63,)),
    "D": ((-70, -15), (-177, 0), (62, -10), (-177, 65)),
    "N": ((-65, -20), (-174, -20), (62, 0), (-177, 30), (-65, -75), (-65, 120)),
    "L": ((-65, 175), (-177, 65), (-85, 65), (-172, 145), (62, 80)),
    "I": ((-65, 170), (-57, -60), (-177, 165), (62, 170), (-177, 66)),
    "F": ((-65, -85), (-177, 80), (62, 90), (-65, -30)),
    "Y": ((-65, -85), (-177, 80), (62, 90), (-65, -30)),
    "H": ((-65, -70), (-177, -160), (-65, 80), (-177, 80), (62, -75), (-65, 165), (-177, 60), (62, 80)),
    "W": ((-65, 95), (-177, -105), (62, -90), (-65, -5), (-177, 90), (62, 90), (-65, -90)),
    "M": (
        (-65, -65, -70),
        (-65, 180, 75),
        (-67, 180, -75),
        (-177, 65, 75),
        (-177, 180, 75),
        (-67, 180, 180),
        (-65, -65, 180),
        (-177, 65, 180),
        (62, 180, 75),
    ),
    "E": (
        (-67, 180, -10),
        (-177, 180, 0),
        (-65, -65, -40),
        (-177, 65, 10),
        (62, 180, 20),
        (-65, 85, 0),
        (-67, 180, 60),
        (-177, 180, 60),
        (70, -80, 0),
    ),
    "Q": (
        (-67, 180, -25),
        (-177, 180, 0),
        (-65, -65, -40),
        (-177, 65, -100),
        (62, 180, 20),
        (-65, 85, 0),
        (-67, 180, 60),
        (-177, 65, 60),
        (-67, 180, 180),
    ),
    "K": (
        (-67, 180, 180, 180),
        (-177, 180, 180, 180),
        (-62, -68, 180, 180),
        (-67, 180, 68, 180),
        (-177, 68, 180, 180),
        (-67, 180, -68, 180),
        (62, 180, 180, 180),
        (-177, 180, 68, 180),
        (-67, 180, 180, 65),
    ),
    "R": (
        (-67, 180, 180, 180),
        (-67, 180, 65, -175),
        (-177, 180, 65, -175),
        (-62, -68, 180, 85),
        (-177, 65, 180, 180),
        (-67, 180, 180, 85),
        (-67, 180, 180, -85),
        (-177, 180, 180, 85),
        (62, 180, 180, 180),
    ),
}
"""Rotamers by number. Source: central values of Lovell, Word, Richardson & Richardson, Proteins 2000, 40:389."""

THREE_LETTERS = dict(zip(AMINO_ACID_LETTERS, AMINO_ACIDS))


@dataclass(frozen=True)
class Chain:
    """Heavy atoms of one protein chain, residue by residue."""

    sequence: str
    residue: Tensor
    """(n,) index into the sequence of each atom."""
    names: tuple[str, ...]
    coordinates_angstrom: Tensor
    """(n, 3) float64, (z, y, x)."""
    n_hydrogens: Tensor
    """(n,) hydrogens bound to each atom."""

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(name[0] for name in self.names)

    def moved(self, rotation: Tensor, shift_angstrom: Tensor) -> Chain:
        """The chain turned by (3, 3) and then shifted by (3,), both (z, y, x)."""
        coordinates = self.coordinates_angstrom @ rotation.T.double() + shift_angstrom.double()
        return Chain(self.sequence, self.residue, self.names, coordinates, self.n_hydrogens)


def cage_atoms(b_factor_angstrom2: float = 40.0) -> Atoms:
    """All heavy atoms of the cage about the origin, its symmetry axes those of ``symmetry_group("O")``."""
    chains = cage_chains()
    return Atoms(
        torch.cat([chain.coordinates_angstrom for chain in chains]).float(),
        tuple(element for chain in chains for element in chain.elements),
        torch.cat([chain.n_hydrogens for chain in chains]),
        b_factor_angstrom2,
    )


@lru_cache(maxsize=1)
def cage_chains() -> tuple[Chain, ...]:
    """The 24 subunits, in the order of ``symmetry_group("O")``."""
    unit = build_chain(SEQUENCE, torch.tensor(TORSIONS_DEG, dtype=torch.float64), [int(r) for r in ROTAMERS])
    centred = unit.moved(torch.eye(3), -unit.coordinates_angstrom.mean(0))
    turn = from_rotation_vector(torch.tensor(PLACEMENT_ROTATION_VECTOR, dtype=torch.float64))
    placed = centred.moved(turn, torch.tensor(PLACEMENT_ANGSTROM, dtype=torch.float64))
    return tuple(placed.moved(mate, torch.zeros(3)) for mate in symmetry_group("O"))


def build_chain(sequence: str, torsions_deg: Tensor, rotamers: Sequence[int]) -> Chain:
    """A chain of ideal bonds and angles.

    Parameters
    ----------
    torsions_deg
        (residue, 2) phi and psi; peptides are trans.
    rotamers
        Number of each residue's entry in `CHI_ANGLES_DEG`.
    """
    if not len(sequence) == len(torsions_deg) == len(rotamers):
        raise ValueError(f"{len(sequence)} residues, {len(torsions_deg)} torsions and {len(rotamers)} rotamers")
    backbone = backbone_coordinates(torch.deg2rad(torsions_deg))
    residue: list[int] = []
    names: list[str] = []
    hydrogens: list[int] = []
    coordinates: list[Tensor] = []
    for i, (letter, rotamer) in enumerate(zip(sequence, rotamers)):
        chi = torch.tensor(CHI_ANGLES_DEG[letter][rotamer], dtype=torch.float64)
        side = side_chain_coordinates(letter, backbone[i], torch.deg2rad(chi))
        found = [*PROTEIN_BACKBONE, *side_chain_names(letter)]
        names += found
        hydrogens += side_chain_hydrogens(letter, i == 0)
        residue += [i] * len(found)
        coordinates += [backbone[i], side]
    return Chain(
        sequence, torch.tensor(residue), tuple(names), torch.cat(coordinates).flip(-1), torch.tensor(hydrogens)
    )
