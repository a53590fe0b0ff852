"""What side chain the density beside each residue's backbone looks like, and whether the sequence is in register."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import side_chain_coordinates
from kernels.models.residues import AMINO_ACID_LETTERS, PROTEIN_BACKBONE
from kernels.models.torsions import backbone_torsions, conformation, rotamers

_HALF = 0.5
"""Of the backbone's density: what is stronger speaks for an atom, what is weaker against it."""
_MOST = 0.75
"""An atom speaks no louder than this for or against itself; peaks of other things would drown the rest."""
_PRIOR_WEIGHT = 0.1
"""Of the logarithm of a rotamer's probability, beside a sum over atoms in the unit of the backbone's density."""
_BACKBONE_WINDOW = 3
"""Residues on either side whose backbone the density is compared with."""
_GAIN_UNIT = 3.0
_SHARP_ANGSTROM = 3.5
"""Scale and middle of the features that `amino_acid_evidence` is told from."""
_SHIFTS = (-3, -2, -1, 1, 2, 3)
_REGISTER_WINDOW = 6
"""Residues on either side that tell the register together."""


def side_chain_profile(grid: DensityGrid, model: AtomicModel) -> Tensor:
    """How much the density speaks for each amino acid at each residue, backbone as it stands.

    Every amino acid is built in all of its rotamers; each of its atoms counts by how far the density there exceeds
    half of that of the backbone around.

    Returns
    -------
    (residue, 20) in the order of `residues.AMINO_ACIDS`, 0 for glycine; NaN where the backbone is not complete.
    """
    backbone = model.positions("N", "CA", "C", "O").flip(-1)
    known = (model.amino_acid >= 0) & backbone.isfinite().all(-1).all(-1)
    profile = torch.full((model.n_residues, len(AMINO_ACID_LETTERS)), math.nan, dtype=torch.float64)
    rows = torch.nonzero(known).squeeze(1)
    if len(rows) == 0:
        return profile
    level = backbone_level(grid, model)[rows]
    place = conformation(backbone_torsions(model)[rows])
    for number, letter in enumerate(AMINO_ACID_LETTERS):
        if letter == "G":
            profile[rows, number] = 0.0
            continue
        built = rotamers(letter)
        atoms = side_chain_coordinates(
            letter, backbone[rows, None].expand(-1, len(built.chi_rad), -1, -1), built.chi_rad
        )
        density = grid.values_at(atoms.flip(-1)).double() / level[:, None, None]
        gain = (density - _HALF).clamp(-_MOST, _MOST).sum(-1)
        prior = _PRIOR_WEIGHT * built.probability[place].log()
        profile[rows, number] = (gain + prior).amax(1)
    return profile


def amino_acid_evidence(profile: Tensor, resolution_angstrom: Tensor, weights: Tensor, prior: Tensor) -> Tensor:
    """(residue, 20) logarithm of the probability of each amino acid over how often it is seen at all.

    What a profile means is learned: phenylalanine and leucine gain by the same density, and tryptophan's absence tells
    more than alanine's presence. NaN where there is no profile.

    Parameters
    ----------
    profile
        (residue, 20) of `side_chain_profile`.
    weights
        (feature, 20) of `evidence_features`.
    prior
        (20,) shares of the amino acids.
    """
    log_odds = torch.log_softmax(evidence_features(profile, resolution_angstrom) @ weights, dim=1) - prior.log()
    return torch.where(profile.isnan().any(1, keepdim=True), math.nan, log_odds)


def evidence_features(profile: Tensor, resolution_angstrom: Tensor) -> Tensor:
    """(residue, 42) profile, profile by blur, blur, and one."""
    gain = profile.nan_to_num() / _GAIN_UNIT
    blur = (resolution_angstrom - _SHARP_ANGSTROM).to(gain)[:, None]
    return torch.cat([gain, gain * blur, blur, torch.ones_like(blur)], dim=1)


def side_chain_gain(grid: DensityGrid, model: AtomicModel) -> Tensor:
    """(residue,) the sum of `side_chain_profile` for each side chain as it stands; 0 for one without atoms."""
    is_side_chain = torch.tensor([n not in PROTEIN_BACKBONE and n != "OXT" for n in model.names], dtype=torch.bool)
    is_side_chain &= torch.tensor([e not in ("H", "D") for e in model.elements], dtype=torch.bool)
    residue = model.residue[is_side_chain]
    level = backbone_level(grid, model)[residue]
    density = grid.values_at(model.coordinates_angstrom[is_side_chain]).double() / level
    gain = (density - _HALF).clamp(-_MOST, _MOST)
    return torch.zeros(model.n_residues, dtype=torch.float64).index_add_(0, residue, gain)


def backbone_level(grid: DensityGrid, model: AtomicModel) -> Tensor:
    """(residue,) mean density at N, CA and C of a residue and its neighbours; not below a tenth of the map's spread."""
    density = grid.values_at(model.positions("N", "CA", "C").nan_to_num(nan=1e6)).double()
    has = model.positions("N", "CA", "C").isfinite().all(-1)
    total, count = (density * has).sum(1), has.sum(1).double()
    total, count = _window_sum(total, _BACKBONE_WINDOW), _window_sum(count, _BACKBONE_WINDOW)
    floor = 0.1 * float(grid.voxels.std())
    return (total / count.clamp(min=1)).clamp(min=floor)


def register_shift_evidence(evidence: Tensor, model: AtomicModel, types: Tensor | None = None) -> Tensor:
    """(residue,) how much better the density around each residue fits the sequence shifted by one to three residues.

    Sums over six residues on either side, as far as the chain is bound; positive where a shift fits better than none.
    0 where there is no evidence.

    Parameters
    ----------
    evidence
        (residue, type) for each amino acid at each residue, as `amino_acid_evidence` gives it.
    types
        (residue,) the model's own, -1 where it has none; its amino acids when None.
    """
    amino_acid = model.amino_acid if types is None else types
    linked = model.is_linked()
    stretch = torch.cat([torch.zeros(1, dtype=torch.int64), (~linked[:-1]).long().cumsum(0)])
    n = model.n_residues
    index = torch.arange(n)
    own = evidence[index, amino_acid.clamp(min=0)].nan_to_num()
    best = torch.full((n,), -math.inf, dtype=torch.float64)
    for shift in _SHIFTS:
        source = (index + shift).clamp(0, n - 1)
        known = (index + shift >= 0) & (index + shift < n) & (stretch[source] == stretch) & (amino_acid[source] >= 0)
        shifted = evidence[index, amino_acid[source].clamp(min=0)].nan_to_num()
        gain = torch.where(known, shifted - own, 0.0)
        best = best.maximum(_window_sum(gain, _REGISTER_WINDOW, stretch))
    return best


def _window_sum(values: Tensor, half: int, stretch: Tensor | None = None) -> Tensor:
    """(residue,) sums over neighbours up to ``half`` away, those of the same stretch where stretches are given."""
    total = values.clone()
    for step in range(1, min(half, len(values) - 1) + 1):
        if stretch is None:
            same = torch.ones(len(values) - step, dtype=values.dtype)
        else:
            same = (stretch[step:] == stretch[:-step]).to(values.dtype)
        total[step:] += values[:-step] * same
        total[:-step] += values[step:] * same
    return total
