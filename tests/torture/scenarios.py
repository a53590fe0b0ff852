"""The faults, one function each; every one returns a row of the table."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows import services
from flows.settings import Settings
from tasks.stores.ledger import Line, read_ledger
from tasks.stores.location import StoreError
from tasks.stores.session_store import SessionStore
from tests.torture.commit_log import LOG_VARIABLE
from tests.torture.feed import N_FRAMES, Feed
from tests.torture.supervision import Supervisor

RECIPE = {
    "import_session.pixel_size_angstrom": "2.0",
    "import_session.dose_per_frame": "5.0",
    **{
        f"curate_exposures.{limit}": "null"
        for limit in (
            "max_fit_resolution_angstrom", "max_drift_angstrom", "max_motion_angstrom", "max_early_motion_angstrom",
            "max_astigmatism_angstrom", "max_ice_ring_ratio", "min_defocus_angstrom", "max_defocus_angstrom",
        )
    },
    **{f"{stage}.diameter_angstrom": "120" for stage in ("pick_particles", "extract_particles", "classify_2d")},
    **{f"{stage}.diameter_angstrom": "120" for stage in ("build_initial_map", "refine_map")},
}
PER_EXPOSURE = ("import_session", "correct_motion", "estimate_ctf", "curate_exposures", "pick_particles")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    fault: str
    seen: str
    lost: int
    twice: int
    recovery_seconds: float | None


class Site:
    """A workstation with all its services under supervision, in a folder of its own."""

    def __init__(self, folder: Path, n_cores: int = 2) -> None:
        self.folder = folder
        self.commits = folder / "commits.log"
        folder.mkdir(parents=True)
        self.commits.touch()
        self.settings = Settings(home=folder / "home", n_cores=n_cores, dask_address=None, prefect_api_url=None)
        self._environment = {
            "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.torture.commit_log",
            LOG_VARIABLE: str(self.commits),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def __enter__(self) -> Site:
        os.environ.update(self._environment)
        self.supervisor = Supervisor(self.folder)
        self.services = services.up(self.settings)
        self.supervisor.adopt(self.services)
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop_all()
        for name in self._environment:
            os.environ.pop(name, None)

    def watch(self, root: Path, stores: Path) -> None:
        """The watch folder, as `vitriflow watch` runs it, restarted when it dies."""
        command = [sys.executable, "-m", "flows.cli", "watch", str(root), "--stores", str(stores), "--hours", "24"]
        command += ["--expected-frames", str(N_FRAMES)]
        for name, value in RECIPE.items():
            command += ["--set", f"{name}={value}"]
        environment = {
            "VITRIFLOW_HOME": str(self.settings.home),
            "PREFECT_API_URL": self.services.prefect_api_url,
            "VITRIFLOW_DASK_ADDRESS": self.services.dask_address,
            "VITRIFLOW_WORKER_PATIENCE_SECONDS": "120",
        }
        self.supervisor.start("watch", command, environment)

    def commit_times(self) -> list[float]:
        return [float(line.split()[0]) for line in self.commits.read_text().splitlines()]

    def n_twice(self) -> int:
        """Products that were committed as done more than once with the same fingerprint."""
        done = [line.split()[1:3] for line in self.commits.read_text().splitlines() if line.endswith(" done")]
        return sum(n - 1 for n in Counter(map(tuple, done)).values())


def feed_with_kills(folder: Path, n_files: int, seconds_between: float, growth_pause_seconds: float) -> list[Row]:
    """Files at ten times a microscope's pace, some of them bad, while one service after the other is killed."""
    share = n_files / 1000
    feed = Feed(
        folder / "microscope" / "session",
        n_files,
        seconds_between,
        n_truncated=max(2, round(20 * share)),
        n_duplicates=max(2, round(5 * share)),
        n_growing=max(1, round(3 * share)),
        n_other_frame_count=max(1, round(2 * share)),
        growth_pause_seconds=growth_pause_seconds,
    )
    kills: list[tuple[str, str, bool]] = [
        ("a CPU worker killed", "dask-cpu-worker", True),
        ("the Prefect server killed", "prefect", False),
        ("the flow's process killed", "watch", False),
        ("a CPU worker killed again", "dask-cpu-worker", True),
        ("the Dask scheduler killed", "dask-scheduler", False),
    ]
    recoveries: list[tuple[str, float]] = []
    with Site(folder / "site") as site:
        site.watch(folder / "microscope", folder / "stores")
        feed.start()
        store_url = folder / "stores" / "session.zarr"
        for number, (fault, service, is_child) in enumerate(kills):
            target = (number + 0.7) / (len(kills) + 1) * n_files
            _wait(lambda target=target: _n_seen(store_url) >= target, 3600)
            killed_at = time.time()
            site.supervisor.kill(service, is_child)
            _wait(lambda killed_at=killed_at: any(t > killed_at + 1 for t in site.commit_times()), 600)
            recoveries.append((fault, min(t for t in site.commit_times() if t > killed_at + 1) - killed_at))
        feed.join()
        is_complete = _wait(lambda: not _unfinished(store_url, feed), 600 + 3 * n_files, is_fatal=False)
        lines = read_ledger(SessionStore.open(str(store_url))).lines
        wrong = _wrong_outcomes(lines, feed)
        counts = Counter(line.state for line in lines)
        twice = site.n_twice()
        n_restarts = site.supervisor.n_restarts
    seen = (
        f"{len(feed.fates)} files; ledger {len(lines)} = "
        + " + ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        + f"; every bad file named; {n_restarts} restarts"
        + ("" if is_complete else "; NOT all finished in time")
        + (f"; wrong: {json.dumps(wrong)[:300]}" if wrong else "")
    )
    rows = [Row(f"{n_files} files at 10 × pace, {len(feed.fates) - _n_good(feed)} bad", seen, len(wrong), twice, None)]
    return rows + [Row(fault, "work goes on", 0, 0, seconds) for fault, seconds in recoveries]


