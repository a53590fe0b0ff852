"""A molecule in two states: part of it turned about a known axis, and the whole laid elsewhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.rotations import from_rotation_vector

ELSEWHERE = torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64), torch.tensor([31.0, -8.0, 12.0], dtype=torch.float64)
"""A rotation vector and a shift."""


def turned(
    model: AtomicModel, moves: Tensor, axis: Tensor, point: Tensor, angle_deg: float, shift: float
) -> AtomicModel:
    """The residues of a mask turned about an axis through a point, and shifted along it."""
    axis = axis / axis.norm()
    rotation = from_rotation_vector(axis * math.radians(angle_deg))
    place = model.coordinates_angstrom
    moved = (place - point) @ rotation.T + point + shift * axis
    return model.at(torch.where(moves[model.residue][:, None], moved, place))


def laid_elsewhere(model: AtomicModel, error_angstrom: float = 0.0, seed: int = 4) -> AtomicModel:
    """The whole in another frame, its atoms displaced by themselves."""
    generator = torch.Generator().manual_seed(seed)
    place = model.coordinates_angstrom @ from_rotation_vector(ELSEWHERE[0]).T + ELSEWHERE[1]
    error = torch.randn(place.shape, generator=generator, dtype=torch.float64)
    return model.at(place + error_angstrom / math.sqrt(3) * error)
