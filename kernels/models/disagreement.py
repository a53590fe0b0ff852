"""Where a prediction and a model of the map disagree, and which of them the map speaks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.disagreement_coefficients import COEFFICIENTS
from kernels.models.reliability import around, logits, regressed

_LDDT_REACH_ANGSTROM = 15.0
_LDDT_STEPS_ANGSTROM = (0.5, 1.0, 2.0, 4.0)
_USUAL_LDDT = 0.5
"""Where nothing stands that a residue could be compared with."""

SIDES = ("agree", "map", "prediction", "not built", "not seen", "undecided")
"""Who is right about a residue: both; the model of the map; the prediction; the prediction, where nothing was built;
nobody, since the map shows nothing where a residue is predicted; or that is not known."""
AGREE, MAP, PREDICTION, NOT_BUILT, NOT_SEEN, UNDECIDED = range(6)
_AGREEING_LDDT = 0.7
_RIGHT, _WRONG = 0.65, 0.35

DISAGREEMENT_FEATURES = (
    "lDDT to the model", "the same around", "probability of the model", "probability of the prediction",
    "the same around", "pLDDT", "nothing built", "difference by the model's probability",
)  # fmt: skip
"""Order of the columns and coefficients."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Each residue of a prediction beside what stands for it in the model of the map."""

    lddt: Tensor
    """(residue,) of Cα or C4' to the model, 0 to 1; NaN where the model has nothing."""
    built: Tensor
    """(residue,) probability that the model's residue is right; NaN where it has none."""
    predicted: Tensor
    """(residue,) the same of the predicted residue, as it lies in the map."""
    plddt: Tensor
    """(residue,) 0 to 100."""


def local_distance_agreement(place: Tensor, reference: Tensor) -> Tensor:
    """(residue,) lDDT of places (residue, 3) against others: no superposition is needed; NaN where one is not known.

    Share of the distances to other residues, of those that are below 15 Å in the reference, that differ by less than
    0.5, 1, 2 and 4 Å.

    Source
    ------
    Mariani et al. 2013, Bioinformatics 29:2722. Memory: 25 bytes a pair of residues.
    """
    known = place.isfinite().all(-1) & reference.isfinite().all(-1)
    own, other = (torch.cdist(v.nan_to_num(), v.nan_to_num()) for v in (place, reference))
    counted = (other < _LDDT_REACH_ANGSTROM) & known[:, None] & known
    counted.fill_diagonal_(False)
    off = (own - other).abs()
    kept = torch.stack([((off < step) & counted).sum(1) for step in _LDDT_STEPS_ANGSTROM]).double().mean(0)
    n = counted.sum(1)
    return torch.where(known & (n > 0), kept / n.clamp(min=1), torch.nan)


def disagreement_features(found: Compared) -> Tensor:
    """(residue, feature) float64, in the order of `DISAGREEMENT_FEATURES`; what is not known counts as usual."""
    lddt = found.lddt.nan_to_num(nan=_USUAL_LDDT).double()
    built, predicted = logits(found.built), logits(found.predicted)
    return torch.stack(
        [
            lddt,
            around(lddt, 3),
            built,
            predicted,
            around(predicted, 3),
            found.plddt.double() / 100,
            found.built.isnan().double(),
            (1 - lddt) * torch.sigmoid(built),
        ],
        dim=1,
    )


def probability_wrong(found: Compared) -> Tensor:
    """(residue,) probability that the prediction is wrong there, about itself or in the state that the map shows.

    A logistic regression on `disagreement_features`, fitted by `tasks.verdict.disagreement_fit`; calibrated for
    predictions of which one residue in six is wrong.
    """
    return regressed(disagreement_features(found), COEFFICIENTS)


def sides(found: Compared) -> Tensor:
    """(residue,) int64 index into `SIDES`."""
    wrong = probability_wrong(found)
    built, predicted = found.built.nan_to_num(nan=0.5), found.predicted.nan_to_num(nan=0.5)
    is_absent = found.built.isnan()
    agrees = (found.lddt.nan_to_num(nan=0.0) >= _AGREEING_LDDT) & ~is_absent
    side = torch.full(found.lddt.shape, UNDECIDED)
    side[(wrong >= _RIGHT) & (built >= _RIGHT) & ~is_absent] = MAP
    side[(wrong <= _WRONG) & (predicted >= _RIGHT) & (built < predicted)] = PREDICTION
    side[agrees & (wrong < _RIGHT)] = AGREE
    side[is_absent & (predicted >= _RIGHT)] = NOT_BUILT
    side[is_absent & (predicted <= _WRONG)] = NOT_SEEN
    return side
