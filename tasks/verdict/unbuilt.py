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
from kernels.models.map_fit import voxels_at
from kernels.models.mates import Mates
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


def unbuilt_density(
    model: AtomicModel, grid: DensityGrid, local_resolution: DensityGrid, mates: Mates
) -> UnbuiltDensity:
    """Where a map shows a molecule at 8 Å and a model and its copies have no atom near; what is nearer to a copy than
    to the model belongs to the copy.

    Parameters
    ----------
    grid, local_resolution
        A map of a cubic box, and its resolution from place to place in Å: 0 outside of its mask.
    """
    shape, voxel = grid.voxels.shape, grid.voxel_size_angstrom
    filtered = fourier.transform(grid.voxels.float(), 3) * low_pass(shape[0], voxel, _SEEN_ANGSTROM, "cpu")
    blurred = fourier.inverse(filtered, shape)
    known = representatives(model)
    known = known[known.isfinite().all(-1)].double()
    level = _LEAST_DENSITY * blurred[voxels_at(grid, known)].median()
    occupied = voxels_at(grid, mates.of(model.coordinates_angstrom).flatten(0, 1))
    reach = _BUILT_ANGSTROM / voxel
    is_left = (blurred > level) & (local_resolution.voxels > 0) & (distance_outside(occupied, reach + 1) > reach)
    step = max(1, round(_SPACING_ANGSTROM / voxel))
    on_lattice = torch.zeros(shape, dtype=torch.bool)
    on_lattice[::step, ::step, ::step] = True
    index = torch.nonzero(is_left & on_lattice)
    places = grid.to_angstrom(index)
    is_own = _is_own(places, known, mates)
    return UnbuiltDensity(
        places[is_own],
        local_resolution.voxels[tuple(index[is_own].T)].double(),
        (step * voxel) ** 3 / _RESIDUE_ANGSTROM3,
    )


def _is_own(places_angstrom: Tensor, known_angstrom: Tensor, mates: Mates) -> Tensor:
    """(place,) whether no copy of residues (m, 3) is nearer than they are."""
    distance = torch.stack([torch.cdist(places_angstrom, copy).amin(1) for copy in mates.of(known_angstrom)])
    return distance[0] <= distance.amin(0)
