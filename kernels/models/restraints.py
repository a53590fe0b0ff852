"""What chemistry expects of a protein's heavy atoms: distances, volumes, torsions, and room between atoms.

Bonds and angles are both held as distances (of atoms one and two bonds apart), planes and chirality as volumes spanned
by four atoms. The ideal values follow from the internal coordinates that side chains are built with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import (
    HYDROGENS,
    SIDE_CHAINS,
    backbone_coordinates,
    chi_atoms,
    side_chain_coordinates,
    side_chain_names,
)
from kernels.models.residues import AMINO_ACID_LETTERS, PROTEIN_BACKBONE
from kernels.models.torsions import ramachandran_class, rotamers

_LONGEST_BOND = 1.95
_BOND_SIGMA, _ANGLE_SIGMA, _CHIRAL_SIGMA, _PLANE_SIGMA, _OMEGA_SIGMA = 0.02, 0.04, 0.15, 0.08, 0.2
_STAGGERED = {"R": (0, 1, 2), "K": (0, 1, 2, 3), "E": (0, 1), "Q": (0, 1), "M": (0, 1), "L": (0, 1), "I": (0, 1)}
"""Chi angles between two tetrahedral atoms, the first alone in other amino acids; proline has none that are free."""

_LINK = (
    # atoms of the residue before (-) and after (+), ideal Å, sigma Å; Engh & Huber 1991
    ("-C", "+N", 1.329, _BOND_SIGMA),
    ("-CA", "+N", 2.425, _ANGLE_SIGMA),
    ("-O", "+N", 2.250, _ANGLE_SIGMA),
    ("-C", "+CA", 2.435, _ANGLE_SIGMA),
)
_TRANS_ALPHA_ANGSTROM, _CIS_ALPHA_ANGSTROM = 3.80, 2.95
_RING_OF_PROLINE = {("N", "CD"): 1.473, ("CA", "CD"): 2.437, ("N", "CG"): 2.333}
"""Å; its other distances follow from how it is built."""


@dataclass(frozen=True)
class Restraints:
    """Indices of atoms with what is expected of them; sigmas are those of a normal distribution."""

    bonds: Tensor
    """(bond, 2)"""
    pairs: Tensor
    """(pair, 2) atoms that are one or two bonds apart, or are held by a peptide."""
    pair_angstrom: Tensor
    pair_sigma: Tensor
    corners: Tensor
    """(corner, 4) atoms whose last three span a volume about the first."""
    corner_volume: Tensor
    """(corner,) Å³"""
    corner_sigma: Tensor
    backbone: Tensor
    """(residue, 5) C of the residue before, N, CA, C, N of the residue after."""
    ramachandran: Tensor
    """(residue,) row of `torsions.RAMACHANDRAN_CLASSES`."""
    staggered: Tensor
    """(chi, 4)"""

    def touching(self, atoms: Tensor) -> Restraints:
        """Those that hold at least one of some atoms, given by a mask; bonds are all kept."""
        pairs, corners, backbone, chi = (
            atoms[rows].any(1) for rows in (self.pairs, self.corners, self.backbone, self.staggered)
        )
        return Restraints(
            self.bonds,
            self.pairs[pairs],
            self.pair_angstrom[pairs],
            self.pair_sigma[pairs],
            self.corners[corners],
            self.corner_volume[corners],
            self.corner_sigma[corners],
            self.backbone[backbone],
            self.ramachandran[backbone],
            self.staggered[chi],
        )


@dataclass(frozen=True)
class _Template:
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    pair_angstrom: tuple[float, ...]
    pair_sigma: tuple[float, ...]
    n_bonds: int
    """The first of the pairs."""
    corners: tuple[tuple[int, int, int, int], ...]
    corner_volume: tuple[float, ...]
    corner_sigma: tuple[float, ...]


def protein_restraints(model: AtomicModel, is_linked: Tensor | None = None) -> Restraints:
    """Restraints between the atoms that a model has; residues that are no amino acids are left free.

    Parameters
    ----------
    is_linked
        (residue,) whether a peptide bond leads on to the next residue; found by distance when None.
    """
    linked = model.is_linked() if is_linked is None else is_linked.clone()
    linked[:-1] &= (model.amino_acid[:-1] >= 0) & (model.amino_acid[1:] >= 0)
    linked[-1:] = False
    bonds, pairs, corners, staggered = [], [], [], []
    for number, letter in enumerate(AMINO_ACID_LETTERS):
        chosen = model.amino_acid == number
        if not chosen.any():
            continue
        template = _template(letter)
        index = model.atom(*template.names)[chosen]
        found = index[:, torch.tensor(template.pairs)]
        pairs.append(_kept(found, template.pair_angstrom, template.pair_sigma))
        bonds.append(found[:, : template.n_bonds].reshape(-1, 2))
        if template.corners:
            corners.append(
                _kept(index[:, torch.tensor(template.corners)], template.corner_volume, template.corner_sigma)
            )
        chi = chi_atoms(letter)
        for number_of_chi in _STAGGERED.get(letter, (0,)) if chi and letter != "P" else ():
            staggered.append(model.atom(*chi[number_of_chi])[chosen])
    before = torch.nonzero(linked).squeeze(1)
    for first, second, ideal, sigma in _LINK:
        found = torch.stack([model.atom(first[1:])[before, 0], model.atom(second[1:])[before + 1, 0]], -1)
        pairs.append(_kept(found[:, None], (ideal,), (sigma,)))
        if first == "-C" and second == "+N":
            bonds.append(found)
    is_proline = model.amino_acid[before + 1] == AMINO_ACID_LETTERS.index("P")
    delta = torch.stack([model.atom("C")[before, 0], model.atom("CD")[before + 1, 0]], -1)[is_proline]
    pairs.append(_kept(delta[:, None], (2.487,), (_ANGLE_SIGMA,)))
    pairs.append(_alpha_pairs(model, before))
    corners += _peptide_corners(model, before)
    backbone = torch.full((model.n_residues, 5), -1, dtype=torch.int64)
    backbone[:, 1:4] = model.atom("N", "CA", "C")
    backbone[before + 1, 0] = model.atom("C")[before, 0]
    backbone[before, 4] = model.atom("N")[before + 1, 0]
    whole = (backbone >= 0).all(1)
    bonded = torch.cat(bonds)
    chi_rows = torch.cat(staggered) if staggered else torch.zeros(0, 4, dtype=torch.int64)
    pair_rows, pair_angstrom, pair_sigma = (torch.cat(parts) for parts in zip(*pairs))
    corner_rows, corner_volume, corner_sigma = (torch.cat(parts) for parts in zip(*corners))
    return Restraints(
        bonded[(bonded >= 0).all(1)],
        pair_rows,
        pair_angstrom,
        pair_sigma,
        corner_rows,
        corner_volume,
        corner_sigma,
        backbone[whole],
        ramachandran_class(model.amino_acid)[whole],
        chi_rows[(chi_rows >= 0).all(1)],
    )


def _kept(
    atoms: Tensor, ideal: tuple[float, ...] | Tensor, sigma: tuple[float, ...] | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of (residue, row, atom) whose atoms are all there, with their ideal values and sigmas."""
    there = (atoms >= 0).all(-1)
    values = [torch.as_tensor(given, dtype=torch.float64).expand(atoms.shape[:2])[there] for given in (ideal, sigma)]
    return atoms[there], values[0], values[1]


