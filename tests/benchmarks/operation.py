"""What the machinery itself costs: per exposure with empty kernels, and for sessions of up to 100,000 exposures."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import psutil
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import services
from flows.process_session import batches
from flows.settings import Settings
from tasks.records.comparison import Comparison
from tasks.records.session import StageParams
from tasks.stores.commit import Attempt, Record
from tasks.stores.ledger import STAGES, read_ledger, write_index
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect
from tasks.workers.stage import Stage, run_stage

_STAGE_NAME = "operation"


def _nothing(store: SessionStore, item: str, params: StageParams, attempt: Attempt) -> None:
    attempt.figures["value"] = 1.0


def _no_inputs(store: SessionStore, item: str) -> list[str]:
    return []


def _after_import(store: SessionStore, item: str) -> list[str]:
    return [f"exposures/{item}/import_session"]


def _after_motion(store: SessionStore, item: str) -> list[str]:
    return [f"exposures/{item}/correct_motion"]


def _after_ctf(store: SessionStore, item: str) -> list[str]:
    return [f"exposures/{item}/estimate_ctf"]


def _after_curation(store: SessionStore, item: str) -> list[str]:
    return [f"exposures/{item}/curate_exposures", f"exposures/{item}/correct_motion"]


def _after_picks(store: SessionStore, item: str) -> list[str]:
    return [f"exposures/{item}/pick_particles", f"exposures/{item}/correct_motion", f"exposures/{item}/estimate_ctf"]


_INPUTS = (_no_inputs, _after_import, _after_motion, _after_ctf, _after_curation, _after_picks)


@flow(name="empty_session")
def _empty_session(session_url: str, n_exposures: int, batch_size: int) -> None:
    names = [f"exposure_{i:05d}" for i in range(n_exposures)]
    for batch in batches(names, batch_size):
        for name, inputs in zip(STAGES, _INPUTS):
            run_stage(session_url, Stage(name, 1, "CPU", _nothing, inputs), batch, StageParams())


def overhead(folder: Path, n_exposures: int = 400, batch_size: int = 100) -> list[Comparison]:
    """CPU of flow, server, scheduler and workers, and bytes of the server's database, a session of empty kernels."""
    settings = Settings(home=folder / "home", dask_address=None, prefect_api_url=None)
    found = services.up(settings)
    try:
        with temporary_settings({PREFECT_API_URL: found.prefect_api_url}), connect(found.dask_address):
            store = SessionStore.create(str(folder / "empty.zarr"))
            _empty_session(store.url, 2, 1)
            before, database_before = _cpu_seconds(found), _database_bytes(settings)
            _empty_session(store.url, n_exposures, batch_size)
            seconds = {name: after - before[name] for name, after in _cpu_seconds(found).items()}
            time.sleep(5)
            grown = _database_bytes(settings) - database_before
    finally:
        services.down(settings)
    print({name: f"{1000 * s / n_exposures:.1f} ms" for name, s in seconds.items()})
    cpu_ms = 1000 * sum(seconds.values()) / n_exposures
    return [
        Comparison(stage=_STAGE_NAME, figure="CPU per exposure, empty kernels", value=cpu_ms, unit="ms", reach=15),
        Comparison(
            stage=_STAGE_NAME, figure="database per exposure", value=grown / n_exposures, unit="byte", reach=1000
        ),
    ]


def _cpu_seconds(found: services.Services) -> dict[str, float]:
    seconds = {"this": time.process_time()}
    for process in found.processes:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        seconds[process.name] = sum(sum(p.cpu_times()[:2]) for p in family)
    return seconds


def _database_bytes(settings: Settings) -> int:
    return sum(p.stat().st_size for p in (settings.home / "prefect").glob("prefect.db*"))


def large_sessions(folder: Path) -> list[Comparison]:
    """Status of 10,000 exposures; 100,000 through the ledger in batches, with the memory that takes."""
    record = Record(state="done", stage="", stage_version=1, fingerprint="", figures={"a": 0.25, "b": 1, "c": 12.5})
    seconds = []
    for n_exposures in (10_000, 100_000):
        store = SessionStore.create(str(folder / f"{n_exposures}.zarr"))
        start, peaks = time.process_time(), []
        for number, first in enumerate(range(0, n_exposures, 100)):
            names = [f"exposure_{i:06d}" for i in range(first, first + 100)]
            for stage in STAGES:
                write_index(store, stage, dict.fromkeys(names, record))
            if number % 100 == 99:
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        written = time.process_time() - start
        print(
            f"{n_exposures} exposures: {1000 * written / n_exposures:.2f} ms each to index; "
            f"peak memory {peaks[0]:.0f} MB after 10,000, {peaks[-1]:.0f} MB at the end"
        )
        for i in range(n_exposures):
            (Path(store.url) / "exposures" / f"exposure_{i:06d}").mkdir()
        start_wall = time.perf_counter()
        assert read_ledger(store).counts()["done"] == n_exposures
        seconds.append(time.perf_counter() - start_wall)
    return [
        Comparison(stage=_STAGE_NAME, figure="status of 10,000 exposures", value=seconds[0], unit="s", reach=2),
        Comparison(stage=_STAGE_NAME, figure="status of 100,000 exposures", value=seconds[1], unit="s"),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for comparison in [*large_sessions(Path(name)), *overhead(Path(name))]:
            print(f"{comparison.figure}: {comparison.value:.3g} {comparison.unit} ({comparison.reach_words})")
