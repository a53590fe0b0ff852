"""Coefficients of `kernels.models.placement_confidence`, written by `tasks.docking.confidence_fit`."""

from __future__ import annotations

# fmt: off
COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (
    # mean, scale, weight of each feature; constant
    (
        0.483037, 0.0437607, 3.00203, 0.808588, 4.80363, 0.476672, 0.532285,
    ),
    (
        0.251009, 0.115005, 2.6763, 0.183038, 0.392887, 2.05607, 1.10149,
    ),
    (
        0.436847, 1.5924, 1.28008, 1.85683, -0.376607, 0.102335, -0.155496,
    ),
    -2.52052,
)