def _n_good(feed: Feed) -> int:
    return sum(fate == "done" for fate in feed.fates.values())


def _n_seen(store_url: Path) -> int:
    try:
        return len(SessionStore.open(str(store_url)).exposure_ids())
    except StoreError:
        return 0


def _unfinished(store_url: Path, feed: Feed) -> list[str]:
    """Files whose fate has not come about."""
    try:
        lines = read_ledger(SessionStore.open(str(store_url))).lines
    except StoreError:
        return list(feed.fates)
    return list(_wrong_outcomes(lines, feed))


def _wrong_outcomes(lines: list[Line], feed: Feed) -> dict[str, str]:
    """File -> what the ledger says, where that is not what has to become of it; and entries without a file."""
    by_stem: dict[str, list[Line]] = {}
    for line in lines:
        by_stem.setdefault(line.exposure.split("-")[0], []).append(line)
    wrong = {}
    for name, fate in feed.fates.items():
        found = by_stem.pop(Path(name).stem, [])
        if len(found) != 1 or not _is_fate(found[0], fate):
            wrong[name] = f"expected {fate}, found {[(line.state, line.stage, line.reason) for line in found]}"
    return wrong | {stem: f"no such file: {[line.exposure for line in found]}" for stem, found in by_stem.items()}


def _is_fate(line: Line, fate: str) -> bool:
    if fate == "done":  # extraction has its say last; an exposure without particles ends one stage earlier
        return line.state in ("done", "skipped") and line.stage in ("extract_particles", "pick_particles")
    return (line.state, line.stage) == (fate, "import_session") and bool(line.reason)


def _wait(is_so: Callable[[], bool], seconds: float, is_fatal: bool = True) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            if is_fatal:
                raise TimeoutError(f"waited {seconds:g} s in vain")
            return False
        time.sleep(0.5)
    return True
