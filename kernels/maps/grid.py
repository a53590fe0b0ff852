"""A density map with its place in space, so that models and maps meet in one frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class DensityGrid:
    """Density on a grid of cubic voxels.

    The frame of a map is that of its file: a model that was fitted to it has its atoms' coordinates there.
    """

    voxels: Tensor
    """(z, y, x)"""
    voxel_size_angstrom: float
    origin_angstrom: Tensor
    """(3,) float64: where element (0, 0, 0) lies, (z, y, x)."""

    def to_voxels(self, coordinates_angstrom: Tensor) -> Tensor:
        """Positions (..., 3) in Å as indices in voxels, with fractions."""
        origin = self.origin_angstrom.to(coordinates_angstrom)
        return (coordinates_angstrom - origin) / self.voxel_size_angstrom

    def to_angstrom(self, index_voxels: Tensor) -> Tensor:
        """Indices (..., 3) in voxels as positions in Å, float64."""
        return index_voxels.double() * self.voxel_size_angstrom + self.origin_angstrom.to(index_voxels.device)

    def with_voxels(self, voxels: Tensor) -> DensityGrid:
        """Another density in the same place.

        Raises
        ------
        ValueError
            For another shape.
        """
        if voxels.shape != self.voxels.shape:
            raise ValueError(f"found voxels {tuple(voxels.shape)}, expected {tuple(self.voxels.shape)}")
        return replace(self, voxels=voxels)

    @property
    def size_angstrom(self) -> Tensor:
        """(3,) float64: how far the map reaches along z, y and x."""
        return torch.tensor(self.voxels.shape, dtype=torch.float64) * self.voxel_size_angstrom
