"""Torsion angles of protein models, and how often each was seen: Ramachandran classes and rotamers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import chi_atoms, dihedral_rad
from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.models.torsion_tables import RAMACHANDRAN, ROTAMERS

RAMACHANDRAN_CLASSES = ("general", "glycine", "proline", "before proline", "isoleucine or valine")
RAMACHANDRAN_STEP_DEG = 10
RAMACHANDRAN_LEVEL = 0.35
"""Negative logarithm of probability that one letter of `RAMACHANDRAN` stands above the letter before it."""
MOST_CHI = 4
CONFORMATIONS = ("helix", "strand", "other")
"""Of a backbone, by which rotamers are counted."""


def backbone_torsions(model: AtomicModel) -> Tensor:
    """(residue, 3) phi, psi and omega in rad, omega of the bond to the next residue; NaN where there is none."""
    nitrogen, alpha, carbon = model.positions("N", "CA", "C").flip(-1).unbind(1)
    torsions = torch.full((model.n_residues, 3), math.nan, dtype=torch.float64)
    torsions[1:, 0] = dihedral_rad(carbon[:-1], nitrogen[1:], alpha[1:], carbon[1:])
    torsions[:-1, 1] = dihedral_rad(nitrogen[:-1], alpha[:-1], carbon[:-1], nitrogen[1:])
    torsions[:-1, 2] = dihedral_rad(alpha[:-1], carbon[:-1], nitrogen[1:], alpha[1:])
    linked = model.is_linked()
    torsions[~linked, 1:] = math.nan
    torsions[1:, 0][~linked[:-1]] = math.nan
    torsions[0, 0] = math.nan
    return torsions


def side_chain_torsions(model: AtomicModel) -> Tensor:
    """(residue, 4) chi in rad, NaN where there is none."""
    found = torch.full((model.n_residues, MOST_CHI), math.nan, dtype=torch.float64)
    for number, letter in enumerate(AMINO_ACID_LETTERS):
        chosen = model.amino_acid == number
        if chosen.any():
            for chi, atoms in enumerate(chi_atoms(letter)):
                found[chosen, chi] = dihedral_rad(*model.positions(*atoms)[chosen].flip(-1).unbind(1))
    return found


def ramachandran_class(amino_acid: Tensor) -> Tensor:
    """(residue,) index into `RAMACHANDRAN_CLASSES` of residues one after the other, by their amino acids."""
    letter = {name: AMINO_ACID_LETTERS.index(name) for name in "GPIV"}
    found = torch.zeros_like(amino_acid)
    found[:-1][amino_acid[1:] == letter["P"]] = 3
    found[(amino_acid == letter["I"]) | (amino_acid == letter["V"])] = 4
    found[amino_acid == letter["G"]] = 1
    found[amino_acid == letter["P"]] = 2
    return found


@lru_cache(maxsize=1)
def ramachandran_surprise() -> Tensor:
    """(class, phi, psi) negative logarithm of probability over that of the likeliest place; cell 0 begins at -180."""
    rows = [[[ord(c) - ord("a") for c in row] for row in table] for table in RAMACHANDRAN]
    return torch.tensor(rows, dtype=torch.float64) * RAMACHANDRAN_LEVEL


def usual_surprise(torsions_rad: Tensor, kind: Tensor) -> Tensor:
    """(residue,) `ramachandran_surprise` at phi and psi (residue, 2 or more); infinite where one is NaN."""
    known = ~torsions_rad[:, :2].isnan().any(1)
    surprise = torch.full(kind.shape, math.inf, dtype=torch.float64)
    n = 360 // RAMACHANDRAN_STEP_DEG
    cell = (torch.rad2deg(torsions_rad[known, :2]) / RAMACHANDRAN_STEP_DEG + n // 2).floor().long() % n
    surprise[known] = ramachandran_surprise()[kind[known], cell[:, 0], cell[:, 1]]
    return surprise


def conformation(torsions_rad: Tensor) -> Tensor:
    """(...) index into `CONFORMATIONS` of phi and psi (..., 2 or more); NaN counts as other."""
    phi, psi = torch.rad2deg(torsions_rad[..., 0]), torch.rad2deg(torsions_rad[..., 1])
    found = torch.full(phi.shape, 2, dtype=torch.int64)
    found[(phi > -160) & (phi < -30) & ((psi > 80) | (psi < -170))] = 1
    found[(phi > -110) & (phi < -35) & (psi > -75) & (psi < -10)] = 0
    return found


@dataclass(frozen=True)
class Rotamers:
    """Side-chain conformations of one amino acid."""

    chi_rad: Tensor
    """(rotamer, chi)"""
    probability: Tensor
    """(conformation, rotamer), adding up to 1 for each of `CONFORMATIONS`."""


@lru_cache(maxsize=len(AMINO_ACID_LETTERS))
def rotamers(letter: str) -> Rotamers:
    """Those of `ROTAMERS`; one without angles for glycine and alanine."""
    table = ROTAMERS.get(letter, (((), (1.0, 1.0, 1.0)),))
    chi = torch.deg2rad(torch.tensor([chi for chi, _ in table], dtype=torch.float64))
    counts = torch.tensor([counts for _, counts in table], dtype=torch.float64).T + 0.05  # percent, rounded
    return Rotamers(chi, counts / counts.sum(1, keepdim=True))
