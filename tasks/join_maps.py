"""A map whose part was refined by itself, and that part, as one map with halves of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.maps.alignment import inverted
from kernels.maps.fsc import corrected_fsc, resolution_angstrom, significant_correlation
from kernels.maps.part_refinement import joined
from kernels.maps.sharpening import sharpened
from kernels.rotations import symmetry_group
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_map, describe, has_map, map_sizes, read_map
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem, Stage, run_stage

JOINED = "joined"
"""Name of the map that `join_maps` makes."""
_WHOLE, _SHARPENED = "refined", "sharpened"
_HALVES = ("half_1", "half_2")


class JoinMapsParams(StageParams):
    """Parameters of `join_maps`."""

    part: str = "part"
    """Name of the map of the part, of `refine_part`."""
    is_mirrored: bool = False
    """Whether the inverse of both is made: where models lie in ``maps/flipped``."""


@task(name="join_maps", cache_policy=NO_CACHE)
def join_maps(session_url: str, params: JoinMapsParams) -> StageReport:
    """``maps/joined``: inside its mask the part, outside ``maps/refined``; half by half, so that halves stay free.

    Sharpened as ``maps/sharpened`` is and weighted by its own FSC. In a symmetric map the part stands in each copy,
    rotated by linear interpolation on half the voxel size. Memory: see `_needs`.
    """
    return run_stage(session_url, _joining, [params.part], params)


def _address(_item: str) -> str:
    return f"maps/{JOINED}"


def _inputs(_store: SessionStore, item: str) -> list[str]:
    return [f"maps/{name}" for name in (item, _WHOLE, _SHARPENED)]


def _join(store: SessionStore, item: str, params: JoinMapsParams, attempt: Attempt) -> None:
    about, whole, part = density_map(store, _SHARPENED), read_map(store, _WHOLE), read_map(store, item)
    operations = symmetry_group(about.symmetry).float()
    mask, around = (torch.from_numpy(reader["mask"]) for reader in (part, whole))
    halves = [joined(torch.from_numpy(whole[name]), torch.from_numpy(part[name]), mask, operations) for name in _HALVES]
    curve = corrected_fsc(halves[0], halves[1], around, torch.Generator().manual_seed(0)).corrected
    threshold = significant_correlation(len(curve), len(operations))
    pixel_size = about.pixel_size_angstrom
    resolution = max(resolution_angstrom(curve, around.shape[-1], pixel_size, threshold), 2 * pixel_size)
    if math.isinf(resolution):
        raise SkipItem(f"halves of maps/{_WHOLE} and maps/{item} together agree at no resolution; look at the mask")
    final = sharpened((halves[0] + halves[1]) / 2, pixel_size, about.b_factor_angstrom2 or 0.0, curve, resolution)
    arrays = {"map": final, **dict(zip(_HALVES, halves)), "mask": around}
    for name, values in arrays.items():
        attempt.write(name, (inverted(values) if params.is_mirrored else values).numpy().astype(np.float32))
    describe(attempt, about.model_copy(update={"name": JOINED, "resolution_angstrom": round(resolution, 3)}))
    attempt.figures.update(
        part=item, resolution_angstrom=round(resolution, 3), part_share=round(float((mask > 0.5).double().mean()), 4)
    )


def _needs(store: SessionStore, _items: Sequence[str], params: JoinMapsParams) -> Need | None:
    if not all(has_map(store, name) for name in (params.part, _WHOLE)):
        return None
    sizes = map_sizes(store, _WHOLE)
    return Need(
        stage=_joining.name,
        n_items=1,
        memory_bytes=100_000_000 + (150 if sizes.n_copies > 1 else 70) * sizes.n_voxels,
        disk_bytes=16 * sizes.n_voxels,
        cpu_seconds=1 + 1e-6 * sizes.n_voxels * sizes.n_copies,
        told_from=sizes.words,
        remedy="extract smaller images (`extract_particles.output_box_px`)",
    )


_joining = Stage("join_maps", 1, "CPU", _join, _inputs, _address, _needs)
