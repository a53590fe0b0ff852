"""Whether what a session needs is there: room on the disk, and workers for the items that wait."""

from __future__ import annotations

import time
from typing import Any

from distributed import Client
from pydantic import Field

from tasks.records.alarm import DiskShortage, WaitingWork
from tasks.records.session import StageParams
from tasks.stores.storage.disk import missing_room
from tasks.workers.connection import Label, workers_of


class CheckResourcesParams(StageParams):
    """Limits below, or after, which somebody is told."""

    min_free_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of a disk that stays free."""
    min_free_gigabytes: float = Field(default=20.0, ge=0)
    """Room that stays free."""
    max_waiting_seconds: float = Field(default=60.0, ge=0)
    """Time that items may wait for a worker with their label."""


def disk_shortage(place: str, params: CheckResourcesParams, to_be_written_bytes: int = 0) -> DiskShortage | None:
    """What is missing on the disk of a folder so that it does not fill up, see `missing_room`."""
    return missing_room(
        place,
        to_be_written_bytes=to_be_written_bytes,
        min_free_fraction=params.min_free_fraction,
        min_free_gigabytes=params.min_free_gigabytes,
    )


def waiting_work(client: Client, label: Label, params: CheckResourcesParams) -> WaitingWork | None:
    """Items for which the scheduler has had no worker with ``label`` for too long; None where there are none."""
    found: list[tuple[str, float]] = client.run_on_scheduler(_unrunnable, label=label)
    if not found or max(seconds for _, seconds in found) < params.max_waiting_seconds:
        return None
    workers = workers_of(client).values()
    return WaitingWork(
        label=label,
        n_items=len(found),
        longest_seconds=max(seconds for _, seconds in found),
        stages=tuple(sorted({key.rpartition("-")[0] or key for key, _ in found})),
        scheduler=str(client.scheduler.address),  # type: ignore[union-attr]
        n_workers=sum(worker["resources"].get(label, 0) >= 1 for worker in workers),
    )


def _unrunnable(dask_scheduler: Any, label: str) -> list[tuple[str, float]]:
    """(key, seconds) of the tasks that ask for the label and that no worker can run; runs in the scheduler."""
    now = time.monotonic()
    return [
        (str(task.key), now - since)
        for task, since in dask_scheduler.unrunnable.items()
        if label in (task.resource_restrictions or {})
    ]
