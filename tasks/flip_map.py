"""The mirror image of a map: what a map of the wrong hand should have been."""

from __future__ import annotations

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.maps.alignment import inverted
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import HALVES_OF, density_map, describe, read_map
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

FLIPPED = "flipped"
"""Name of the map that `flip_map` makes."""
_HALVES = ("half_1", "half_2")
_ARRAYS = ("map", *_HALVES, "mask", "local_resolution")


class FlipMapParams(StageParams):
    """Parameters of `flip_map`."""

    map: str = "sharpened"
    """Name of the map in the store."""


@task(name="flip_map", cache_policy=NO_CACHE)
def flip_map(session_url: str, params: FlipMapParams) -> StageReport:
    """``maps/flipped``: a map, its halves, its mask and its local resolution inverted through the box's centre.

    Memory: 16 bytes a voxel.
    """
    return run_stage(session_url, _flipping, [params.map], params)


def _address(_item: str) -> str:
    return f"maps/{FLIPPED}"


def _sources(item: str) -> list[str]:
    return [item, *([HALVES_OF[item]] if item in HALVES_OF else [])]


def _inputs(_store: SessionStore, item: str) -> list[str]:
    return [f"maps/{name}" for name in _sources(item)]


def _flip(store: SessionStore, item: str, _params: FlipMapParams, attempt: Attempt) -> None:
    written: set[str] = set()
    for name in _sources(item):
        reader = read_map(store, name)
        for array in _ARRAYS if name == item else _HALVES:
            if array in reader and array not in written:
                attempt.write(array, inverted(torch.from_numpy(reader[array])).numpy().astype(np.float32))
                written.add(array)
    describe(attempt, density_map(store, item).model_copy(update={"name": FLIPPED}))
    attempt.figures.update(flipped=item)


_flipping = Stage("flip_map", 1, "CPU", _flip, _inputs, _address)
