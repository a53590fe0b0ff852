"""A map as rigid bodies are looked for in it: on voxels that suit a resolution, with its local statistics."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from kernels import fourier
from kernels.maps.cutting import coarser
from kernels.maps.grid import DensityGrid
from kernels.models.rigid_body import BELL, Template

_LEAST_VARIANCE = 1e-3
"""Of the map's own: where the map is flat nothing can correlate."""
_N_BINS = 256


class MapField:
    """A map on coarser voxels, padded so that nothing meets its own copy.

    Memory: 40 bytes a voxel.
    """

    def __init__(self, grid: DensityGrid, resolution_angstrom: float, voxel_of_resolution: float, reach: float) -> None:
        voxel = max(voxel_of_resolution * resolution_angstrom, grid.voxel_size_angstrom)
        coarse = coarser(grid, voxel) if voxel / grid.voxel_size_angstrom > 1.05 else grid
        voxels = coarse.voxels.float()
        self.voxel = coarse.voxel_size_angstrom
        self.resolution = resolution_angstrom
        self.device = voxels.device
        self.grid = DensityGrid(voxels, self.voxel, coarse.origin_angstrom)
        pad = math.ceil(reach / self.voxel) + 2
        self.shape = tuple(fourier.fast_size(n + pad) for n in voxels.shape)
        self.inside = tuple(slice(0, n) for n in voxels.shape)
        self.first = coarse.origin_angstrom.float().to(self.device)
        density = torch.zeros(self.shape, device=self.device)
        density[self.inside] = voxels - voxels.mean()
        self.transform = torch.fft.rfftn(density)
        self.power = torch.fft.rfftn(density**2)
        self.variance = float(density[self.inside].var())

    @cached_property
    def blurred(self) -> DensityGrid:
        """As its atoms are: what is at a place is the density of the atoms around it."""
        return self._blurred(BELL * self.resolution)

    def at_resolution(self, resolution_angstrom: float) -> DensityGrid:
        """As a map of a lower resolution would show it; the map itself where that is not lower."""
        if resolution_angstrom <= self.resolution:
            return self.grid
        return self._blurred(BELL * math.sqrt(resolution_angstrom**2 - self.resolution**2))

    def _blurred(self, sigma_angstrom: float) -> DensityGrid:
        squared = fourier.frequency_length(self.shape, self.voxel, device=self.device) ** 2
        bell = torch.exp(-2 * math.pi**2 * sigma_angstrom**2 * squared)
        blurred = torch.fft.irfftn(self.transform * bell, s=self.shape)
        return self.grid.with_voxels(blurred[self.inside].contiguous())

    def correlations(self, template: Template, rotations: Tensor) -> Tensor:
        """(rotation, z, y, x) local correlation with a body, turned by each of (rotation, 3, 3), about the place of
        each voxel of the map.

        Memory: 60 bytes a voxel of the padded map for each rotation.

        Source
        ------
        Roseman 2000, Acta Cryst. D56:1332.
        """
        space = (-3, -2, -1)
        structure, mask = self._turned(template, rotations)
        n = mask.sum(space, keepdim=True).clamp(min=1)
        structure = (structure - (structure * mask).sum(space, keepdim=True) / n) * mask
        structure = structure / structure.square().sum(space, keepdim=True).sqrt().clamp(min=1e-9)
        shown, seen = (torch.fft.rfftn(one, s=self.shape, dim=space).conj() for one in (structure, mask))
        cross = torch.fft.irfftn(self.transform * shown, s=self.shape, dim=space)
        mean = torch.fft.irfftn(self.transform * seen, s=self.shape, dim=space) / n
        square = torch.fft.irfftn(self.power * seen, s=self.shape, dim=space) / n
        variance = (square - mean**2).clamp(min=_LEAST_VARIANCE * self.variance)
        found = cross / (n * variance).sqrt()
        # the box of the body begins at its corner: what was found there lies half a box further
        middle = tuple(side // 2 for side in structure.shape[1:])
        return found.roll(middle, space)[(slice(None), *self.inside)]

    def _turned(self, template: Template, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """(rotation, z, y, x) the template in boxes of this map's voxels, and its mask."""
        fine = template.density.shape[0]
        ratio = self.voxel / template.voxel_size_angstrom
        side = min(2 * math.ceil(fine / ratio / 2) + 1, *self.shape)
        axis = (torch.arange(side, device=self.device) - side // 2) * ratio
        places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
        turned = places @ rotations.to(places)[:, None, None]
        # grid_sample thinks in (x, y, z) from -1 to 1 between the middles of the first and the last voxel
        scaled = ((turned + fine // 2) * (2 / (fine - 1)) - 1).flip(-1)
        both = torch.stack([template.density, template.mask]).expand(len(rotations), -1, -1, -1, -1)
        found = grid_sample(both, scaled, mode="bilinear", padding_mode="zeros", align_corners=True)
        return found[:, 0], (found[:, 1] > 0.5).float()


def contour_level(voxels: Tensor) -> float:
    """Density that best parts what is empty from what is not: it leaves the least variance on both sides.

    Source
    ------
    Otsu 1979, IEEE Trans. SMC 9:62.
    """
    values = voxels.float().flatten()
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return high
    counts = torch.histc(values, _N_BINS, low, high).double()
    middles = low + (torch.arange(_N_BINS, dtype=torch.float64, device=counts.device) + 0.5) * (high - low) / _N_BINS
    below, total = counts.cumsum(0), counts.sum()
    moment = (counts * middles).cumsum(0)
    share = below / total
    between = (moment[-1] / total * share - moment / total) ** 2 / (share * (1 - share)).clamp(min=1e-12)
    return float(middles[int(between[:-1].argmax())])
