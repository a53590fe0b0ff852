"""Coefficients of `kernels.models.placement_confidence`, written by `tasks.docking.confidence_fit`."""

from __future__ import annotations

# fmt: off
COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (
    # mean, scale, weight of each feature; constant
    (
        0.549719, 0.0322152, 2.86081, 0.750973, 4.84952, 0.430624, 0.637697,
    ),
    (
        0.272614, 0.0989133, 2.49263, 0.171566, 0.424877, 2.09837, 1.2489,
    ),
    (
        1.04482, 1.09037, 2.01424, 2.23296, 0.16892, -0.356435, 0.383644,
    ),
    -2.8414,
)
