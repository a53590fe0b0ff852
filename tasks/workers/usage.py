"""What a stage used: CPU seconds and peak memory of its workers."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from tasks.records.session import StageReport
from tasks.workers.connection import Label, workers_of


@contextmanager
def stage_usage(client: Client, label: Label, report: StageReport) -> Iterator[None]:
    """Add the CPU seconds and the peak memory of the labelled workers during the block to the report."""
    # one may just be given back
    before = client.run(_usage, True, workers=_addresses(client, label), on_error="ignore")
    try:
        yield
    finally:
        # those of now: one that was lost would be waited for, one that came later has worked too
        after = client.run(_usage, False, workers=_addresses(client, label), on_error="ignore")
        for address, (cpu_seconds, peak) in after.items():
            report.cpu_seconds += max(0.0, cpu_seconds - before.get(address, (0.0, 0))[0])
            report.peak_memory_bytes = max(report.peak_memory_bytes, peak)


def _addresses(client: Client, label: Label) -> list[str]:
    workers = workers_of(client)
    return [address for address, worker in workers.items() if worker["resources"].get(label, 0) >= 1]


def _usage(is_reset: bool) -> tuple[float, int]:
    """CPU seconds of this process so far and its peak resident set since the last reset."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        if is_reset:
            Path("/proc/self/clear_refs").write_text("5")
    return time.process_time(), peak
