"""What a stage used: CPU seconds and peak memory of its workers."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client, Worker

from tasks.records.session import StageReport
from tasks.workers.connection import Label


@contextmanager
def stage_usage(client: Client, label: Label, report: StageReport) -> Iterator[None]:
    """Add the CPU seconds and the peak memory of the labelled workers during the block to the report."""
    before = client.run(_usage, True, label, on_error="ignore")  # a worker may just be given back
    try:
        yield
    finally:
        after = client.run(_usage, False, label, on_error="ignore")  # one that came meanwhile has worked, too
        for address, usage in after.items():
            if usage is not None:
                cpu_seconds, peak = usage
                report.cpu_seconds += max(0.0, cpu_seconds - (before.get(address) or (0.0, 0))[0])
                report.peak_memory_bytes = max(report.peak_memory_bytes, peak)


def _usage(is_reset: bool, label: Label, dask_worker: Worker) -> tuple[float, int] | None:
    """CPU seconds of this process so far and its peak resident set since the last reset; None without the label."""
    if dask_worker.state.total_resources.get(label, 0) < 1:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        if is_reset:
            Path("/proc/self/clear_refs").write_text("5")
    return time.process_time(), peak
