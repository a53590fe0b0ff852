"""Coefficients of `kernels.models.placement_confidence`, written by `tasks.docking.confidence_fit`."""

from __future__ import annotations

# fmt: off
COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (
    # mean, scale, weight of each feature; constant
    (
        0.686386, 0.0321289, 2.6353, 0.78955, 4.83374, 1.55703, 1.29271, 0.0367963, 0.0306628,
    ),
    (
        0.22853, 0.0941081, 2.04841, 0.180557, 0.481442, 1.69204, 1.2576, 0.0835461, 0.0835832,
    ),
    (
        0.18564, 0.93069, 1.25312, 1.74449, 0.0535083, -0.445469, 0.709516, 0.771909, 0.820404,
    ),
    -2.0885,
)
