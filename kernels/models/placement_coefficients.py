"""Coefficients of `kernels.models.placement_confidence`, written by `tasks.docking.confidence_fit`."""

from __future__ import annotations

# fmt: off
COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (
    # mean, scale, weight of each feature; constant
    (
        0.682245, 0.0327355, 2.67699, 0.791596, 4.88226, 1.55703, 1.29989, 0.0367602, 0.0295118,
    ),
    (
        0.238324, 0.0961956, 2.20911, 0.182141, 0.418784, 1.69204, 1.2762, 0.0870022, 0.0862336,
    ),
    (
        0.234165, 1.16517, 1.11547, 1.69822, 0.0532938, -0.405553, 0.475482, 1.15017, 1.1073,
    ),
    -2.01947,
)
