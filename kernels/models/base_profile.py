"""What the density in the plane of a base says of its type."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.base_profile_coefficients import COEFFICIENTS
from kernels.models.nucleotide_building import model_frames
from kernels.models.real_space import DensityTarget

_X_ANGSTROM, _Y_ANGSTROM = (-4.0, 3.0), (-1.0, 6.0)
_STEP_ANGSTROM = 1.0
_SUGAR = ("C1'", "C3'", "C4'", "O3'")
_NEIGHBOURS = 2
"""Nucleotides on either side whose backbones tell how strong density is here."""


def base_profile(model: AtomicModel, density: DensityTarget) -> Tensor:
    """(residue, place) float64 density on a square grid of 1 Å in the plane of each base, in units of its backbone's.

    Only the plane of the base matters, and which way its sugar lies: not what base stands there. NaN for residues that
    are no whole nucleotides.
    """
    origin, axes = model_frames(model)
    axis_x, axis_y = (
        torch.arange(low, high + 0.5, _STEP_ANGSTROM).double() for low, high in (_X_ANGSTROM, _Y_ANGSTROM)
    )
    x, y = (values.reshape(-1) for values in torch.meshgrid(axis_x, axis_y, indexing="ij"))
    points = origin[:, None] + x[:, None] * axes[:, None, 0] + y[:, None] * axes[:, None, 1]
    known = ~points.isnan().any(-1).any(-1)
    values = density(points.nan_to_num().flip(-1)).double()
    level = sugar_level(model, density)
    return torch.where(known[:, None], (values / level[:, None]).clamp(-1.5, 2.5), torch.nan)


def sugar_level(model: AtomicModel, density: DensityTarget) -> Tensor:
    """(residue,) mean density at the sugars of a nucleotide and its neighbours; not below a tenth of the usual.

    Nucleotides without a whole sugar or base do not count.
    """
    known = ~model_frames(model)[0].isnan().any(-1)
    level = density(model.positions(*_SUGAR).nan_to_num()).double().mean(1) * known
    ones = torch.ones(1, 1, 2 * _NEIGHBOURS + 1, dtype=torch.float64)
    summed, count = (
        torch.nn.functional.conv1d(v[None, None], ones, padding=_NEIGHBOURS)[0, 0] for v in (level, known.double())
    )
    return (summed / count.clamp(min=1)).clamp(min=0.1)


def base_types(profile: Tensor) -> Tensor:
    """(residue, 4) probabilities of types, all equally likely before; 1/4 each where the profile is not known.

    A softmax regression on `base_profile`; `base_profile_coefficients` tells what it was fitted on.
    """
    mean, weight, offset = (torch.tensor(values, dtype=torch.float64) for values in COEFFICIENTS)
    known = ~profile.isnan().any(-1, keepdim=True)
    told = ((profile.nan_to_num() - mean) @ weight.T + offset).softmax(-1)
    return torch.where(known, told, 0.25)
