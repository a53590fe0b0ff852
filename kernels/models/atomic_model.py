"""An atomic model as arrays: atoms, and the residues that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from kernels.models.residues import AMINO_ACID_LETTERS, BASES, amino_acid_index, base_index


@dataclass(frozen=True)
class Residue:
    """Who a residue is in its file."""

    chain: str
    name: str
    """Of the monomer: ALA, A, HEM, HOH."""
    number: int
    insertion_code: str = ""

    def __str__(self) -> str:
        return f"{self.chain}/{self.name}{self.number}{self.insertion_code}"


@dataclass(frozen=True, eq=False)
class AtomicModel:
    """Atoms in the order of their residues, one conformation each, hydrogens included where the file has them.

    Residues of a chain stand one after the other; what follows what along a polymer is told by their order and by
    distance (`is_linked`), since numbers may have gaps.
    """

    residues: tuple[Residue, ...]
    residue: Tensor
    """(atom,) int64 index of the atom's residue, never falling."""
    names: tuple[str, ...]
    """(atom,) CA, N, OP1; unique within a residue."""
    elements: tuple[str, ...]
    """(atom,) C, N, ZN as in the periodic table, in capitals."""
    coordinates_angstrom: Tensor
    """(atom, 3) float64 in (z, y, x), in the frame of the map (see `kernels.maps.grid.DensityGrid`)."""
    b_factor_angstrom2: Tensor
    """(atom,)"""
    occupancy: Tensor
    """(atom,)"""

    def __post_init__(self) -> None:
        n = len(self.names)
        shapes = {
            "residue": (self.residue, (n,)),
            "coordinates": (self.coordinates_angstrom, (n, 3)),
            "B-factors": (self.b_factor_angstrom2, (n,)),
            "occupancies": (self.occupancy, (n,)),
        }
        for what, (values, expected) in shapes.items():
            if tuple(values.shape) != expected:
                raise ValueError(f"{n} atom names, but {what} of shape {tuple(values.shape)}; expected {expected}")
        if len(self.elements) != n:
            raise ValueError(f"{n} atom names, but {len(self.elements)} elements")
        if n and (int(self.residue.max()) >= len(self.residues) or (self.residue.diff() < 0).any()):
            raise ValueError(f"atoms do not stand in the order of their {len(self.residues)} residues")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_residues(self) -> int:
        return len(self.residues)

    @cached_property
    def amino_acid(self) -> Tensor:
        """(residue,) int64 index into `residues.AMINO_ACIDS`, -1 where the residue is none."""
        return torch.tensor([amino_acid_index(r.name) for r in self.residues], dtype=torch.int64)

    @cached_property
    def base(self) -> Tensor:
        """(residue,) int64 index into `residues.BASES`, -1 where the residue is no nucleotide."""
        return torch.tensor([base_index(r.name) for r in self.residues], dtype=torch.int64)

    @cached_property
    def sequences(self) -> dict[str, str]:
        """Letters of each chain, those of nucleotides small; what is neither amino acid nor nucleotide is left out."""
        found: dict[str, str] = {}
        for residue, amino_acid, base in zip(self.residues, self.amino_acid.tolist(), self.base.tolist()):
            if amino_acid >= 0 or base >= 0:
                letter = AMINO_ACID_LETTERS[amino_acid] if amino_acid >= 0 else BASES[base].lower()
                found[residue.chain] = found.get(residue.chain, "") + letter
        return found

    def atom(self, *names: str) -> Tensor:
        """(residue, name) int64 index of each residue's atoms of these names, -1 where it has none."""
        found = torch.full((self.n_residues, len(names)), -1, dtype=torch.int64)
        for column, name in enumerate(names):
            index = torch.tensor([i for i, n in enumerate(self.names) if n == name], dtype=torch.int64)
            found[self.residue[index], column] = index
        return found

    def positions(self, *names: str) -> Tensor:
        """(residue, name, 3) coordinates in Å of each residue's atoms of these names, NaN where it has none."""
        index = self.atom(*names)
        padded = torch.cat([self.coordinates_angstrom, self.coordinates_angstrom.new_full((1, 3), torch.nan)])
        return padded[index]

    def is_linked(self, longest_peptide_angstrom: float = 2.0, longest_ester_angstrom: float = 2.3) -> Tensor:
        """(residue,) whether a bond leads on to the next residue: C to N of a protein, O3' to P of a nucleic acid."""
        linked = torch.zeros(self.n_residues, dtype=torch.bool)
        for end, start, longest in (("C", "N", longest_peptide_angstrom), ("O3'", "P", longest_ester_angstrom)):
            ends, starts = self.positions(end)[:, 0], self.positions(start)[:, 0]
            linked[:-1] |= (ends[:-1] - starts[1:]).norm(dim=-1) < longest
        return linked

    def take(self, atoms: Tensor) -> AtomicModel:
        """The model of some atoms, a mask or rising indices; residues that lose all their atoms leave."""
        index = torch.nonzero(atoms).squeeze(1) if atoms.dtype == torch.bool else atoms
        kept, residue = torch.unique(self.residue[index], return_inverse=True)
        return self._of(kept, residue, index)

    def take_residues(self, residues: Tensor) -> AtomicModel:
        """The model of some residues, given by a mask."""
        return self.take(residues[self.residue])

    def in_order(self, residues: Tensor) -> AtomicModel:
        """The model of some residues, given by their indices, in the order in which they are given."""
        rank = torch.full((self.n_residues,), -1).index_put_((residues,), torch.arange(len(residues)))
        place = rank[self.residue]
        atoms = torch.nonzero(place >= 0).squeeze(1)
        atoms = atoms[place[atoms].argsort(stable=True)]
        return self._of(residues, place[atoms], atoms)

    def _of(self, residues: Tensor, residue: Tensor, atoms: Tensor) -> AtomicModel:
        chosen = atoms.tolist()
        return AtomicModel(
            tuple(self.residues[i] for i in residues.tolist()),
            residue,
            tuple(self.names[i] for i in chosen),
            tuple(self.elements[i] for i in chosen),
            self.coordinates_angstrom[atoms],
            self.b_factor_angstrom2[atoms],
            self.occupancy[atoms],
        )

    def at(self, coordinates_angstrom: Tensor) -> AtomicModel:
        """The same model with its atoms elsewhere."""
        return replace(self, coordinates_angstrom=coordinates_angstrom)


def joined(models: Sequence[AtomicModel]) -> AtomicModel:
    """Several models as one, in their order; the names of chains are left as they are."""
    offsets = torch.tensor([0, *(m.n_residues for m in models)]).cumsum(0)
    return AtomicModel(
        tuple(r for m in models for r in m.residues),
        torch.cat([m.residue + int(o) for m, o in zip(models, offsets)]),
        tuple(n for m in models for n in m.names),
        tuple(e for m in models for e in m.elements),
        torch.cat([m.coordinates_angstrom for m in models]),
        torch.cat([m.b_factor_angstrom2 for m in models]),
        torch.cat([m.occupancy for m in models]),
    )
