"""Density of a map in which nothing was built."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.grid import DensityGrid
from kernels.maps.refinement import low_pass
from kernels.masks import distance_outside
from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_places import representatives

_SEEN_ANGSTROM = 8.0
"""Resolution at which a molecule is one piece."""
_LEAST_DENSITY = 0.35
"""Of the median at the residues of the model: at 8 Å it surrounds the volume of the molecule."""
_BUILT_ANGSTROM = 4.0
"""Around atoms."""
_SPACING_ANGSTROM = 3.0
_RESIDUE_ANGSTROM3 = 133.0
"""Of the usual 110 Da at 0.73 cm³/g."""


@dataclass(frozen=True, eq=False)
class UnbuiltDensity:
    """Places in density without a model, on a lattice."""

    places_angstrom: Tensor
    """(place, 3) float64"""
    local_resolution_angstrom: Tensor
    """(place,) float64"""
    residues_a_place: float
    """That its share of the volume has room for."""


def unbuilt_density(model: AtomicModel, grid: DensityGrid, local_resolution: DensityGrid) -> UnbuiltDensity:
    """Where a map shows a molecule at 8 Å and a model has no atom near.

    Parameters
    ----------
    grid, local_resolution
        A map of a cubic box, and its resolution from place to place in Å: 0 outside of its mask.
    """
    shape, voxel = grid.voxels.shape, grid.voxel_size_angstrom
    filtered = fourier.transform(grid.voxels.float(), 3) * low_pass(shape[0], voxel, _SEEN_ANGSTROM, "cpu")
    blurred = fourier.inverse(filtered, shape)
    size = torch.tensor(shape)
    known = representatives(model)
    at_residues = grid.to_voxels(known[known.isfinite().all(-1)]).round().long()
    at_residues = at_residues[((at_residues >= 0) & (at_residues < size)).all(1)]
    level = _LEAST_DENSITY * blurred[tuple(at_residues.T)].median()
    at_atoms = grid.to_voxels(model.coordinates_angstrom).round().long().clamp(min=0).minimum(size - 1)
    occupied = torch.zeros(shape, dtype=torch.bool)
    occupied[tuple(at_atoms.T)] = True
    reach = _BUILT_ANGSTROM / voxel
    is_left = (blurred > level) & (local_resolution.voxels > 0) & (distance_outside(occupied, reach + 1) > reach)
    step = max(1, round(_SPACING_ANGSTROM / voxel))
    on_lattice = torch.zeros(shape, dtype=torch.bool)
    on_lattice[::step, ::step, ::step] = True
    index = torch.nonzero(is_left & on_lattice)
    return UnbuiltDensity(
        grid.to_angstrom(index),
        local_resolution.voxels[tuple(index.T)].double(),
        (step * voxel) ** 3 / _RESIDUE_ANGSTROM3,
    )
