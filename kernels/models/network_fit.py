"""How well the detection network's view of a map agrees with the amino acids of a model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.detections import ProteinDetections
from kernels.models.neighbours import nearest_first, pairs_within

_REACH_ANGSTROM = 2.5


def amino_acid_fit(model: AtomicModel, found: ProteinDetections) -> Tensor:
    """(residue,) logarithm of the probability of each residue's own amino acid over its mean along the model.

    Probabilities are those of the candidate nearest to the residue's Cα. NaN for what is no amino acid, and where no
    candidate lies within 2.5 Å.

    Source
    ------
    Terashi et al., Nature Methods 2022, 19:1116 (DAQ).
    """
    alpha = model.positions("CA")[:, 0]
    fit = torch.full((model.n_residues,), math.nan, dtype=torch.float64)
    rows = torch.nonzero((model.amino_acid >= 0) & alpha.isfinite().all(-1)).squeeze(1)
    i, j, distance = pairs_within(alpha[rows], found.alpha_angstrom.to(alpha), _REACH_ANGSTROM)
    if len(i) == 0:
        return fit
    nearest, _ = nearest_first(i, j, distance, len(rows))
    seen = nearest[:, 0] >= 0
    probability = found.amino_acid.to(alpha)[nearest[seen, 0]].clamp(min=1e-6)
    own = probability.gather(1, model.amino_acid[rows[seen], None]).squeeze(1)
    mean = probability.mean(0)[model.amino_acid[rows[seen]]]
    fit[rows[seen]] = (own / mean).log()
    return fit
