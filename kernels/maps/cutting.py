"""Parts of a map: the box around a model, and the same density on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients


def cut_around(grid: DensityGrid, places_angstrom: Tensor, margin_angstrom: float) -> DensityGrid:
    """The voxels of a map in the smallest box around some places and a margin, as far as the map reaches.

    Parameters
    ----------
    places_angstrom
        (n, 3) in (z, y, x).

    Raises
    ------
    ValueError
        Where the box holds nothing of the map.
    """
    size = torch.tensor(grid.voxels.shape)
    low, high = (grid.to_voxels(end) for end in (places_angstrom.amin(0), places_angstrom.amax(0)))
    margin = margin_angstrom / grid.voxel_size_angstrom
    first = (low - margin).floor().long().clamp(min=0)
    end = ((high + margin).ceil().long() + 1).minimum(size)
    if (end - first < 2).any():
        raise ValueError(
            f"the model lies outside of its map: atoms from {_words(places_angstrom.amin(0))} to"
            f" {_words(places_angstrom.amax(0))} Å, voxels from {_words(grid.origin_angstrom)} to"
            f" {_words(grid.to_angstrom(size - 1))} Å (z, y, x); expected both in one frame, so check their origins"
        )
    (z, y, x), (z_end, y_end, x_end) = first.tolist(), end.tolist()
    return DensityGrid(grid.voxels[z:z_end, y:y_end, x:x_end], grid.voxel_size_angstrom, grid.to_angstrom(first).cpu())


def box_of(voxels: Tensor, first: Sequence[int], size: Sequence[int]) -> Tensor:
    """(z, y, x) voxels of a box that begins at some voxel, zero where it reaches out of the map."""
    box = voxels.new_zeros(*size)
    here = [slice(max(0, f), max(0, min(n, f + s))) for f, s, n in zip(first, size, voxels.shape)]
    there = [slice(h.start - f, h.stop - f) for h, f in zip(here, first)]
    if all(h.start < h.stop for h in here):
        box[tuple(there)] = voxels[tuple(here)]
    return box


def _words(place: Tensor) -> str:
    return "(" + ", ".join(f"{v:.0f}" for v in place.tolist()) + ")"


def coarser(grid: DensityGrid, voxel_size_angstrom: float) -> DensityGrid:
    """The density on larger voxels, without what they cannot hold; element (0, 0, 0) stays where it is.

    Raises
    ------
    ValueError
        For a smaller voxel size than the map has.
    """
    ratio = voxel_size_angstrom / grid.voxel_size_angstrom
    if ratio < 1:
        raise ValueError(
            f"found a voxel size of {voxel_size_angstrom:g} Å, expected no less than the map's"
            f" {grid.voxel_size_angstrom:g} Å"
        )
    smooth = fourier.low_passed(grid.voxels, grid.voxel_size_angstrom, 2 * voxel_size_angstrom)
    places = [torch.arange(int((n - 1) / ratio + 1e-6) + 1, device=smooth.device) * ratio for n in smooth.shape]
    points = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1)
    return DensityGrid(sampled(spline_coefficients(smooth), points), voxel_size_angstrom, grid.origin_angstrom)
