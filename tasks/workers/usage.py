"""What a stage used: CPU seconds and peak memory of its workers, and of the programs that they start."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from distributed import Client, Worker

from tasks.records.session import StageReport
from tasks.stores.commit import children_seconds
from tasks.workers.connection import Label


@contextmanager
def stage_usage(client: Client, label: Label, report: StageReport) -> Iterator[None]:
    """Add the CPU seconds and the peak memory of the labelled workers during the block to the report.

    Of the programs that a worker starts as well: their seconds, once they have ended, and the memory of the largest one
    that ran during the block, since it runs beside the worker.
    """
    before = client.run(_usage, True, label, on_error="ignore")  # a worker may just be given back
    try:
        yield
    finally:
        after = client.run(_usage, False, label, on_error="ignore")  # one that came meanwhile has worked, too
        for address, usage in after.items():
            if usage is not None:
                earlier = before.get(address) or _NOTHING
                of_programs = max(0.0, usage.program_seconds - earlier.program_seconds)
                report.cpu_seconds += max(0.0, usage.own_seconds - earlier.own_seconds) + of_programs
                report.peak_memory_bytes = max(report.peak_memory_bytes, usage.own_bytes + usage.program_bytes)


class _Usage(NamedTuple):
    """Of a worker so far."""

    own_seconds: float
    own_bytes: int
    """Peak resident set since the last reset."""
    program_seconds: float
    """Of the programs that it started and that ended."""
    program_bytes: int
    """Peak resident set of the largest of them since the last reset."""


_NOTHING = _Usage(0.0, 0, 0.0, 0)


_PROC = Path("/proc")


class _Programs:
    """Watches what this process starts, and what that starts: the peak of the largest program.

    The kernel's own account of ended children (``ru_maxrss``) begins with what the process that started them held at
    that moment, so that a program of 10 MB in a worker of 1.6 GB counts as 1.6 GB. Here it is asked while they run.
    """

    _EVERY_SECONDS = 0.25

    def __init__(self) -> None:
        self._peak = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory of programs")
        self._thread.start()

    def ended(self) -> int:
        """Ends the watch; bytes."""
        self._is_over.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        own = (_PROC / "self/cmdline").read_bytes()
        while not self._is_over.wait(self._EVERY_SECONDS):
            found = _children(_PROC / "self")
            for child in found:
                found += _children(child)
                with suppress(OSError):  # it ended meanwhile
                    # until it has become another program, a child is this process once more
                    if (child / "cmdline").read_bytes() not in (b"", own):
                        self._peak = max(self._peak, _status_bytes(child, "VmHWM"))


def _children(process: Path) -> list[Path]:
    """What a process has started and not yet taken leave of."""
    found: list[Path] = []
    with suppress(OSError):  # it, or a thread of it, ended meanwhile
        for thread in (process / "task").iterdir():
            found += [_PROC / number for number in (thread / "children").read_text().split()]
    return found


_watching: dict[int, _Programs] = {}
"""Of each worker by the id of its object: several may share this process."""


def _usage(is_reset: bool, label: Label, dask_worker: Worker) -> _Usage | None:
    """Of this process; None without the label."""
    if dask_worker.state.total_resources.get(label, 0) < 1:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    watched = _watching.pop(id(dask_worker), None)
    of_programs = 0 if watched is None else watched.ended()
    if (_PROC / "self/status").exists():
        peak = _status_bytes(_PROC / "self", "VmHWM")
        if is_reset:
            (_PROC / "self/clear_refs").write_text("5")
            _watching[id(dask_worker)] = _Programs()
    return _Usage(time.process_time(), peak, children_seconds(), of_programs)


def _status_bytes(process: Path, name: str) -> int:
    """0 for what has ended."""
    lines = (process / "status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
