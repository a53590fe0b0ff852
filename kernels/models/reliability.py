"""Probability that each amino acid of a model is right, by all that is judged of it, and verdicts on regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.assessment import Assessment
from kernels.models.reliability_coefficients import COEFFICIENTS

Coefficients = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float]
"""Mean, scale and weight of each feature; constant."""
_LEAST_RAMACHANDRAN = 1e-4
_USUAL_RAMACHANDRAN = 0.3
_MEAN_RESOLUTION_ANGSTROM = 3.5
TRUST_FROM = 0.8
REJECT_BELOW = 0.3
VERDICTS = ("trust", "rebuild", "not supported")
_SMOOTHED_OVER = 2
"""Residues on either side, for verdicts of regions."""

FEATURES = (
    "Q of the backbone", "Q of the side chain", "Q around", "correlation", "correlation around", "Ramachandran",
    "Ramachandran of the next residue", "phi of the next residue above zero", "rotamer", "clashes", "side-chain fit",
    "side-chain fit around", "side-chain misfit", "register shift", "carbonyl oxygen", "resolution",
    "side-chain fit around, by resolution", "register shift, by resolution", "carbonyl oxygen, by resolution",
    "Q around, by resolution",
)  # fmt: skip
"""Order of the columns and coefficients."""


def features(found: Assessment) -> Tensor:
    """(residue, feature) float64, in the order of `FEATURES`; what is not known counts as usual."""
    q_excess = (found.q_score - found.q_expected).nan_to_num()
    correlation = torch.atanh(found.correlation.clamp(-0.95, 0.98))
    usual = correlation[~correlation.isnan()].median() if bool((~correlation.isnan()).any()) else torch.tensor(0.0)
    correlation = (correlation - usual).nan_to_num()
    rama = found.ramachandran.nan_to_num(nan=_USUAL_RAMACHANDRAN).clamp(min=_LEAST_RAMACHANDRAN).log10()
    fit = found.side_chain_fit.nan_to_num()
    fit_around = around(fit, 4)
    register = found.register_shift
    oxygen = found.oxygen_density.nan_to_num(nan=0.5).clamp(-1.5, 1.5)
    blur = found.resolution_angstrom - _MEAN_RESOLUTION_ANGSTROM
    q_around = around(q_excess, 2)
    return torch.stack(
        [
            (found.q_backbone - found.q_expected).nan_to_num(),
            (found.q_side_chain - found.q_expected).nan_to_num(),
            q_around,
            correlation,
            around(correlation, 2),
            rama,
            _following(rama),
            _following((found.phi_deg > 0).double()),  # what a flipped peptide leaves behind it
            found.rotamer_deg.nan_to_num() / 30,
            found.n_clashes.log1p(),
            fit,
            fit_around,
            found.side_chain_misfit.nan_to_num().clamp(-1, 3),
            register,
            oxygen,
            blur,
            fit_around * blur,
            register * blur,
            oxygen * blur,
            q_around * blur,
        ],
        dim=1,
    )


def probabilities(found: Assessment) -> Tensor:
    """(residue,) probability that backbone, side chain and amino acid are right; NaN for what is no protein, see
    `nucleotide_reliability` for nucleotides.

    A logistic regression on `features`, fitted on planted errors by `tasks.validation.reliability_fit`. It is
    calibrated for models in which one residue in six is wrong.
    """
    is_protein = ~(found.side_chain_fit.isnan() | found.is_nucleotide)
    return torch.where(is_protein, regressed(features(found), COEFFICIENTS), math.nan)


def regressed(told: Tensor, coefficients: Coefficients) -> Tensor:
    """(residue,) probability by a logistic regression on features (residue, feature)."""
    mean, scale, weight = (torch.tensor(values, dtype=torch.float64) for values in coefficients[:3])
    return torch.sigmoid(((told - mean) / scale) @ weight + coefficients[3])


def verdicts(probability: Tensor, q_score: Tensor, q_expected: Tensor) -> Tensor:
    """(residue,) int64 index into `VERDICTS`, -1 where there is no probability.

    Of regions, so the logits of five residues are averaged: *trust* from 0.8 on; below it *not supported* where the
    density shows next to nothing of the residue (a Q-score below a third of what is expected), *rebuild* elsewhere.
    """
    known = ~probability.isnan()
    region = torch.sigmoid(around(logits(probability, 1e-4), _SMOOTHED_OVER))
    is_bare = around(q_score.nan_to_num(), _SMOOTHED_OVER) < around(q_expected, _SMOOTHED_OVER) / 3
    is_trusted = (region >= TRUST_FROM) & (probability >= REJECT_BELOW)
    verdict = torch.where(is_trusted, 0, torch.where(is_bare, 2, 1))
    return torch.where(known, verdict, -1)


def logits(probability: Tensor, least: float = 1e-3) -> Tensor:
    """(residue,) float64, of probabilities no nearer than ``least`` to 0 and 1; what is not known counts as even."""
    return torch.logit(probability.double().nan_to_num(nan=0.5).clamp(least, 1 - least))


def around(values: Tensor, half: int) -> Tensor:
    """(residue,) means over as many neighbours on either side as there are."""
    padded = torch.nn.functional.pad(values[None, None], (half, half))
    ones = torch.nn.functional.pad(torch.ones_like(values)[None, None], (half, half))
    kernel = torch.ones(1, 1, 2 * half + 1, dtype=values.dtype)
    summed, count = (torch.nn.functional.conv1d(v, kernel) for v in (padded, ones))
    return (summed / count)[0, 0]


def _following(values: Tensor) -> Tensor:
    """(residue,) those of the next residue; the last one's own at the end."""
    return torch.cat([values[1:], values[-1:]])
