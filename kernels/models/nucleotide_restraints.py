"""What chemistry expects of nucleotides: the same kinds of restraints as those of proteins, and both together."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.nucleotides import BASE_ATOMS, atom_names, monomer, nucleotide_coordinates
from kernels.models.residues import BASES
from kernels.models.restraints import Restraints, protein_restraints

_LONGEST_BOND = 1.95
_BOND_SIGMA, _ANGLE_SIGMA, _CHIRAL_SIGMA, _PLANE_SIGMA, _BASE_SIGMA = 0.02, 0.04, 0.15, 0.08, 0.03
_LINK = (
    # atoms of the nucleotide before (-) and after (+), ideal Å, sigma Å: bonds and angles of Gelbin et al. 1996
    ("O3'", "P", 1.607, _BOND_SIGMA),
    ("C3'", "P", 2.625, _ANGLE_SIGMA),
    ("O3'", "O5'", 2.515, _ANGLE_SIGMA),
    ("O3'", "OP1", 2.490, _ANGLE_SIGMA),
    ("O3'", "OP2", 2.500, _ANGLE_SIGMA),
)


def polymer_restraints(model: AtomicModel, is_linked: Tensor | None = None) -> Restraints:
    """Restraints of amino acids and nucleotides; other residues are left free.

    Parameters
    ----------
    is_linked
        (residue,) whether a bond leads on to the next residue; found by distance when None.
    """
    linked = model.is_linked() if is_linked is None else is_linked
    parts = []
    if bool((model.amino_acid >= 0).any()):
        parts.append(protein_restraints(model, linked))
    if bool((model.base >= 0).any()) or not parts:
        parts.append(nucleotide_restraints(model, linked))
    return Restraints(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Restraints)))


def nucleotide_restraints(model: AtomicModel, is_linked: Tensor | None = None) -> Restraints:
    """Restraints between the atoms that the nucleotides of a model have.

    Sugars keep the angles of C3'-endo, which leave their pucker free within a sigma or two; bases are rigid.
    """
    linked = (model.is_linked() if is_linked is None else is_linked).clone()
    linked[:-1] &= (model.base[:-1] >= 0) & (model.base[1:] >= 0)
    linked[-1:] = False
    names = [r.name for r in model.residues]
    bonds, pairs, ideals, sigmas, corners, volumes, corner_sigmas = ([] for _ in range(7))
    for base in range(len(BASES)):
        for is_dna in (False, True):
            chosen = torch.tensor([name == monomer(base, is_dna) for name in names], dtype=torch.bool)
            if not bool(chosen.any()):
                continue
            t = _template(base, is_dna)
            index = model.atom(*atom_names(base, is_dna))[chosen]
            bonds.append(index[:, t.pairs[: t.n_bonds]].reshape(-1, 2))
            pairs.append(index[:, t.pairs].reshape(-1, 2))
            ideals.append(t.pair_angstrom.repeat(len(index)))
            sigmas.append(t.pair_sigma.repeat(len(index)))
            corners.append(index[:, t.corners].reshape(-1, 4))
            volumes.append(t.corner_volume.repeat(len(index)))
            corner_sigmas.append(t.corner_sigma.repeat(len(index)))
    before = torch.nonzero(linked).squeeze(1)
    for first, second, ideal, sigma in _LINK:
        found = torch.stack([model.atom(first)[before, 0], model.atom(second)[before + 1, 0]], -1)
        pairs.append(found)
        ideals.append(torch.full((len(found),), ideal, dtype=torch.float64))
        sigmas.append(torch.full((len(found),), sigma, dtype=torch.float64))
        if (first, second) == ("O3'", "P"):
            bonds.append(found)
    bonded, paired = torch.cat(bonds), torch.cat(pairs)
    corner_rows = torch.cat([torch.zeros(0, 4, dtype=torch.int64), *corners])
    there, corner_there = (paired >= 0).all(1), (corner_rows >= 0).all(1)
    empty = torch.zeros(0, dtype=torch.float64)
    return Restraints(
        bonded[(bonded >= 0).all(1)],
        paired[there],
        torch.cat(ideals)[there],
        torch.cat(sigmas)[there],
        corner_rows[corner_there],
        torch.cat([empty, *volumes])[corner_there],
        torch.cat([empty, *corner_sigmas])[corner_there],
        torch.zeros(0, 5, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, 4, dtype=torch.int64),
    )


class _Template:
    """Restraints within one nucleotide, as indices into its `atom_names`."""

    def __init__(self, base: int, is_dna: bool) -> None:
        names = atom_names(base, is_dna)
        place = nucleotide_coordinates(base, is_dna)[:-1].flip(-1)  # (z, y, x)
        distance = torch.cdist(place, place)
        bonded = (distance < _LONGEST_BOND) & (distance > 0.1)
        angled = (bonded.double() @ bonded.double() > 0) & ~bonded
        flat = torch.tensor([n in BASE_ATOMS[BASES[base]] or n in ("C1'", "C7") for n in names])
        rigid = flat[:, None] & flat & ~bonded
        angled &= ~rigid
        rows, sigmas = [], []
        for mask, sigma in ((bonded, _BOND_SIGMA), (angled, _ANGLE_SIGMA), (rigid, _BASE_SIGMA)):
            rows.append(torch.nonzero(torch.triu(mask, 1)))
            sigmas.append(torch.full((len(rows[-1]),), sigma, dtype=torch.float64))
        self.n_bonds = len(rows[0])
        self.pairs = torch.cat(rows)
        self.pair_angstrom = distance[self.pairs[:, 0], self.pairs[:, 1]]
        self.pair_sigma = torch.cat(sigmas)
        around = [(c, *torch.nonzero(bonded[c]).squeeze(1).tolist()) for c in range(len(names))]
        self.corners = torch.tensor([row for row in around if len(row) == 4])
        centre, a, b, c = place[self.corners].unbind(1)
        volume = ((a - centre) * torch.linalg.cross(b - centre, c - centre)).sum(-1)
        is_flat = volume.abs() < 0.5
        self.corner_volume = torch.where(is_flat, 0.0, volume)
        self.corner_sigma = torch.where(is_flat, _PLANE_SIGMA, _CHIRAL_SIGMA).double()


@lru_cache(maxsize=16)
def _template(base: int, is_dna: bool) -> _Template:
    return _Template(base, is_dna)
