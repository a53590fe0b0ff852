"""Preprocessing of simulated movies (motion, CTF, picks) with one CPU worker and with two, by turns.

Each worker is a process with one slot and one thread of arithmetic. The ratio of wall times is what an operator gets
from a second worker, and only a quiet machine shows it. On a busy one it is told from two figures that other programs
hardly change: how many items are worked on at once, and what the two workers' getting into each other's way costs in
CPU time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import dask
import torch
from distributed import LocalCluster, get_task_stream

from flows.recipe import Recipe, read_recipe
from flows.services import worker_environment
from tasks.correct_motion import correct_motion
from tasks.curate_exposures import curate_exposures
from tasks.estimate_ctf import estimate_ctf
from tasks.import_session import import_session
from tasks.pick_particles import pick_particles
from tasks.records.comparison import Comparison
from tasks.records.session import StageReport
from tasks.simulate_session import SimulateSessionParams, simulate_session
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect


class _Run(NamedTuple):
    """Of one pass through the stages."""

    wall_seconds: float
    cpu_seconds: float
    """Of the workers."""
    n_at_once: float
    """Items that were worked on at once, on average."""


def scaling(folder: Path, n_movies: int = 24, n_rounds: int = 2) -> list[Comparison]:
    """Wall time with one worker over that with two, of each round and their median."""
    recipe = _imported(folder, n_movies)
    runs: dict[int, list[_Run]] = {1: [], 2: []}
    with _cluster(1) as one, _cluster(2) as two:
        clusters = {1: one, 2: two}
        for n_workers, address in clusters.items():
            _preprocess(folder, address, recipe, f"warm_up_{n_workers}", n_workers)
        for number in range(n_rounds):
            for n_workers, address in clusters.items():
                runs[n_workers].append(_preprocess(folder, address, recipe, f"run_{n_workers}_{number}"))
    for n_workers, found in runs.items():
        told = ", ".join(
            f"{run.wall_seconds:.1f} s ({run.cpu_seconds:.1f} CPU-s, {run.n_at_once:.2f} items at once)"
            for run in found
        )
        print(f"{n_movies} movies, {n_workers} worker{'s' * (n_workers > 1)}: {told}")
    rounds = list(zip(runs[1], runs[2]))
    walls = [one.wall_seconds / two.wall_seconds for one, two in rounds]
    cpus = [one.cpu_seconds / two.cpu_seconds for one, two in rounds]
    quiet = [cpu * two.n_at_once / one.n_at_once for cpu, (one, two) in zip(cpus, rounds)]
    return [
        *(_line(f"wall time with 1 CPU worker over 2, round {i}", ratio, None) for i, ratio in enumerate(walls, 1)),
        _line("wall time with 1 CPU worker over 2, median", statistics.median(walls), 1.8),
        _line("CPU time with 1 CPU worker over 2, median", statistics.median(cpus), None),
        _line("the same times items at once with 2 over 1, median", statistics.median(quiet), 1.8),
    ]


def _line(figure: str, value: float, reach: float | None) -> Comparison:
    return Comparison(stage="scaling", figure=figure, value=value, reach=reach, better="higher")


def _imported(folder: Path, n_movies: int) -> Recipe:
    """Simulate and import the movies that all passes begin with."""
    session = folder / "session"
    simulation = SimulateSessionParams(seed=4, n_movies=n_movies)
    recipe = read_recipe("demo", {"import_session.gain": str(session / "gain.mrc")})
    store = SessionStore.create(str(folder / "imported.zarr"))
    with _cluster(2) as address, connect(address):
        simulate_session.fn(str(session), simulation)
        report = import_session.fn(store.url, str(session), recipe.import_session)
    assert len(report.done) == n_movies, report
    return recipe


def _preprocess(folder: Path, address: str, recipe: Recipe, name: str, n_exposures: int | None = None) -> _Run:
    """Of a copy of the imported session, all exposures or the first few."""
    place = folder / f"{name}.zarr"
    shutil.copytree(folder / "imported.zarr", place)
    url = str(place)
    exposures = SessionStore.open(url).exposure_ids()[:n_exposures]
    with connect(address) as client, get_task_stream(client) as stream:
        started = time.perf_counter()
        reports: list[StageReport] = [
            correct_motion.fn(url, exposures, recipe.correct_motion),
            estimate_ctf.fn(url, exposures, recipe.estimate_ctf),
            curate_exposures.fn(url, exposures, recipe.curate_exposures),
            pick_particles.fn(url, exposures, recipe.pick_particles),
        ]
        wall = time.perf_counter() - started
    shutil.rmtree(place)
    assert all(not report.failed for report in reports), reports
    busy = sum(
        span["stop"] - span["start"]
        for task in stream.data
        for span in task["startstops"]
        if span["action"] == "compute"
    )
    return _Run(wall, sum(report.cpu_seconds for report in reports), busy / wall)


@contextmanager
def _cluster(n_workers: int) -> Iterator[str]:
    """Address of a scheduler with workers that carry both labels."""
    environment = worker_environment("CPU", 1)
    with (
        patch.dict(os.environ, environment),
        dask.config.set({"distributed.nanny.pre-spawn-environ": environment}),
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, resources={"CPU": 1, "GPU": 1}, dashboard_address=":0"
        ) as cluster,
        connect(cluster.scheduler_address) as client,
    ):
        assert set(client.run(torch.get_num_threads).values()) == {1}
        yield cluster.scheduler_address
