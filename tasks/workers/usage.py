"""What a stage used: CPU seconds and peak memory of its workers, and of the programs that they start."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from distributed import Client, Worker

from tasks.records.session import StageReport
from tasks.stores.commit import children_seconds
from tasks.workers.connection import Label


@contextmanager
def stage_usage(client: Client, label: Label, report: StageReport) -> Iterator[None]:
    """Add the CPU seconds and the peak memory of the labelled workers during the block to the report.

    Of the programs that a worker starts as well, once they have ended: their seconds, and the memory of the largest one
    that it ever started, since it runs beside the worker.
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
                peak = usage.own_bytes + (usage.program_bytes if of_programs > 0 else 0)
                report.peak_memory_bytes = max(report.peak_memory_bytes, peak)


class _Usage(NamedTuple):
    """Of a worker so far."""

    own_seconds: float
    own_bytes: int
    """Peak resident set since the last reset."""
    program_seconds: float
    """Of the programs that it started and that ended."""
    program_bytes: int
    """Peak resident set of the largest of them."""


_NOTHING = _Usage(0.0, 0, 0.0, 0)


def _usage(is_reset: bool, label: Label, dask_worker: Worker) -> _Usage | None:
    """Of this process; None without the label."""
    if dask_worker.state.total_resources.get(label, 0) < 1:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        if is_reset:
            Path("/proc/self/clear_refs").write_text("5")
    of_programs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return _Usage(time.process_time(), peak, children_seconds(), of_programs)
