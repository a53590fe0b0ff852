"""Soft masks: discs, balls, and envelopes of maps.

A soft mask is 1 inside and falls to 0 along a raised cosine of ``edge_px`` pixels that begins at the boundary given,
so it never cuts into what it keeps. The centre of discs and balls is the origin, element ``n // 2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import fourier

_COARSE_ANGSTROM, _STRONG_SHARE, _LEAST_DENSITY = 15.0, 0.998, 0.2
"""What half maps show lies above this share of their strong places at 15 Å."""
_AROUND_ANGSTROM, _EDGE_ANGSTROM = 5.0, 8.0


def soft_circle(
    n: int | Sequence[int], radius_px: float, edge_px: float = 0.0, *, device: torch.device | str = "cpu"
) -> Tensor:
    """(y, x) disc of 1 up to ``radius_px``; ``n`` is the side, or the shape (y, x)."""
    shape = (n, n) if isinstance(n, int) else tuple(n)
    return falling_edge(distance_from_origin(shape, device=device), radius_px, edge_px)


def soft_sphere(
    n: int | Sequence[int], radius_px: float, edge_px: float = 0.0, *, device: torch.device | str = "cpu"
) -> Tensor:
    """(z, y, x) ball of 1 up to ``radius_px``; ``n`` is the side, or the shape (z, y, x)."""
    shape = (n, n, n) if isinstance(n, int) else tuple(n)
    return falling_edge(distance_from_origin(shape, device=device), radius_px, edge_px)


def soft_mask_from_map(density: Tensor, threshold: float, extend_px: float, edge_px: float) -> Tensor:
    """Envelope of what lies above a threshold, made wider and given a soft edge.

    Parameters
    ----------
    density
        (..., z, y, x) map, or any image whose last three axes are space.
    threshold
        Voxels above it are inside.
    extend_px
        The envelope reaches this far beyond them (Euclidean distance).
    edge_px
        Width of the cosine edge outside of that.

    Returns
    -------
    float32 mask of the map's shape. Needs about four times the map's memory.
    """
    inside = density > threshold
    if not bool(inside.any()):
        raise ValueError(
            f"mask: no voxel lies above {threshold:g}, the largest is {float(density.max()):g}; lower the threshold"
        )
    distance = distance_outside(inside, extend_px + edge_px + 1)
    return falling_edge(distance, extend_px, edge_px)


def mask_of_halves(half_1: Tensor, half_2: Tensor, voxel_size_angstrom: float) -> Tensor:
    """(z, y, x) soft mask around what two half maps of another program show at 15 Å, with 5 Å around it."""
    mean = fourier.low_passed((half_1 + half_2) / 2, voxel_size_angstrom, _COARSE_ANGSTROM)
    strong = float(mean.flatten().kthvalue(math.ceil(_STRONG_SHARE * mean.numel())).values)
    around, edge = _AROUND_ANGSTROM / voxel_size_angstrom, _EDGE_ANGSTROM / voxel_size_angstrom
    return soft_mask_from_map(mean, _LEAST_DENSITY * strong, around, edge)


def falling_edge(distance: Tensor, boundary: float, edge: float) -> Tensor:
    """1 where ``distance <= boundary``, 0 beyond ``boundary + edge``, a raised cosine between; any one unit."""
    if edge <= 0:
        return (distance <= boundary).to(distance.dtype)
    step = ((distance - boundary) / edge).clamp(0, 1)
    return 0.5 * (1 + torch.cos(math.pi * step))


def distance_from_origin(shape: Sequence[int], *, device: torch.device | str = "cpu") -> Tensor:
    """(\\*shape) float32 distance in pixels from element ``n // 2`` of each axis."""
    squared = torch.zeros(1, device=device)
    for axis, n in enumerate(shape):
        along = torch.arange(n, dtype=torch.float32, device=device) - n // 2
        squared = squared + (along**2).reshape(-1, *[1] * (len(shape) - axis - 1))
    return squared.sqrt()


def distance_outside(inside: Tensor, reach_px: float, ndim: int = 3) -> Tensor:
    """Euclidean distance in pixels to the nearest element that is inside, exact up to ``reach_px``, larger beyond.

    Separable lower envelope of parabolas within the reach, over the last ``ndim`` axes; 0 inside.
    """
    reach = math.ceil(reach_px)
    far = float((reach + 1) ** 2)
    squared = torch.where(inside, 0.0, far)
    for axis in range(-ndim, 0):
        nearest = squared.clone()
        n = squared.shape[axis]
        for step in range(1, min(reach, n - 1) + 1):
            low, high = squared.narrow(axis, 0, n - step), squared.narrow(axis, step, n - step)
            torch.minimum(nearest.narrow(axis, step, n - step), low + step**2, out=nearest.narrow(axis, step, n - step))
            torch.minimum(nearest.narrow(axis, 0, n - step), high + step**2, out=nearest.narrow(axis, 0, n - step))
        squared = nearest
    return squared.sqrt()
