"""Ramachandran plot: how usual phi and psi of a residue are, and which classes MolProbity would put it in."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.models.torsions import backbone_torsions

KINDS = ("general", "glycine", "cis-proline", "trans-proline", "before proline", "isoleucine or valine")
"""Order of the tables."""
FAVOURED, ALLOWED, OUTLIER = 0, 1, 2
VERDICTS = ("favoured", "allowed", "outlier")
_FAVOURED_SHARE = 0.02
_OUTLIER_SHARE = (0.0005, 0.001, 0.002, 0.001, 0.001, 0.001)
"""Of the residues of good structures that lie where fewer lie, for each of `KINDS`."""
_CIS_RAD = math.radians(30)
"""A peptide turned less than this about its bond is cis; one turned less from trans is trans; others are twisted."""
STEP_DEG = 2
N_CELLS = 360 // STEP_DEG
"""Of the tables along phi and psi; the first is centred on -179 degrees."""


def ramachandran_kinds(amino_acid: Tensor, omega_rad: Tensor) -> Tensor:
    """(residue,) index into `KINDS` of residues one after the other; -1 for what is no amino acid.

    Parameters
    ----------
    omega_rad
        (residue,) of the peptide to the residue before; NaN where there is none.
    """
    number = {letter: AMINO_ACID_LETTERS.index(letter) for letter in "GPIV"}
    kinds = torch.where(amino_acid >= 0, 0, -1)
    kinds[(amino_acid == number["I"]) | (amino_acid == number["V"])] = 5
    is_before = torch.zeros_like(amino_acid, dtype=torch.bool)
    is_before[:-1] = (amino_acid[1:] == number["P"]) & (amino_acid[:-1] >= 0)
    kinds[is_before] = 4
    kinds[amino_acid == number["G"]] = 1
    is_proline = amino_acid == number["P"]
    kinds[is_proline] = 3
    kinds[is_proline & (omega_rad.abs() < _CIS_RAD)] = 2
    return kinds


def ramachandran_scores(tables: Tensor, kinds: Tensor, phi_rad: Tensor, psi_rad: Tensor) -> Tensor:
    """(residue,) share of the residues of good structures that are less usual; NaN where an angle is.

    Parameters
    ----------
    tables
        (kind, phi, psi) of that share.

    Source
    ------
    Lovell et al., Proteins 2003, 50:437; linear between the cells, as in MolProbity.
    """
    known = phi_rad.isfinite() & psi_rad.isfinite() & (kinds >= 0)
    first = [(angle.to(tables.dtype).nan_to_num().rad2deg() + 179) / STEP_DEG for angle in (phi_rad, psi_rad)]
    (row, u), (column, v) = ((x.floor().long() % N_CELLS, x - x.floor()) for x in first)
    next_row, next_column = (row + 1) % N_CELLS, (column + 1) % N_CELLS
    kind = kinds.clamp(min=0)
    near = torch.lerp(tables[kind, row, column], tables[kind, row, next_column], v)
    far = torch.lerp(tables[kind, next_row, column], tables[kind, next_row, next_column], v)
    return torch.where(known, torch.lerp(near, far, u), math.nan)


def ramachandran_verdicts(scores: Tensor, kinds: Tensor) -> Tensor:
    """(residue,) index into `VERDICTS`; -1 where the score is NaN."""
    limit = torch.tensor(_OUTLIER_SHARE, dtype=scores.dtype)[kinds.clamp(min=0)]
    verdict = torch.where(scores >= _FAVOURED_SHARE, FAVOURED, torch.where(scores >= limit, ALLOWED, OUTLIER))
    return torch.where(scores.isnan(), -1, verdict)


def peptide_before(model: AtomicModel) -> Tensor:
    """(residue,) omega in rad of the peptide to the residue before; NaN where there is none."""
    omega = torch.full((model.n_residues,), math.nan, dtype=torch.float64)
    omega[1:] = backbone_torsions(model)[:-1, 2]
    return omega


def is_cis(omega_rad: Tensor) -> Tensor:
    """(...) whether a peptide is cis."""
    return omega_rad.abs() < _CIS_RAD


def is_twisted(omega_rad: Tensor) -> Tensor:
    """(...) whether a peptide is further than 30 degrees from both cis and trans."""
    return (omega_rad.abs() >= _CIS_RAD) & (omega_rad.abs() <= math.pi - _CIS_RAD)
