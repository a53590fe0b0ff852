"""Probability that a ligand stands as it was placed, from how the density shows it."""

from __future__ import annotations

import torch

from kernels.models.ligand_evidence import LigandEvidence

WEIGHTS = (1.46, 1.09, 4.36, 1.34, -5.2, 1.66, -0.52)
OFFSET = -5.98
"""Of `LigandEvidence.features`: a logistic regression on 49 fits to maps of 2.5 to 3.5 Å that were simulated from 8
complexes of PoseBusters, of which 7 were right; the others were other molecules, other pieces of density, and pockets
without a ligand. Right and wrong fits weigh the same: a probability of 0.5 is one where as many of one kind come to lie
as of the other, if half of what is tried is there. So few leave it coarse."""


def probability(found: LigandEvidence) -> float:
    """Within 2 Å RMSD of the truth, and the molecule that is really there."""
    weights = torch.tensor(WEIGHTS)
    return float(torch.sigmoid(found.features() @ weights + OFFSET))
