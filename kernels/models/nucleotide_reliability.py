"""Probability that each nucleotide of a model is right, from everything that is judged of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.assessment import Assessment
from kernels.models.nucleotide_reliability_coefficients import COEFFICIENTS
from kernels.models.reliability import around, regressed

_MEAN_RESOLUTION_ANGSTROM = 3.25

NUCLEOTIDE_FEATURES = (
    "Q of the backbone", "Q of the base", "Q around", "correlation", "correlation around", "clashes", "base fit",
    "base fit around", "register shift", "base as it stands over it turned", "the same around", "pair fit",
    "has a pair", "resolution", "base fit around, by resolution", "register shift, by resolution",
    "base as it stands over it turned, by resolution", "Q around, by resolution",
)  # fmt: skip
"""Order of the columns and coefficients."""


def nucleotide_features(found: Assessment) -> Tensor:
    """(residue, feature) float64, in the order of `NUCLEOTIDE_FEATURES`; what is not known counts as usual."""
    own = found.is_nucleotide
    q_excess = torch.where(own, found.q_score - found.q_expected, 0.0).nan_to_num()
    correlation = torch.atanh(found.correlation.clamp(-0.95, 0.98))
    known = own & ~correlation.isnan()
    usual = correlation[known].median() if bool(known.any()) else torch.tensor(0.0)
    correlation = torch.where(known, correlation - usual, 0.0)
    fit = torch.where(own, found.side_chain_fit, 0.0).nan_to_num().clamp(-4, 2)
    register = torch.where(own, found.register_shift, 0.0).nan_to_num().clamp(-30, 30)
    contrast = found.base_contrast.nan_to_num().clamp(-2, 2)
    pair = found.pair_fit.nan_to_num()
    blur = found.resolution_angstrom - _MEAN_RESOLUTION_ANGSTROM
    fit_around, q_around = around(fit, 3), around(q_excess, 2)
    return torch.stack(
        [
            (found.q_backbone - found.q_expected).nan_to_num(),
            (found.q_side_chain - found.q_expected).nan_to_num(),
            q_around,
            correlation,
            around(correlation, 2),
            found.n_clashes.log1p(),
            fit,
            fit_around,
            register,
            contrast,
            around(contrast, 1),
            pair.clamp(-3, 3),
            (pair != 0).double(),
            blur,
            fit_around * blur,
            register * blur,
            contrast * blur,
            q_around * blur,
        ],
        dim=1,
    )


def nucleotide_probabilities(found: Assessment) -> Tensor:
    """(residue,) probability that backbone, base and type are right; NaN for what is no whole nucleotide.

    A logistic regression on `nucleotide_features`, fitted on planted errors by
    `tasks.validation.nucleotide_reliability_fit`. It is calibrated for models in which one nucleotide in six is wrong.
    """
    return torch.where(found.is_nucleotide, regressed(nucleotide_features(found), COEFFICIENTS), math.nan)
