"""The maps that a model is refined against, and whether it lies in them at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates

_LEAST_DENSITY = 1.0
"""Mean density at the atoms of a model that lies in its map, in standard deviations of the map over its mean; a model
put anywhere has 0 ± 0.1, one that was fitted 2 to 8."""


@dataclass(frozen=True)
class Evidence:
    """Two half maps, or one map where there are none, in the same frame."""

    maps: tuple[DensityGrid, ...]
    resolution_angstrom: float
    mates: Mates | None = None
    """By which a model makes up what the maps show; None for maps without symmetry."""

    def __post_init__(self) -> None:
        if len(self.maps) not in (1, 2):
            raise ValueError(f"found {len(self.maps)} maps, expected two half maps or one map")
        first = self.maps[0]
        for other in self.maps[1:]:
            if (
                other.voxels.shape != first.voxels.shape
                or not math.isclose(other.voxel_size_angstrom, first.voxel_size_angstrom, rel_tol=1e-4)
                or not torch.allclose(other.origin_angstrom, first.origin_angstrom, atol=0.01)
            ):
                raise ValueError(
                    f"the half maps differ: {_place(first)} and {_place(other)}; give both halves of one refinement"
                )
        finest = 2 * first.voxel_size_angstrom
        if self.resolution_angstrom < finest * 0.999:
            raise ValueError(
                f"a resolution of {self.resolution_angstrom:g} Å is finer than voxels of"
                f" {first.voxel_size_angstrom:g} Å can hold ({finest:g} Å); give the resolution that the FSC reached"
            )

    @property
    def is_halved(self) -> bool:
        return len(self.maps) == 2

    @property
    def mates_at_zero(self) -> Mates | None:
        """The mates in the frame of `at_zero`."""
        if self.mates is None or len(self.mates) == 1:
            return None
        return replace(self.mates, centre_angstrom=self.mates.centre_angstrom - self.maps[0].origin_angstrom)

    def at_zero(self) -> tuple[DensityGrid, ...]:
        """The same maps with their first voxel at zero: some programs read no origin."""
        return tuple(replace(grid, origin_angstrom=torch.zeros(3, dtype=torch.float64)) for grid in self.maps)


def _place(grid: DensityGrid) -> str:
    z, y, x = grid.voxels.shape
    oz, oy, ox = grid.origin_angstrom.tolist()
    return f"{z} x {y} x {x} voxels of {grid.voxel_size_angstrom:.4g} Å from ({oz:.2f}, {oy:.2f}, {ox:.2f}) Å (z, y, x)"


def require_in_map(model: AtomicModel, grid: DensityGrid) -> None:
    """Raise ValueError where atoms lie outside of the map's box, or a model outside of its density."""
    if not len(model):
        raise ValueError("the model has no atoms; expected a model that lies in the map")
    points = grid.to_voxels(model.coordinates_angstrom)
    if not torch.isfinite(points).all():
        raise ValueError("the model has coordinates that are not finite; build it again")
    shape = torch.tensor(grid.voxels.shape)
    n_outside = int(((points < 0) | (points > shape - 1)).any(-1).sum())
    if n_outside:
        low, high = model.coordinates_angstrom.amin(0).tolist(), model.coordinates_angstrom.amax(0).tolist()
        span = ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high))
        raise ValueError(
            f"{n_outside} of {len(model)} atoms lie outside of the map: the model spans {span} Å (z, y, x), the map is"
            f" {_place(grid)}; give the model that was built in this map, or correct the map's origin or voxel size"
        )
    voxels = grid.voxels.float()
    level = (sampled(spline_coefficients(voxels), points).mean() - voxels.mean()) / voxels.std().clamp(min=1e-30)
    if not float(level) > _LEAST_DENSITY:
        raise ValueError(
            f"the model does not lie in the map's density: its atoms stand at {float(level):.2f} standard deviations on"
            f" average, expected above {_LEAST_DENSITY:g}; look whether the model belongs to this map, and at the map's"
            " origin, voxel size, sign and hand"
        )
