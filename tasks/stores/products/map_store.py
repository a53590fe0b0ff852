"""Density maps in the store."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.maps.cutting import cut_around
from kernels.maps.grid import DensityGrid
from kernels.models.mates import Mates
from kernels.rotations import symmetry_group
from tasks.records.density_map import DensityMap
from tasks.stores.commit import Attempt, Reader
from tasks.stores.session_store import SessionStore

_REFINED = "refined"
HALVES_OF = {"sharpened": _REFINED}
"""Maps whose halves are in another product."""
_ROOM_OF_RESIDUE_ANGSTROM3 = 6000.0
"""Of the box about a model."""


def describe(attempt: Attempt, density_map: DensityMap) -> None:
    """Attach the record to a map product that is being written."""
    attempt.details["density_map"] = density_map.model_dump(mode="json")
    attempt.set_attributes({"density_map": density_map.model_dump(mode="json")})


def density_map(store: SessionStore, name: str) -> DensityMap:
    """The record of the map ``maps/<name>``."""
    record = store.product(f"maps/{name}").done_record(f"map {name!r}")
    return DensityMap.model_validate(record.details["density_map"])


def known_resolution(store: SessionStore, name: str, given_angstrom: float | None, stage: str) -> float:
    """What a stage was given, or else what the record of the map ``maps/<name>`` says, in Å.

    Raises
    ------
    ValueError
        Where neither tells it.
    """
    resolution = given_angstrom or density_map(store, name).resolution_angstrom
    if resolution is None:
        raise ValueError(
            f"the resolution of maps/{name} is not known; give it in Å (`--resolution`, or `resolution_angstrom` of"
            f" {stage}), or import the map with its half maps"
        )
    return resolution


def read_map(store: SessionStore, name: str) -> Reader:
    """The product ``maps/<name>`` with its arrays ``map``, ``half_1``, ``half_2``, ``mask``, ``fsc_curves``…"""
    return store.product(f"maps/{name}").read()


def density_grid(store: SessionStore, name: str, array: str = "map") -> DensityGrid:
    """An array of the map ``maps/<name>`` with its place in space."""
    return replace(empty_grid(store, name, array), voxels=torch.from_numpy(read_map(store, name)[array]))


def empty_grid(store: SessionStore, name: str, array: str = "map") -> DensityGrid:
    """The same without its density, which is not read."""
    about, shape = density_map(store, name), read_map(store, name).shape(array)
    origin = torch.tensor(about.origin_angstrom, dtype=torch.float64)
    return DensityGrid(torch.empty(shape, device="meta"), about.pixel_size_angstrom, origin)


def density_box(
    store: SessionStore, name: str, array: str, places_angstrom: Tensor, margin_angstrom: float
) -> DensityGrid:
    """An array of the map ``maps/<name>`` in the box around some places (n, 3) and a margin; no more of it is read."""
    whole = empty_grid(store, name, array)
    box = cut_around(whole, places_angstrom, margin_angstrom)
    first = whole.to_voxels(box.origin_angstrom).round().long().tolist()
    part = tuple(slice(start, start + n) for start, n in zip(first, box.voxels.shape))
    return replace(box, voxels=torch.from_numpy(read_map(store, name).slice(array, part)))


def masked_grid(store: SessionStore, name: str, grid: DensityGrid | None = None) -> DensityGrid:
    """The map ``maps/<name>``, or another one on its voxels, without what lies outside of its mask, if it has one."""
    grid, reader = density_grid(store, name) if grid is None else grid, read_map(store, name)
    return grid.with_voxels(grid.voxels * torch.from_numpy(reader["mask"])) if "mask" in reader else grid


def map_mates(store: SessionStore, name: str) -> Mates:
    """Operations of the symmetry of the map ``maps/<name>``, about the middle of its box."""
    return Mates.about(density_map(store, name).symmetry, empty_grid(store, name))


def has_map(store: SessionStore, name: str) -> bool:
    """Whether the map ``maps/<name>`` is there."""
    return store.product(f"maps/{name}").record_if_done() is not None


def with_halves(store: SessionStore, *names: str | None) -> str | None:
    """The first of these maps that is there and has half maps; None where none has."""
    return next((name for name in names if name and has_map(store, name) and "half_1" in read_map(store, name)), None)


def half_grids(store: SessionStore, *names: str | None) -> tuple[DensityGrid, DensityGrid] | None:
    """Those of the first of these maps that is there and has half maps; None where none has."""
    name = with_halves(store, *names)
    return None if name is None else (density_grid(store, name, "half_1"), density_grid(store, name, "half_2"))


def halves_of(store: SessionStore, name: str) -> str | None:
    """The map with the halves that a map was made from: itself, or the one that was sharpened; None where none are."""
    return with_halves(store, name, HALVES_OF.get(name))


def half_sets_of(store: SessionStore, name: str) -> str:
    """The map whose particles were parted into the halves that a map has: half 2 of all maps of one of them is of the
    same particles, and independent of half 1 of all of them."""
    record = store.product(f"maps/{name}").done_record(f"map {name!r}")
    return _REFINED if f"maps/{_REFINED}" in record.inputs else name


@dataclass(frozen=True)
class MapSizes:
    """What the needs of a stage that works in a map follow from."""

    shape: tuple[int, ...]
    sides_angstrom: tuple[float, ...]
    n_copies: int
    """That its symmetry makes of each part."""

    @property
    def n_voxels(self) -> int:
        return math.prod(self.shape)

    def n_voxels_around(self, n_residues: int) -> int:
        """Of the box about a model of so many residues, in the map."""
        voxel = self.sides_angstrom[0] / self.shape[0]
        return min(self.n_voxels, round(_ROOM_OF_RESIDUE_ANGSTROM3 * n_residues / voxel**3))

    @property
    def words(self) -> str:
        return f"a map of {' x '.join(map(str, self.shape))} voxels"


def map_sizes(store: SessionStore, name: str) -> MapSizes:
    """Of the map ``maps/<name>``, without reading it."""
    about, shape = density_map(store, name), read_map(store, name).shape("map")
    sides = tuple(n * about.pixel_size_angstrom for n in shape)
    return MapSizes(shape, sides, len(symmetry_group(about.symmetry)))
