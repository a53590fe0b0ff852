"""Points laid on points."""

from __future__ import annotations

import torch
from torch import Tensor


def superposition(moving: Tensor, fixed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (..., 3, 3) and shifts (..., 1, 3) that lay points (..., point, 3) as rows on others.

    Source
    ------
    Kabsch, Acta Cryst. 1976, A32:922, with weights (..., point).
    """
    share = (weight / weight.sum(-1, keepdim=True))[..., None]
    middle, target = (share * moving).sum(-2, keepdim=True), (share * fixed).sum(-2, keepdim=True)
    u, _, vh = torch.linalg.svd((share * (moving - middle)).mT @ (fixed - target))
    hand = torch.ones_like(u[..., 0, :])
    hand[..., 2] = torch.sign(torch.linalg.det(u @ vh))
    rotation = (u * hand[..., None, :]) @ vh
    return rotation, target - middle @ rotation


def superposed(coordinates: Tensor, moving: Tensor, fixed: Tensor) -> Tensor:
    """Coordinates (n, 3) moved as ``moving`` (m, 3) is laid over ``fixed`` (m, 3)."""
    rotation, shift = superposition(moving, fixed, torch.ones_like(moving[:, 0]))
    return coordinates @ rotation + shift


def rmsd(first: Tensor, second: Tensor) -> float:
    """Root of the mean squared distance between places (n, 3), as they stand."""
    return float((first - second).square().sum(-1).mean().sqrt())


def least_rmsd(first: Tensor, second: Tensor) -> float:
    """The same once the first is laid over the second."""
    return rmsd(superposed(first, first, second), second)
