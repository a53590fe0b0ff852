"""Predictions with stretches that are wrong in the ways in which predictions are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.predicted_structure import PredictedStructure
from kernels.models.superposition import superposition
from kernels.rotations import from_rotation_vector

_SHORTEST, _LONGEST = 6, 16
_BULGE_ANGSTROM = (4.0, 9.0)
_SWING_RAD = (0.6, 1.4)
_WRONG_PLDDT = (74.0, 12.0)
"""Mean and standard deviation of what an engine says of wrong stretches: lower than elsewhere, not always low."""


@dataclass(frozen=True, eq=False)
class PartlyWrong:
    """A prediction, and which of its residues were put elsewhere."""

    prediction: PredictedStructure
    is_planted: Tensor
    """(residue,)"""


def with_wrong_stretches(predicted: PredictedStructure, share: float, generator: torch.Generator) -> PartlyWrong:
    """Loops that bulge elsewhere, stretches that swing about an end, and backbones shifted along the chain."""
    model = predicted.model
    n = model.n_residues
    place = model.coordinates_angstrom.clone()
    planted = torch.zeros(n, dtype=torch.bool)

    def number(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    alpha = model.positions("CA")[:, 0]
    while float(planted.double().mean()) < share and n > 2 * _LONGEST:
        length = round(number(_SHORTEST, _LONGEST))
        first = int(torch.randint(1, n - length - 2, (), generator=generator))
        own = torch.arange(first, first + length)
        if planted[first - 1 : first + length + 1].any():
            if float(planted.double().mean()) > share - 0.02:
                break
            continue
        planted[own] = True
        atoms = torch.isin(model.residue, own)
        along = ((model.residue[atoms] - first + 1).double() / (length + 1))[:, None]
        axis = torch.nn.functional.normalize(torch.randn(3, generator=generator, dtype=torch.float64), dim=0)
        kind = int(torch.randint(3, (), generator=generator))
        if kind == 0:
            place[atoms] += number(*_BULGE_ANGSTROM) * torch.sin(math.pi * along) * axis
        elif kind == 1:
            turn = from_rotation_vector(axis * number(*_SWING_RAD))
            place[atoms] = (place[atoms] - alpha[first - 1]) @ turn.T + alpha[first - 1]
        else:
            place[atoms] = _shifted(model, own)[torch.isin(model.residue, own)]
    told = torch.normal(*_WRONG_PLDDT, (n,), generator=generator).clamp(35, 97)
    plddt = torch.where(planted, torch.minimum(told, predicted.plddt + 5), predicted.plddt)
    return PartlyWrong(replace(predicted, model=model.at(place), plddt=plddt), planted)


def _shifted(model: AtomicModel, own: Tensor) -> Tensor:
    """(atom, 3) places of atoms if each of some residues lay as the one after it does."""
    frames = model.positions("N", "CA", "C")
    weight = torch.ones(len(own), 3, dtype=torch.float64)
    rotation, shift = superposition(frames[own], frames[own + 1], weight)
    place = model.coordinates_angstrom.clone()
    atoms = torch.isin(model.residue, own)
    index = model.residue[atoms] - own[0]
    place[atoms] = (place[atoms][:, None] @ rotation[index] + shift[index])[:, 0]
    return place
