"""What the machinery itself costs: a wave of `process_live` over movies of 64 × 64 pixels and kernels that do nothing.

All is as at a facility but the kernels: the hand-over of arrivals, the lease, the import with its claims, indices and
Zarr arrays, one Dask item an exposure and stage, commit records, optics groups, the session's page, and Prefect's
records of the runs. CPU is that of all processes together, those that wait included.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import tifffile
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import process_live as live
from flows import services
from flows.recipe import Recipe, read_recipe
from flows.session_recipe import remember_recipe
from flows.settings import Settings
from tasks.group_optics import group_optics
from tasks.import_session import import_session
from tasks.records.comparison import Comparison
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.scan_folders import FolderWatch, ScanFoldersParams
from tasks.stores.commit import Attempt
from tasks.stores.record_memory import remembered_records
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import Label
from tasks.workers.stage import Stage, run_stage

_CHANGES = {
    "import_session.pixel_size_angstrom": "2.0",
    "import_session.dose_per_frame": "1.0",
    **{f"{stage}.diameter_angstrom": "120" for stage in ("pick_particles", "extract_particles", "classify_2d")},
    **{f"{stage}.diameter_angstrom": "120" for stage in ("build_initial_map", "refine_map")},
}
_READS: dict[str, tuple[Label, tuple[str, ...]]] = {
    "diagnose_gain": ("CPU", ("import_session",)),
    "correct_motion": ("CPU", ("import_session",)),
    "estimate_ctf": ("CPU", ("correct_motion",)),
    "curate_exposures": ("CPU", ("estimate_ctf", "correct_motion")),
    "pick_particles": ("GPU", ("curate_exposures", "estimate_ctf", "correct_motion")),
    "extract_particles": ("CPU", ("pick_particles", "estimate_ctf", "correct_motion")),
}
"""Stage -> the label of its workers, and what it reads."""


def _nothing(store: SessionStore, item: str, params: StageParams, attempt: Attempt) -> None:
    attempt.figures["value"] = 1.0


def _need(store: SessionStore, items: Sequence[str], params: StageParams) -> Need:
    return Need(
        stage="correct_motion", n_items=len(items), memory_bytes=1, disk_bytes=1, cpu_seconds=0,
        told_from="nothing", remedy="wait",
    )  # fmt: skip


class _Inputs:
    """Addresses that the stage of a name reads for an item."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __call__(self, store: SessionStore, item: str) -> list[str]:
        return [f"exposures/{item}/{stage}" for stage in _READS[self.stage][1]]


def _stage(name: str, label: Label) -> Stage[StageParams]:
    return Stage(name, 1, label, _nothing, _Inputs(name), needs=_need if name == "correct_motion" else None)


class _Clock:
    """CPU seconds of the services and of this process, and how many of them went into the import."""

    def __init__(self, found: services.Services) -> None:
        self._found = found
        self.of_import = 0.0

    def now(self) -> Counter[str]:
        seconds = Counter({"flow": time.process_time()})
        for process in self._found.processes:
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
            seconds[process.name] = sum(sum(p.cpu_times()[:2]) for p in family)
        return seconds

    def process_arrivals(
        self, session_url: str, source: str, files: Sequence[str], recipe: Recipe
    ) -> list[StageReport]:
        """In place of `flows.process_live.process_arrivals`: the import, then stages that do nothing."""
        started = self.now().total()
        imported = import_session.fn(session_url, source, recipe.import_session, list(files))
        self.of_import += self.now().total() - started
        exposures, params = imported.available, StageParams()
        with remembered_records():
            reports = [
                run_stage(session_url, _stage(name, label), exposures, params) for name, (label, _) in _READS.items()
            ]
            return [imported, *reports, group_optics.fn(session_url, exposures, recipe.group_optics)]


def overhead(folder: Path, n_exposures: int = 400) -> list[Comparison]:
    """CPU and growth of the server's database per exposure, in batches of 100 and of 10."""
    settings = Settings(home=folder / "home", dask_address=None, prefect_api_url=None)
    found = services.up(settings)
    environment = {"VITRIFLOW_HOME": str(settings.home), "VITRIFLOW_DASK_ADDRESS": found.dask_address}
    try:
        with temporary_settings({PREFECT_API_URL: found.prefect_api_url}), patch.dict("os.environ", environment):
            _wave(folder / "first", _Clock(found), 4, 2)  # imports on the workers, the server's first flow
            large = _measured_wave(folder / "large", settings, found, n_exposures, 100)
            small = _measured_wave(folder / "small", settings, found, n_exposures // 4, 10)
    finally:
        services.down(settings)
    return [
        _line("CPU per exposure, empty kernels, without its import", large["stages"], "ms", 15),
        _line("CPU per exposure, import of 2 frames of 64 × 64 px included", large["all"], "ms", 15),
        _line("database per exposure", large["database"], "byte", 1000),
        _line("CPU per exposure, empty kernels, without its import, in batches of 10", small["stages"], "ms"),
        _line("database per exposure, in batches of 10", small["database"], "byte"),
    ]


def _line(figure: str, value: float, unit: str, reach: float | None = None) -> Comparison:
    return Comparison(stage="overhead", figure=figure, value=value, unit=unit, reach=reach)


def _measured_wave(
    folder: Path, settings: Settings, found: services.Services, n_exposures: int, batch_size: int
) -> dict[str, float]:
    """Milliseconds and bytes per exposure."""
    clock = _Clock(found)
    database, before = _database_bytes(settings), clock.now()
    _wave(folder, clock, n_exposures, batch_size)
    time.sleep(3)  # the server writes down its last events
    seconds = clock.now()
    seconds.subtract(before)
    each = {name: 1000 * s / n_exposures for name, s in seconds.items()}
    print(f"batches of {batch_size}:", {name: f"{ms:.1f} ms" for name, ms in each.items()})
    return {
        "all": sum(each.values()),
        "stages": sum(each.values()) - 1000 * clock.of_import / n_exposures,
        "database": (_database_bytes(settings) - database) / n_exposures,
    }


def _wave(folder: Path, clock: _Clock, n_exposures: int, batch_size: int) -> None:
    movies = folder / "movies" / "session"
    movies.mkdir(parents=True)
    counts = np.random.default_rng(n_exposures).integers(0, 9, (n_exposures, 2, 64, 64)).astype(np.uint8)
    for i, frames in enumerate(counts):
        tifffile.imwrite(movies / f"movie_{i:05d}.tif", frames, photometric="minisblack")
    scan = ScanFoldersParams(expected_frames=2)
    (session,) = FolderWatch(str(folder / "stores"), scan).scan([str(folder / "movies")])
    recipe = read_recipe("default", {**_CHANGES, "batch_size": str(batch_size)})
    remember_recipe(session.store_url, recipe)
    with patch.object(live, "process_arrivals", clock.process_arrivals):
        reports = live.process_live(session.store_url, idle_seconds=0, renewal="never")
    assert [len(report.done) for report in reports] == [n_exposures] * (2 + len(_READS)), reports


def _database_bytes(settings: Settings) -> int:
    """Pages of the database that are in use; its file and its log grow in larger steps."""
    with sqlite3.connect(settings.home / "prefect" / "prefect.db") as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)
