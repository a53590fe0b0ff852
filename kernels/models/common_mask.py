"""Models compared in one place of a map: inside of one mask around all of them.

Inside of its own mask a model does not answer for what it lacks: half of a good one agrees better than the whole does.
Inside of a mask around all, density that a model leaves bare counts against it, and so do atoms where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.map_fit import map_model_fsc, mean_fsc, model_density, soft_mask
from kernels.models.mates import Mates, copies

MARGIN_ANGSTROM = 12.0
"""Around atoms, beyond which their mask is zero."""


def ends(models: Sequence[AtomicModel], mates: Mates) -> Tensor:
    """(end, 3) Å: where the box around all copies of all models begins and ends."""
    places = torch.cat([mates.of(model.coordinates_angstrom).flatten(0, 1) for model in models])
    return torch.stack([places.amin(0), places.amax(0)])


def common_mask_fsc(
    grid: DensityGrid, models: Sequence[AtomicModel], mates: Mates, resolution_angstrom: float
) -> list[float]:
    """Of each model, mean FSC with a map inside of the mask around all of them, weighted as `mean_fsc` does.

    Memory: about 90 bytes a voxel, and one model with its copies at a time.

    Parameters
    ----------
    grid
        Of the map no more than the box between `ends` and `MARGIN_ANGSTROM` around is needed.
    mates
        By which each model makes up what the map shows.
    """
    mask = torch.zeros(grid.voxels.shape)
    for model in models:
        torch.maximum(mask, soft_mask(grid, joined(copies(model, mates))), out=mask)
    return [_mean_fsc(grid, joined(copies(model, mates)), mask, resolution_angstrom) for model in models]


def _mean_fsc(grid: DensityGrid, model: AtomicModel, mask: Tensor, resolution_angstrom: float) -> float:
    return mean_fsc(map_model_fsc(grid, model_density(model, grid), mask), grid, resolution_angstrom)
