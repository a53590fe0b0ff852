"""Sessions of 10,000 and 100,000 exposures: what `vitriflow status` takes, and what the ledger takes to be written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import boto3
import psutil
from rich.console import Console

from flows.commands import status
from tasks.records.comparison import Comparison
from tasks.stores.commit import Record
from tasks.stores.ledger import STAGES, write_index
from tasks.stores.session_store import SessionStore
from tests.infra.processes import Programs, connects, free_ports

_RECORD = Record(
    state="done", stage="", stage_version=1, fingerprint="", figures={f"figure_{i}": 12.345 * i for i in range(8)}
)
_BATCH = 100


def status_from_disk(folder: Path, n_exposures: int = 10_000) -> list[Comparison]:
    """Wall and CPU time of what `vitriflow status` does, and of the whole command in a process of its own."""
    store = SessionStore.create(str(folder / "disk.zarr"))
    _write_ledger(store, 0, n_exposures)
    for name in _names(0, n_exposures):
        (Path(store.url) / "exposures" / name).mkdir()
    wall, cpu = _timed_status(store)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "status", store.url], check=True, stdout=subprocess.DEVNULL, timeout=300
    )
    return [
        _line(f"status of {n_exposures:,} exposures from disk", wall, "s", 2),
        _line("of it CPU", cpu, "s"),
        _line("the whole command, Python's start included", time.perf_counter() - started, "s"),
    ]


def status_from_s3(folder: Path, n_exposures: int = 10_000) -> list[Comparison]:
    """The same from an S3 server (moto) in a process of its own on this machine; each exposure has one object."""
    with _moto(folder) as bucket:
        client = boto3.client("s3")
        store = SessionStore.create(f"{bucket}/session.zarr")
        _write_ledger(store, 0, n_exposures)
        keys = [f"session.zarr/exposures/{name}/import_session/commit.json" for name in _names(0, n_exposures)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: client.put_object(Bucket="sessions", Key=key, Body=b"{}"), keys))
        wall, cpu = _timed_status(store)
    return [
        _line(f"status of {n_exposures:,} exposures from S3", wall, "s", 5),
        _line("of it CPU, the server's left out", cpu, "s"),
    ]


def ledger_of_100_000() -> list[Comparison]:
    """In a process of its own, so that its memory is that of the ledger."""
    command = [sys.executable, "-m", "tests.benchmarks.status"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout.split()
    each_ms, first_mb, growth_mb, read_s = (float(word) for word in told)
    return [
        _line("100,000 exposures through the ledger, CPU per exposure", each_ms, "ms"),
        _line("memory after the first 10,000", first_mb, "MB"),
        _line("growth of it by the other 90,000", growth_mb, "MB", 40),
        _line("status of 100,000 exposures from disk", read_s, "s"),
    ]


def _line(figure: str, value: float, unit: str, reach: float | None = None) -> Comparison:
    return Comparison(stage="ledger", figure=figure, value=value, unit=unit, reach=reach)


def _names(first: int, end: int) -> list[str]:
    return [f"FoilHole_1234_Data_{i:06d}_fractions-{i * 2654435761 % 2**32:08x}" for i in range(first, end)]


def _write_ledger(store: SessionStore, first: int, end: int) -> None:
    """As the stages do at the end of each batch."""
    for start in range(first, end, _BATCH):
        for stage in STAGES:
            write_index(store, stage, dict.fromkeys(_names(start, start + _BATCH), _RECORD))


def _timed_status(store: SessionStore) -> tuple[float, float]:
    """Wall and CPU seconds of the second look; the first imports what it needs."""
    with open(os.devnull, "w") as nowhere, patch.object(status, "console", Console(file=nowhere)):
        status.show_status(store.url)
        wall, cpu = time.perf_counter(), time.process_time()
        status.show_status(store.url)
    return time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def _moto(folder: Path) -> Iterator[str]:
    """Address of a new bucket; the environment has what its clients need."""
    (port,) = free_ports(1)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    programs = Programs(folder / "logs")
    try:
        programs.start("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
        programs.wait("moto", lambda: connects(port))
        with patch.dict("os.environ", environment):
            boto3.client("s3").create_bucket(Bucket="sessions")
            yield "s3://sessions"
    finally:
        programs.stop()


def _main() -> None:
    """Prints milliseconds per exposure, MB after the first tenth, MB more at the end, and seconds of a status."""
    n_exposures = 100_000
    with tempfile.TemporaryDirectory() as folder:
        store = SessionStore.create(str(Path(folder) / "large.zarr"))
        started, resident = time.process_time(), []
        for first in range(0, n_exposures, n_exposures // 10):
            _write_ledger(store, first, first + n_exposures // 10)
            resident.append(psutil.Process().memory_info().rss / 1e6)
        each = 1000 * (time.process_time() - started) / n_exposures
        for name in _names(0, n_exposures):
            (Path(store.url) / "exposures" / name).mkdir()
        wall, _ = _timed_status(store)
        print(each, resident[0], max(resident) - resident[0], wall)


if __name__ == "__main__":
    _main()
