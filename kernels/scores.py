"""Scores that compare what was found with what is known."""

from __future__ import annotations

import torch
from torch import Tensor


def matched_points(found: Tensor, true: Tensor, radius: float) -> Tensor:
    """One-to-one matches: pairs that are each other's nearest and no further apart than ``radius``.

    Pairs are taken in rounds, matched points leave, until no mutual pair is left; so a point near two others is
    given to one of them only.

    Parameters
    ----------
    found, true
        (n, d) and (m, d) positions, in the unit of ``radius``.

    Returns
    -------
    (n,) int64 index of the matched true point, -1 where there is none.
    """
    match = torch.full((len(found),), -1, dtype=torch.long)
    if len(found) == 0 or len(true) == 0:
        return match
    distance = torch.cdist(found.double(), true.double())
    distance[distance > radius] = torch.inf
    rows = torch.arange(len(found))
    while True:
        nearest = distance.argmin(1)
        is_mutual = (distance.argmin(0)[nearest] == rows) & torch.isfinite(distance[rows, nearest])
        if not is_mutual.any():
            return match
        match[is_mutual] = nearest[is_mutual]
        distance[is_mutual] = torch.inf
        distance[:, nearest[is_mutual]] = torch.inf


def precision_and_recall(found: Tensor, true: Tensor, radius: float) -> tuple[float, float]:
    """Share of the found points that are true ones, and of the true points that were found (see `matched_points`)."""
    n_matched = int((matched_points(found, true, radius) >= 0).sum())
    return n_matched / max(1, len(found)), n_matched / max(1, len(true))


def trajectory_error(found: Tensor, true: Tensor) -> float:
    """RMS length of the difference of trajectories (..., frame, yx), each counted from its own mean position."""
    difference = (found - found.mean(-2, keepdim=True)) - (true - true.mean(-2, keepdim=True))
    return float(difference.square().sum(-1).mean().sqrt())


def area_under_curve(score: Tensor, is_positive: Tensor) -> float:
    """Area under the receiver operating characteristic: how often a positive scores higher than a negative; ties half.

    Parameters
    ----------
    score, is_positive
        (n,) with at least one of each.
    """
    values, rank = torch.unique(score.double(), return_inverse=True)
    positive = torch.bincount(rank[is_positive], minlength=len(values)).double()
    negative = torch.bincount(rank[~is_positive], minlength=len(values)).double()
    below = negative.cumsum(0) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def expected_calibration_error(probability: Tensor, is_right: Tensor, n_bins: int = 10) -> float:
    """Mean difference between what probabilities promise and what came true, over equal bins, weighted by their sizes.

    Parameters
    ----------
    probability, is_right
        (n,) of at least one case.
    """
    bins = (probability * n_bins).long().clamp(max=n_bins - 1)
    promised = torch.zeros(n_bins, dtype=torch.float64).index_add_(0, bins, probability.double())
    came_true = torch.zeros(n_bins, dtype=torch.float64).index_add_(0, bins, is_right.double())
    return float((promised - came_true).abs().sum() / len(probability))
