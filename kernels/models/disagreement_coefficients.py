"""Coefficients of `kernels.models.disagreement`, written by `tasks.verdict.disagreement_fit`."""

from __future__ import annotations

# fmt: off
COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (
    # mean, scale, weight of each feature; constant
    (
        0.600143, 0.603459, 2.40949, 0.60527, 0.711102, 0.831915, 0.173766, 0.300756,
    ),
    (
        0.166517, 0.131129, 2.89786, 4.75312, 4.26701, 0.10168, 0.378988, 0.175122,
    ),
    (
        -3.39011, -0.630011, -0.0559022, -1.12454, -0.540331, -0.551127, -1.59217, 1.59885,
    ),
    1.31659,
)
