"""Geometry of protein models: Cβ deviations, bond lengths and angles of the backbone, rotamers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import place
from kernels.models.ramachandran import is_cis, peptide_before
from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.models.torsions import rotamers, side_chain_torsions

CBETA_OUTLIER_ANGSTROM = 0.25
BOND_OUTLIER_SIGMA = 4.0
ROTAMER_OUTLIER_DEG = 40.0
"""Further than this from every rotamer with any chi; 2 % of well ordered residues of crystal structures are."""

_IDEAL_BETA = {
    # letters: bond Å, angle C-CA-CB, dihedral N-C-CA-CB, angle N-CA-CB, dihedral C-N-CA-CB
    "A": (1.536, 110.1, 122.9, 110.6, -122.6),
    "P": (1.530, 112.2, 115.1, 103.0, -120.7),
    "ITV": (1.540, 109.1, 123.4, 111.5, -122.0),
    "CDEFHKLMNQRSWY": (1.530, 110.1, 122.8, 110.5, -122.6),
}
"""Source: Lovell et al., Proteins 2003, 50:437, as MolProbity has them."""

_TETRAHEDRAL_WELLS_DEG = (-60.0, 60.0, 180.0)
_LISTED_CHI = {"K": 2, "R": 2, "M": 2}
"""Of long side chains the first chi are compared with the list of rotamers, where rare combinations are missing."""
_STAGGERED_CHI = {"K": 4, "R": 3, "M": 3}
"""And those up to this one with the three staggered places; the last of arginine is a plane that turns freely."""
_HALF_TURN = "DEFY"
"""Side chains that end in a plane whose two sides are alike."""

_BONDS = ("N-CA", "CA-C", "C-O", "C-N")
_ANGLES = ("N-CA-C", "CA-C-O", "CA-C-N", "O-C-N", "C-N-CA")
_IDEAL_BONDS = {
    "": ((1.459, 0.020), (1.525, 0.026), (1.229, 0.019), (1.336, 0.023)),
    "G": ((1.456, 0.015), (1.514, 0.016), (1.232, 0.016), (1.326, 0.018)),
    "P": ((1.468, 0.017), (1.524, 0.020), (1.228, 0.020), (1.338, 0.019)),
}
_IDEAL_ANGLES = {
    "": ((111.0, 2.7), (120.1, 2.1), (117.2, 2.2), (122.7, 1.6), (121.7, 2.5)),
    "G": ((113.1, 2.5), (120.6, 1.8), (116.2, 2.0), (123.2, 1.7), (122.3, 2.1)),
    "P": ((112.1, 2.6), (120.2, 2.4), (117.1, 2.8), (121.1, 1.9), (119.3, 1.5)),
}
"""Mean and standard deviation of `_BONDS` in Å and `_ANGLES` in degrees; the last of each are counted for the residue
after, whose nitrogen they reach."""
_CIS_PROLINE_ANGLE_DEG = (127.0, 2.4)
"""Source: Engh & Huber, International Tables for Crystallography 2001, vol. F, table 18.3.2.3."""


def cbeta_deviations(model: AtomicModel) -> Tensor:
    """(residue,) distance in Å of CB from where N, CA and C put it; NaN where there is none.

    Source
    ------
    Lovell et al., Proteins 2003, 50:437: the mean of two constructions, at the ideal distance.
    """
    nitrogen, alpha, carbon, beta = model.positions("N", "CA", "C", "CB").flip(-1).unbind(1)
    deviation = torch.full((model.n_residues,), math.nan, dtype=torch.float64)
    for letters, (bond, at_carbon, by_nitrogen, at_nitrogen, by_carbon) in _IDEAL_BETA.items():
        chosen = _is_any(model, letters)
        n, a, c = nitrogen[chosen], alpha[chosen], carbon[chosen]
        first = place(n, c, a, bond, math.radians(at_carbon), torch.tensor(math.radians(by_nitrogen)))
        second = place(c, n, a, bond, math.radians(at_nitrogen), torch.tensor(math.radians(by_carbon)))
        ideal = a + bond * torch.nn.functional.normalize((first + second) / 2 - a, dim=-1)
        deviation[chosen] = (beta[chosen] - ideal).norm(dim=-1)
    return deviation


def backbone_deviations(model: AtomicModel) -> tuple[Tensor, Tensor]:
    """How far bonds and angles of the backbone are from ideal ones, in standard deviations.

    Returns
    -------
    (residue, 4) bonds N-CA, CA-C, C-O, and C-N to the next residue; (residue, 5) angles N-CA-C, CA-C-O, CA-C-N, O-C-N,
    and C-N-CA at the next residue. NaN where an atom is missing or no next residue is bound.
    """
    nitrogen, alpha, carbon, oxygen = model.positions("N", "CA", "C", "O").unbind(1)
    beyond = torch.full((1, 3), math.nan, dtype=nitrogen.dtype)
    linked = model.is_linked()[:, None]
    following, alpha_after = (
        torch.where(linked, torch.cat([atom[1:], beyond]), math.nan) for atom in (nitrogen, alpha)
    )
    bonds = torch.stack(
        [
            (alpha - nitrogen).norm(dim=-1),
            (carbon - alpha).norm(dim=-1),
            (oxygen - carbon).norm(dim=-1),
            (following - carbon).norm(dim=-1),
        ],
        dim=1,
    )
    angles = torch.stack(
        [
            _angle_deg(nitrogen, alpha, carbon),
            _angle_deg(alpha, carbon, oxygen),
            _angle_deg(alpha, carbon, following),
            _angle_deg(oxygen, carbon, following),
            _angle_deg(carbon, following, alpha_after),
        ],
        dim=1,
    )
    own = _ideals(model)
    after = torch.cat([own[1:], own[-1:]])
    # the bond C-N and what stands at its nitrogen are those of the residue after
    ideal = torch.cat([own[:, :3], after[:, 3:4], own[:, 4:5], own[:, 5:6], after[:, 6:]], dim=1)
    found = torch.cat([bonds, angles], dim=1)
    deviation = (found - ideal[..., 0]) / ideal[..., 1]
    is_protein = (model.amino_acid >= 0)[:, None]
    deviation = torch.where(is_protein, deviation, math.nan)
    return deviation[:, : len(_BONDS)], deviation[:, len(_BONDS) :]


def _ideals(model: AtomicModel) -> Tensor:
    """(residue, bond or angle, 2)"""
    ideal = _ideal("").repeat(model.n_residues, 1, 1)
    for letter in "GP":
        ideal[_is_any(model, letter)] = _ideal(letter)
    cis = _is_any(model, "P") & is_cis(peptide_before(model))
    ideal[cis, -1] = torch.tensor(_CIS_PROLINE_ANGLE_DEG, dtype=torch.float64)
    return ideal


def _ideal(letter: str) -> Tensor:
    return torch.tensor([*_IDEAL_BONDS[letter], *_IDEAL_ANGLES[letter]], dtype=torch.float64)


def _angle_deg(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    first, second = torch.nn.functional.normalize(a - b, dim=-1), torch.nn.functional.normalize(c - b, dim=-1)
    return torch.rad2deg(torch.arccos((first * second).sum(-1).clamp(-1, 1)))


def rotamer_deviations_deg(model: AtomicModel) -> Tensor:
    """(residue,) largest difference of any chi from the rotamer that is nearest so; NaN without side chain or atoms.

    Rotamers are those of `torsions.rotamers`.
    """
    chi = side_chain_torsions(model)
    deviation = torch.full((model.n_residues,), math.nan, dtype=torch.float64)
    wells = torch.deg2rad(torch.tensor(_TETRAHEDRAL_WELLS_DEG, dtype=torch.float64))
    for letter in AMINO_ACID_LETTERS:
        chosen = _is_any(model, letter)
        known = rotamers(letter).chi_rad
        n_chi = _LISTED_CHI.get(letter, known.shape[1])
        if n_chi == 0 or not bool(chosen.any()):
            continue
        period = torch.full((n_chi,), math.tau, dtype=torch.float64)
        if letter in _HALF_TURN:
            period[-1] = math.pi
        listed = _turn(chi[chosen][:, None, :n_chi] - known[None, :, :n_chi], period).abs().amax(-1).amin(-1)
        rest = chi[chosen][:, n_chi : _STAGGERED_CHI.get(letter, n_chi), None] - wells
        if rest.shape[1]:
            listed = listed.maximum(_turn(rest, torch.tensor(math.tau)).abs().amin(-1).amax(-1))
        deviation[chosen] = torch.rad2deg(listed)
    return deviation


def _turn(angle_rad: Tensor, period_rad: Tensor) -> Tensor:
    """The same angles within half a period of zero."""
    return torch.remainder(angle_rad + period_rad / 2, period_rad) - period_rad / 2


def _is_any(model: AtomicModel, letters: str) -> Tensor:
    numbers = torch.tensor([AMINO_ACID_LETTERS.index(letter) for letter in letters])
    return torch.isin(model.amino_acid, numbers)
