"""Take over a map that another program made, with its half maps where they are given."""

from __future__ import annotations

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.maps.alignment import inverted
from kernels.maps.fsc import corrected_fsc
from kernels.maps.grid import DensityGrid
from kernels.masks import mask_of_halves
from kernels.models.map_fit import resolution_at
from tasks.formats import FormatError
from tasks.formats.content_digest import content_digest
from tasks.formats.map_file import read_map
from tasks.records.density_map import DensityMap
from tasks.records.point_group import PointGroup
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import describe
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_PRODUCT = "maps/imported"
_SAME_ANGSTROM = 0.01


class ImportMapParams(StageParams):
    """Files of a map, and what their headers may not tell."""

    map: str
    """Sharpened map, MRC or CCP4, gzipped or not."""
    half_1: str | None = None
    """First half map, unfiltered."""
    half_2: str | None = None
    voxel_size_angstrom: float | None = Field(default=None, gt=0)
    """Replaces that of the headers."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """As it was told with the map; without it, where half maps that are given cease to agree."""
    is_flipped: bool = False
    """Take the mirror image, through element n // 2 of each axis: for a map of the wrong hand."""
    symmetry: PointGroup = "C1"
    """Of the map, about the axes through voxel n // 2 of its box: one unit is built, the others are its copies."""


class _ContentParams(ImportMapParams):
    """With what the files hold, so that another content under the same name is another input."""

    digests: tuple[str, ...]


@task(name="import_map", cache_policy=NO_CACHE)
def import_map(session_url: str, params: ImportMapParams) -> StageReport:
    """``maps/imported`` from files. Memory: 16 bytes a voxel.

    Raises
    ------
    FormatError
        Where a file is not there, only one half is given, or both are the same.
    """
    if (params.half_1 is None) != (params.half_2 is None):
        raise FormatError(f"found half map {params.half_1 or params.half_2} alone, expected both halves or none")
    given = [path for path in (params.map, params.half_1, params.half_2) if path is not None]
    digests = tuple(content_digest(path, remedy="give the path of a map in MRC or CCP4 format") for path in given)
    if params.half_1 is not None and digests[1] == digests[2]:
        raise FormatError(
            f"{params.half_1} and {params.half_2} hold the same, expected half maps of different particles; give both"
            " halves, or none"
        )
    return run_stage(session_url, _import, [_PRODUCT], _ContentParams(digests=digests, **params.model_dump()))


def _take_over(_store: SessionStore, _item: str, params: ImportMapParams, attempt: Attempt) -> None:
    grid = read_map(params.map, params.voxel_size_angstrom)
    arrays = {"map": grid}
    if params.half_1 and params.half_2:
        arrays |= {
            f"half_{n}": read_map(p, params.voxel_size_angstrom) for n, p in ((1, params.half_1), (2, params.half_2))
        }
    for name, half in arrays.items():
        _check_same_frame(params, name, half, grid)
        voxels = inverted(half.voxels) if params.is_flipped else half.voxels
        attempt.write(name, voxels.numpy().astype(np.float32))
    record = DensityMap(
        name="imported",
        kind="imported",
        pixel_size_angstrom=grid.voxel_size_angstrom,
        symmetry=params.symmetry,
        resolution_angstrom=params.resolution_angstrom or _resolution(arrays),
        origin_angstrom=tuple(grid.origin_angstrom.tolist()),
    )
    describe(attempt, record)
    attempt.figures.update(
        voxel_size_angstrom=round(grid.voxel_size_angstrom, 4),
        shape_px=" x ".join(str(n) for n in grid.voxels.shape),
    )


def _resolution(maps: dict[str, DensityGrid]) -> float | None:
    """At which the half maps cease to agree inside of what they show; None without them."""
    if "half_1" not in maps:
        return None
    first, second, size = maps["half_1"].voxels, maps["half_2"].voxels, maps["map"].voxel_size_angstrom
    mask = mask_of_halves(first, second, size)
    curve = corrected_fsc(first, second, mask, torch.Generator().manual_seed(0)).corrected
    return round(resolution_at(curve, maps["map"], 0.143), 2)


def _check_same_frame(params: ImportMapParams, name: str, half: DensityGrid, grid: DensityGrid) -> None:
    is_same = (
        half.voxels.shape == grid.voxels.shape
        and abs(half.voxel_size_angstrom / grid.voxel_size_angstrom - 1) < _SAME_ANGSTROM / 10
        and bool(torch.allclose(half.origin_angstrom, grid.origin_angstrom, atol=_SAME_ANGSTROM))
    )
    if not is_same:
        raise FormatError(
            f"{getattr(params, name)}: has {tuple(half.voxels.shape)} voxels of {half.voxel_size_angstrom:.4f} Å from"
            f" {[round(o, 2) for o in half.origin_angstrom.tolist()]} Å, but the map {params.map}"
            f" {tuple(grid.voxels.shape)} of {grid.voxel_size_angstrom:.4f} Å from"
            f" {[round(o, 2) for o in grid.origin_angstrom.tolist()]} Å; give halves in the frame of the map"
        )


def _no_inputs(_store: SessionStore, _item: str) -> list[str]:
    return []


def _address(item: str) -> str:
    return item


_import = Stage("import_map", 2, "CPU", _take_over, _no_inputs, _address)
