"""The part of a map that is shown with a model, small enough for a page."""

from __future__ import annotations

import torch

from kernels.maps.cutting import coarser, cut_around
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.map_fit import near_atoms
from tasks.plots.model_view import MapCut

_MARGIN_ANGSTROM = 4.0
"""Of density around the model."""
_MOST_VOXELS = 1_500_000
_NEAR_ANGSTROM = 3.0
_SHOWN_PER_ATOM_ANGSTROM3 = 5.5
"""Volume inside of the first contour for each atom but hydrogen: a third of what it takes up in a protein."""
_ATOMS_OF_AMINO_ACID, _ATOMS_OF_NUCLEOTIDE = 8, 21
"""Mean ones have as many, hydrogens left out."""
_LOWEST_SHARE, _HIGHEST_SHARE = 0.35, 5.0
"""Of the first contour, for the lowest and highest that can be chosen."""


def around_model(grid: DensityGrid, model: AtomicModel) -> DensityGrid:
    """The density in a box around a model, on voxels so large that there are about 1.5 million of them at most.

    Raises
    ------
    ValueError
        Where the model lies outside of the map.
    """
    part = cut_around(grid, model.coordinates_angstrom, _MARGIN_ANGSTROM)
    enlarged = (part.voxels.numel() / _MOST_VOXELS) ** (1 / 3)
    return coarser(part, part.voxel_size_angstrom * enlarged) if enlarged > 1 else part


def map_cut(part: DensityGrid, model: AtomicModel, sigma: float, name: str, voxel_size_angstrom: float) -> MapCut:
    """The density of `around_model` in one byte a voxel, and the contour to begin with.

    Parameters
    ----------
    sigma
        Standard deviation that contours are told in.
    name, voxel_size_angstrom
        Of the map that the part was cut from.
    """
    near = part.voxels[near_atoms(part, model, _NEAR_ANGSTROM)]
    volume = _n_atoms(model) * _SHOWN_PER_ATOM_ANGSTROM3
    n_inside = min(round(volume / part.voxel_size_angstrom**3), len(near) // 3)
    if n_inside < 1 or not float(near.max()) > 0:
        raise ValueError(f"the map {name} has no density around the model that a contour could be drawn through")
    level = float(near.topk(n_inside).values[-1])
    level = level if level > 0 else float(near.max()) / 2
    lowest = _LOWEST_SHARE * level
    highest = min(_HIGHEST_SHARE * level, float(near.max()))
    codes = ((part.voxels - lowest) * (255 / (highest - lowest))).round().clamp(0, 255)
    words = f"Map {name}, {_MARGIN_ANGSTROM:g} Å around the model"
    if part.voxel_size_angstrom > voxel_size_angstrom:
        words += (
            f", shown on voxels of {part.voxel_size_angstrom:.2f} Å to keep this page small; the map itself has"
            f" {voxel_size_angstrom:.2f} Å"
        )
    z, y, x = part.origin_angstrom.tolist()
    return MapCut(
        codes.to(torch.uint8).numpy(), part.voxel_size_angstrom, (z, y, x), lowest, highest, level, sigma, words + "."
    )


def _n_atoms(model: AtomicModel) -> int:
    """Atoms but hydrogen that the density of the model shows, with those that a trace leaves out."""
    present = sum(element not in ("H", "D") for element in model.elements)
    whole = _ATOMS_OF_AMINO_ACID * int((model.amino_acid >= 0).sum()) + _ATOMS_OF_NUCLEOTIDE * int(
        (model.base >= 0).sum()
    )
    return max(present, whole)


def near_only(part: DensityGrid, model: AtomicModel) -> torch.Tensor:
    """(z, y, x) density within 3 Å of the model, 0 elsewhere, so that no neighbour lies over it in a projection."""
    return part.voxels * near_atoms(part, model, _NEAR_ANGSTROM)


def sigma_of(part: DensityGrid, model: AtomicModel) -> float:
    """Standard deviation of the density within 5 Å of the model: it does not depend on the size of the box."""
    return float(part.voxels[near_atoms(part, model, 5.0)].std())