def _alpha_pairs(model: AtomicModel, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cα to Cα across a peptide: trans, or cis where they stand that near before a proline."""
    atoms = torch.stack([model.atom("CA")[before, 0], model.atom("CA")[before + 1, 0]], -1)
    near = (model.coordinates_angstrom[atoms[:, 0]] - model.coordinates_angstrom[atoms[:, 1]]).norm(dim=-1) < 3.3
    ideal = torch.where(near, _CIS_ALPHA_ANGSTROM, _TRANS_ALPHA_ANGSTROM).double()
    return _kept(atoms[:, None], ideal[:, None], (_ANGLE_SIGMA,))


def _peptide_corners(model: AtomicModel, before: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """A flat carbonyl carbon, a flat peptide, and a flat nitrogen of proline."""
    first, second = model.atom("CA", "C", "O")[before], model.atom("N", "CA", "CD")[before + 1]
    flat_carbon = torch.stack([first[:, 1], first[:, 0], first[:, 2], second[:, 0]], -1)
    turn = torch.stack([first[:, 1], first[:, 0], second[:, 0], second[:, 1]], -1)
    oxygen_turn = torch.stack([first[:, 1], first[:, 2], second[:, 0], second[:, 1]], -1)
    is_proline = model.amino_acid[before + 1] == AMINO_ACID_LETTERS.index("P")
    flat_nitrogen = torch.stack([second[:, 0], first[:, 1], second[:, 1], second[:, 2]], -1)[is_proline]
    sigmas = (_PLANE_SIGMA, _OMEGA_SIGMA, _OMEGA_SIGMA, _PLANE_SIGMA)
    return [
        _kept(atoms[:, None], (0.0,), (sigma,))
        for atoms, sigma in zip((flat_carbon, turn, oxygen_turn, flat_nitrogen), sigmas)
    ]


@lru_cache(maxsize=len(AMINO_ACID_LETTERS))
def _template(letter: str) -> _Template:
    """Restraints within one residue, from the geometry that its side chain is built with."""
    torsions = torch.tensor([[-1.1, -0.8]], dtype=torch.float64)
    backbone = backbone_coordinates(torsions)[0]
    chi = rotamers(letter).chi_rad[0]
    names = (*PROTEIN_BACKBONE, *side_chain_names(letter))
    place = torch.cat([backbone, side_chain_coordinates(letter, backbone, chi)]).flip(-1)  # (z, y, x)
    distance = torch.cdist(place, place)
    bonded = (distance < _LONGEST_BOND) & (distance > 0.1)
    known = {(names.index(a), names.index(b)): d for (a, b), d in _RING_OF_PROLINE.items()} if letter == "P" else {}
    for (a, b), ideal in known.items():
        bonded[a, b] = bonded[b, a] = ideal < _LONGEST_BOND
        distance[a, b] = distance[b, a] = ideal
    angled = (bonded.double() @ bonded.double() > 0) & ~bonded
    pairs, ideals, sigmas = [], [], []
    for mask, sigma in ((bonded, _BOND_SIGMA), (angled, _ANGLE_SIGMA)):
        for a, b in torch.nonzero(torch.triu(mask, 1)).tolist():
            pairs.append((a, b))
            ideals.append(float(distance[a, b]))
            sigmas.append(sigma)
    corners, volumes, corner_sigmas = [], [], []
    for centre in range(len(names)):
        around = torch.nonzero(bonded[centre]).squeeze(1).tolist()
        if len(around) == 3 and not (letter == "P" and names[centre] == "N"):
            volume = _volume(place[centre], *place[around])
            is_flat = abs(volume) < 0.5
            corners.append((centre, *around))
            volumes.append(0.0 if is_flat else volume)
            corner_sigmas.append(_PLANE_SIGMA if is_flat else _CHIRAL_SIGMA)
    for name, sources, _, _, turn, _, _ in SIDE_CHAINS[letter]:
        if not turn:  # held in a plane with the three that it is placed from
            a, b, c = (names.index(source) for source in sources.split())
            corners.append((c, a, b, names.index(name)))
            volumes.append(0.0)
            corner_sigmas.append(_OMEGA_SIGMA)
    return _Template(
        names,
        tuple(pairs),
        tuple(ideals),
        tuple(sigmas),
        int(torch.triu(bonded, 1).sum()),
        tuple((a, b, c, d) for a, b, c, d in corners),
        tuple(volumes),
        tuple(corner_sigmas),
    )


def _volume(centre: Tensor, a: Tensor, b: Tensor, c: Tensor) -> float:
    return float(torch.dot(a - centre, torch.linalg.cross(b - centre, c - centre)))


def near_in_bonds(bonds: Tensor, n_atoms: int) -> Tensor:
    """(pair,) rising keys i · n + j of atoms that are one, two or three bonds apart, either way round."""
    degree = torch.bincount(bonds.reshape(-1), minlength=n_atoms) if len(bonds) else torch.zeros(n_atoms).long()
    partners = torch.full((n_atoms + 1, max(1, int(degree.max()) if n_atoms else 1)), n_atoms, dtype=torch.int64)
    ends = torch.cat([bonds, bonds.flip(1)])
    ends = ends[ends[:, 0].argsort(stable=True)]
    column = torch.arange(len(ends)) - (degree.cumsum(0) - degree)[ends[:, 0]]
    partners[ends[:, 0], column] = ends[:, 1]
    reached = [partners]
    for _ in range(2):
        reached.append(partners[reached[-1]].flatten(1))
    everyone = torch.cat(reached, 1)[:n_atoms]
    start = torch.arange(n_atoms)[:, None].expand_as(everyone)
    keys = (start * n_atoms + everyone)[everyone < n_atoms]
    return torch.unique(keys)


_ROOM_KINDS = ("C", "CH", "N", "O", "S")
"""Carbon without and with hydrogens, and other elements with whatever they carry."""
_ROOM_ANGSTROM = {
    ("C", "C"): 3.3, ("C", "CH"): 3.45, ("C", "N"): 3.2, ("C", "O"): 3.05, ("C", "S"): 3.5,
    ("CH", "CH"): 3.65, ("CH", "N"): 3.4, ("CH", "O"): 3.2, ("CH", "S"): 3.7,
    ("N", "N"): 2.9, ("N", "O"): 2.75, ("N", "S"): 3.2, ("O", "O"): 2.6, ("O", "S"): 3.1, ("S", "S"): 2.0,
}  # fmt: skip
"""Nearest that heavy atoms with their hydrogens come without a clash; hydrogen bonds and disulfides may be made."""


@lru_cache(maxsize=1)
def room_table() -> Tensor:
    """(6, 6) Å by index into `_ROOM_KINDS` and any other, which takes room of 2.0 Å."""
    n = len(_ROOM_KINDS) + 1
    table = torch.full((n, n), 2.0, dtype=torch.float64)
    for (a, b), room in _ROOM_ANGSTROM.items():
        i, j = _ROOM_KINDS.index(a), _ROOM_KINDS.index(b)
        table[i, j] = table[j, i] = room
    return table


def room_kind(elements: Sequence[str], n_hydrogens: Sequence[int]) -> Tensor:
    """(atom,) index into the rows of `room_table`."""
    kinds = {kind: i for i, kind in enumerate(_ROOM_KINDS)}
    names = ("CH" if element == "C" and n else element for element, n in zip(elements, n_hydrogens))
    return torch.tensor([kinds.get(name, len(_ROOM_KINDS)) for name in names], dtype=torch.int64)


def riding_hydrogens(model: AtomicModel) -> list[int]:
    """Hydrogens of each atom, as `room_kind` wants them."""
    return [HYDROGENS.get((model.residues[r].name, n), 0) for r, n in zip(model.residue.tolist(), model.names)]
