"""Probability that a body lies where it was placed, from what speaks for it."""

from __future__ import annotations

from torch import Tensor

from kernels.models.placement_coefficients import COEFFICIENTS
from kernels.models.placement_evidence import PlacementEvidence
from kernels.models.reliability import regressed


def placement_probability(found: PlacementEvidence) -> Tensor:
    """(pose,) float64, that the residues lie within 4 Å RMSD of where they are.

    A logistic regression on `PlacementEvidence.features`, fitted by `tasks.docking.confidence_fit` on proteins and
    parts of 25 and more residues placed in simulated maps of 3 to 10 Å: the 112 complexes that are not held out. It is
    calibrated for maps that show every second protein that is offered.
    """
    return regressed(found.features(), COEFFICIENTS)
