"""A density map with its place in space, so that models and maps meet in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

_FINEST_VOXELS = 2.001


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

    def resolution_shown(self, resolution_angstrom: float) -> float:
        """The resolution, no finer than the voxels can show: a little more than two of them."""
        return max(resolution_angstrom, _FINEST_VOXELS * self.voxel_size_angstrom)

    def to_voxels(self, coordinates_angstrom: Tensor) -> Tensor:
        """Positions (..., 3) in Å as indices in voxels, with fractions."""
        origin = self.origin_angstrom.to(coordinates_angstrom)
        return (coordinates_angstrom - origin) / self.voxel_size_angstrom

    def to_angstrom(self, index_voxels: Tensor) -> Tensor:
        """Indices (..., 3) in voxels as positions in Å, float64."""
        return index_voxels.double() * self.voxel_size_angstrom + self.origin_angstrom.to(index_voxels.device)

    def values_at(self, coordinates_angstrom: Tensor) -> Tensor:
        """(...) density at positions (..., 3) in Å, linear between the voxels; 0 outside of the map."""
        position = self.to_voxels(coordinates_angstrom).to(torch.float64)
        lower = position.floor()
        fraction = (position - lower).to(self.voxels.dtype)
        size = torch.tensor(self.voxels.shape, device=position.device)
        is_inside = ((position >= 0) & (position <= size - 1)).all(-1)
        lower = lower.long().clamp(min=0).minimum(size - 2)
        fraction = torch.where(position.floor().long() > size - 2, torch.ones_like(fraction), fraction)
        flat = self.voxels.reshape(-1)
        _, n_y, n_x = self.voxels.shape
        corner = (lower[..., 0] * n_y + lower[..., 1]) * n_x + lower[..., 2]
        z, y, x = fraction.unbind(-1)
        total = torch.zeros_like(z)
        for step, weight in ((0, 1 - z), (n_y * n_x, z)):
            front = torch.lerp(flat[corner + step], flat[corner + step + 1], x)
            back = torch.lerp(flat[corner + step + n_x], flat[corner + step + n_x + 1], x)
            total = total + weight * torch.lerp(front, back, y)
        return total * is_inside

    def to(self, device: torch.device) -> DensityGrid:
        """The same with its voxels on another device."""
        return replace(self, voxels=self.voxels.to(device))

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

    def cut(self, first: Sequence[int], shape: Sequence[int]) -> DensityGrid:
        """The part of the map that begins at a voxel, in its place; it ends where the map does."""
        part = tuple(slice(max(0, start), start + n) for start, n in zip(first, shape))
        return DensityGrid(
            self.voxels[part].contiguous(),
            self.voxel_size_angstrom,
            self.to_angstrom(torch.tensor([s.start for s in part])),
        )

    def fullest_cube(self, side_angstrom: float) -> DensityGrid:
        """The cube with the most density above two standard deviations of the map, looked for in steps of a quarter.

        The map itself where it is no larger.
        """
        side = max(1, round(side_angstrom / self.voxel_size_angstrom))
        window = [min(side, n) for n in self.voxels.shape]
        strong = (self.voxels.float() - 2 * self.voxels.float().std()).clamp_min(0)
        summed = avg_pool3d(strong[None, None], window, [max(1, n // 4) for n in window])[0, 0]
        found = torch.unravel_index(summed.argmax(), summed.shape)
        return self.cut([int(at) * max(1, n // 4) for at, n in zip(found, window)], window)
