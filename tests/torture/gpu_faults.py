"""A GPU-labelled worker that comes late, dies in every iteration of a refinement, or wants too much memory."""

from __future__ import annotations

import math
import re
import threading
import time
from pathlib import Path

import numpy as np
import torch

from kernels import fourier
from kernels.maps.refinement import low_pass
from kernels.rotations import random_rotations, symmetry_group
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams, refine_map
from tasks.stores.products.map_store import describe, read_map
from tasks.stores.products.particle_store import write_particles
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect
from tasks.workers.items import run_items
from tests.torture.site import Row, Site
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import cage_points, gaussian_map, gaussian_projections, imaged

_PIXEL, _N, _N_PARTICLES, _WIDTH = 2.5, 48, 90, 2.5
_PARAMS = RefineMapParams(
    diameter_angstrom=105, symmetry="O", initial_low_pass_angstrom=25, max_iterations=3, particles_per_block=15,
    shift_range_angstrom=6, shift_step_angstrom=3, n_candidates=4,
)  # fmt: skip


def late_worker(folder: Path, seconds: float) -> Row:
    """The stage waits, saying so, and goes on when the worker is there."""
    with Site(folder) as site:
        site.supervisor.pause("dask-gpu-worker")
        with connect(site.services.dask_address, patience_seconds=seconds + 300):
            comes_at = time.time() + seconds
            threading.Timer(seconds, site.supervisor.resume, ["dask-gpu-worker"]).start()
            found = dict(run_items(_square, list(range(20)), label="GPU", name="late"))
            recovery = time.time() - comes_at
    lost = sum(found.get(i) != i * i for i in range(20))
    return Row(f"GPU-labelled worker appears after {seconds:.0f} s", "the stage waited for it", lost, 0, recovery)


def dying_worker(folder: Path) -> Row:
    """One kill an iteration; the map is the one of an undisturbed run."""
    with Site(folder) as site:
        with connect(site.services.dask_address, patience_seconds=120):
            expected = _refine(folder / "calm.zarr")
        kills: list[float] = []
        is_over = threading.Event()
        killer = threading.Thread(target=_kill_every_iteration, args=(site, folder / "deadly.zarr", kills, is_over))
        killer.start()
        try:
            with connect(site.services.dask_address, patience_seconds=120):
                found = _refine(folder / "deadly.zarr")
        finally:
            is_over.set()
            killer.join()
        twice = site.n_twice()
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    seen = f"{len(kills)} kills in {_PARAMS.max_iterations} iterations; largest difference of the maps {difference:.1e}"
    return Row("GPU-labelled worker dies in every iteration", seen, int(difference > 1e-4 or not kills), twice, None)


def greedy_item(folder: Path) -> Row:
    """The item fails with the word memory, and the others are done."""
    with Site(folder, worker_memory="900MiB") as site, connect(site.services.dask_address, patience_seconds=120):
        found = dict(run_items(_take_memory, [0, 1, 2, 3], label="GPU", name="greedy"))
    message = str(found.get(2))
    is_said = isinstance(found.get(2), Exception) and "memory" in message
    lost = sum(found.get(i) != i for i in (0, 1, 3)) + (not is_said)
    return Row("an item exceeds the memory of its worker", message.replace("|", "/")[:160], lost, 0, None)


def _square(item: int) -> int:
    return item * item


def _take_memory(item: int) -> int:
    if item == 2:
        blocks = [np.ones(2**24) for _ in range(64)]
        time.sleep(20)
        return len(blocks)
    return item


def _refine(path: Path) -> np.ndarray:
    store = SessionStore.create(str(path))
    generator = torch.Generator().manual_seed(8)
    points = cage_points("O", math.ceil(288 / len(symmetry_group("O"))), 42.0, 3)
    rotation = random_rotations(_N_PARTICLES, generator)
    shift = 1.5 * torch.randn(_N_PARTICLES, 2, generator=generator)
    images = imaged(gaussian_projections(points, rotation, shift, _N, _PIXEL, _WIDTH), _PIXEL, 0.3, 5)
    particles = write_extracted(store, images)
    with store.product("particles/selected").write("classify_2d", 1, StageParams(), {}) as attempt:
        write_particles(attempt, particles.with_columns(shift_angstrom=np.zeros((_N_PARTICLES, 2), np.float32)))
    density = gaussian_map(points, _N, _PIXEL, _WIDTH)
    blurred = fourier.inverse(fourier.transform(density, 3) * low_pass(_N, _PIXEL, 25.0, "cpu"), (_N,) * 3)
    with store.product("maps/initial").write("build_initial_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", blurred.numpy())
        describe(attempt, DensityMap(name="initial", kind="initial", pixel_size_angstrom=_PIXEL, symmetry="O"))
    refine_map.fn(store.url, _PARAMS)
    return read_map(store, "refined")["map"]


def _kill_every_iteration(site: Site, store: Path, kills: list[float], is_over: threading.Event) -> None:
    """Kill the worker when the first block of an iteration that was not seen before is there."""
    seen: set[str] = set()
    while not is_over.wait(0.02):
        blocks = (
            [p.parent.name for p in (store / "scratch").glob("refine_map/*/*/commit.json")] if store.exists() else []
        )
        iterations = {found[1] for name in blocks if (found := re.match(r"iteration_(\d+)_half", name))}
        for iteration in sorted(iterations - seen):
            seen.add(iteration)
            kills.append(time.time())
            site.supervisor.kill("dask-gpu-worker", is_child=True)
