"""Hydrogens of proteins and nucleic acids: how many each atom carries, and where they stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import side_chain_hydrogens, side_chain_names
from kernels.models.residues import AMINO_ACID_LETTERS, BASES

_LENGTHS_ANGSTROM = {"aliphatic": 0.97, "aromatic": 0.93, "N": 0.86, "NH3": 0.89, "O": 0.84, "S": 1.20}
"""To the middle of the electron cloud. Source: Deis et al., Computational Crystallography Newsletter 2013, 4:9."""
_TETRAHEDRAL_RAD = math.radians(109.5)
_THIOL_RAD = math.radians(96.0)
_BASE_HYDROGENS = {
    "A": {"C8": 1, "C2": 1, "N6": 2},
    "C": {"C5": 1, "C6": 1, "N4": 2},
    "G": {"C8": 1, "N1": 1, "N2": 2},
    "U": {"C5": 1, "C6": 1, "N3": 1},
}
_SUGAR_HYDROGENS = {"C5'": 2, "C4'": 1, "C3'": 1, "C2'": 1, "C1'": 1, "O2'": 1}


@dataclass(frozen=True)
class Hydrogens:
    """Hydrogens placed on a model."""

    coordinates_angstrom: Tensor
    """(hydrogen, 3) in (z, y, x)."""
    parent: Tensor
    """(hydrogen,) int64 index of the atom that carries it."""
    is_flat: Tensor
    """(hydrogen,) whether it stands on a planar carbon."""
    rotor: Tensor
    """(hydrogen,) int64 number of the group that turns about a bond (hydroxyl, thiol, ammonium); -1 where none."""

    def __len__(self) -> int:
        return len(self.parent)


def hydrogen_counts(model: AtomicModel) -> Tensor:
    """(atom,) int64 hydrogens that each atom carries at neutral pH, histidine with one on ND1.

    Amino acids, modified ones as far as their atoms have the same names, and nucleotides; other residues have none.
    The first residue of a chain is ammonium; a residue after a gap carries none on its nitrogen, whose direction is
    not known.
    """
    kinds = [(AMINO_ACID_LETTERS[a] if a >= 0 else "", BASES[b] if b >= 0 else "") for a, b in _kinds(model)]
    linked = model.is_linked().tolist()
    counts = []
    for name, r in zip(model.names, model.residue.tolist()):
        letter, base = kinds[r]
        if letter and name == "N" and (r == 0 or not linked[r - 1]):
            is_first = r == 0 or model.residues[r - 1].chain != model.residues[r].chain
            counts.append((2 if letter == "P" else 3) if is_first else 0)
        elif letter:
            counts.append(_PROTEIN_HYDROGENS[letter].get(name, 0))
        elif base and name == "C2'" and model.residues[r].name.startswith("D"):
            counts.append(2)
        elif base and name == "C7":
            counts.append(3)
        elif base:
            counts.append(_SUGAR_HYDROGENS.get(name, _BASE_HYDROGENS[base].get(name, 0)))
        else:
            counts.append(0)
    return torch.tensor(counts, dtype=torch.int64)


def _kinds(model: AtomicModel) -> list[tuple[int, int]]:
    return list(zip(model.amino_acid.tolist(), model.base.tolist()))


def place_hydrogens(model: AtomicModel, partners: Tensor) -> Hydrogens:
    """Hydrogens where the atoms around their parents leave room; groups that turn stand staggered, or flat.

    Parents that lack a bound atom get none, and neither does a sulfur of a disulfide.

    Parameters
    ----------
    model
        Without hydrogens.
    partners
        (atom, most) bound atoms of each, -1 where there are fewer (`bonds.Separation.partners`).
    """
    counts = hydrogen_counts(model)
    n_bound = (partners >= 0).sum(1)
    total = counts + n_bound
    place = torch.cat([model.coordinates_angstrom, model.coordinates_angstrom.new_full((1, 3), math.nan)])
    element = _element_codes(model)
    is_carbon = element == 0
    length = _bond_lengths(model, element, counts, total)
    positions, parents, rotors = [], [], []

    def add(atoms: Tensor, directions: Tensor, rotates: bool = False) -> None:
        """(parent, hydrogen, 3) unit vectors."""
        at = place[atoms, None] + length[atoms, None, None] * directions
        positions.append(at.flatten(0, 1))
        parents.append(atoms.repeat_interleave(directions.shape[1]))
        rotors.append((atoms if rotates else torch.full_like(atoms, -1)).repeat_interleave(directions.shape[1]))

    def chosen(n_hydrogens: int, n_others: int, extra: Tensor | None = None) -> Tensor:
        found = (counts == n_hydrogens) & (n_bound == n_others)
        return torch.nonzero(found if extra is None else found & extra).squeeze(1)

    def to_partner(atoms: Tensor, number: int) -> Tensor:
        return normalize(place[partners[atoms, number]] - place[atoms], dim=-1)

    atoms = chosen(1, 3)
    add(atoms, -normalize(sum((to_partner(atoms, k) for k in range(3)), torch.zeros(())), dim=-1)[:, None])
    atoms = chosen(1, 2, is_carbon | (element == 1))
    add(atoms, -normalize(to_partner(atoms, 0) + to_partner(atoms, 1), dim=-1)[:, None])
    atoms = chosen(2, 2)
    first, second = to_partner(atoms, 0), to_partner(atoms, 1)
    away = -normalize(first + second, dim=-1) * math.cos(_TETRAHEDRAL_RAD / 2)
    across = normalize(torch.linalg.cross(first, second), dim=-1) * math.sin(_TETRAHEDRAL_RAD / 2)
    add(atoms, torch.stack([away + across, away - across], dim=1))
    third = math.tau / 3
    for n, angle, turns, extra, rotates in (
        (3, _TETRAHEDRAL_RAD, (third / 2, -third / 2, math.pi), is_carbon, False),
        (3, _TETRAHEDRAL_RAD, (third / 2, -third / 2, math.pi), ~is_carbon, True),
        (2, third, (0.0, math.pi), None, False),
        (1, _TETRAHEDRAL_RAD, (math.pi,), element == 2, True),
        (1, _THIOL_RAD, (math.pi,), element == 3, True),
    ):
        atoms = chosen(n, 1, extra)
        add(atoms, about_bond(place, partners, atoms, angle, torch.tensor(turns, dtype=place.dtype)), rotates)
    coordinates, parent, rotor = torch.cat(positions), torch.cat(parents), torch.cat(rotors)
    known = coordinates.isfinite().all(1)
    is_flat = is_carbon & (total == 3)
    return Hydrogens(coordinates[known], parent[known], is_flat[parent[known]], rotor[known])


def about_bond(place: Tensor, partners: Tensor, atoms: Tensor, angle_rad: Tensor | float, turns_rad: Tensor) -> Tensor:
    """(parent, turn, 3) unit vectors from parents with one bound atom, at an angle to it and dihedrals about it.

    Dihedrals count from the first other atom that the bound one is bound to.

    Parameters
    ----------
    place
        (atom + 1, 3), the last row NaN.
    turns_rad
        (turn,) or (parent, turn).
    """
    bound = partners[atoms, 0]
    around = partners[bound]
    is_other = (around >= 0) & (around != atoms[:, None])
    third = around.gather(1, is_other.int().argmax(1, keepdim=True)).squeeze(1)
    third = torch.where(is_other.any(1), third, -1)
    axis = normalize(place[atoms] - place[bound], dim=-1)
    side = place[third] - place[bound]
    side = normalize(side - (side * axis).sum(-1, keepdim=True) * axis, dim=-1)
    up = torch.linalg.cross(axis, side)
    turns = turns_rad.expand(len(atoms), -1)[..., None]
    angle = torch.as_tensor(angle_rad, dtype=place.dtype).expand(len(atoms))[:, None, None]
    across = torch.cos(turns) * side[:, None] + torch.sin(turns) * up[:, None]
    return -torch.cos(angle) * axis[:, None] + torch.sin(angle) * across


def _element_codes(model: AtomicModel) -> Tensor:
    """0, 1, 2, 3 for C, N, O, S; 4 for all others."""
    code = {"C": 0, "N": 1, "O": 2, "S": 3}
    return torch.tensor([code.get(e, 4) for e in model.elements], dtype=torch.int64)


def _bond_lengths(model: AtomicModel, element: Tensor, counts: Tensor, total: Tensor) -> Tensor:
    length = torch.full((len(element),), _LENGTHS_ANGSTROM["aliphatic"], dtype=model.coordinates_angstrom.dtype)
    length[(element == 0) & (total == 3)] = _LENGTHS_ANGSTROM["aromatic"]
    length[element == 1] = _LENGTHS_ANGSTROM["N"]
    length[(element == 1) & (counts == 3)] = _LENGTHS_ANGSTROM["NH3"]
    length[element == 2] = _LENGTHS_ANGSTROM["O"]
    length[element == 3] = _LENGTHS_ANGSTROM["S"]
    return length


def _protein_hydrogens() -> dict[str, dict[str, int]]:
    table = {}
    for letter in AMINO_ACID_LETTERS:
        if letter == "P":
            table[letter] = {"CA": 1, "CB": 2, "CG": 2, "CD": 2}
            continue
        names = ("N", "CA", "C", "O", *side_chain_names(letter))
        table[letter] = dict(zip(names, side_chain_hydrogens(letter, is_first=False)))
    return table


_PROTEIN_HYDROGENS = _protein_hydrogens()
