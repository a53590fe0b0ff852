"""What the labelled workers and the disk have, against what a stage needs, before its first item.

An item that takes more than its worker has would end as a killed worker, hours into a refinement. So a stage says what
it needs; where that does not fit beside what else the worker runs, its items are cut into pieces, then fewer of them
run at a time, and where not even one fits, the stage is refused with the figures.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from distributed import Client

from tasks.records.forecast import Need
from tasks.records.session import StageReport
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.disk import missing_room
from tasks.stores.upkeep.costs import read_costs
from tasks.workers.allotment import forget_other_stages
from tasks.workers.connection import Label, require_workers, workers_of

logger = logging.getLogger(__name__)

PROCESS_BYTES = 450_000_000
"""Resident set of a worker with all of the project imported, 370 MB, and what its threads and buffers add."""
_USABLE_SHARE = 0.9
"""Of a worker's limit; its nanny kills it at 95 %."""

_SECONDS_WORTH_TELLING = 30.0
"""Waves of a few exposures would fill the server's database with words of what takes a moment."""

Worker = Mapping[str, Any]
"""What the scheduler says of one."""

_DEVICE_BYTES: dict[str, float] = {}
"""Id of a worker -> memory of its accelerator, infinite where it has none."""


class DoesNotFitError(RuntimeError):
    """A stage needs more memory or disk than there is; nothing of it was started."""


@dataclass(frozen=True)
class Share:
    """How the items of a stage share the workers with its label."""

    spare_bytes: float = math.inf
    """What an item may take beyond the least it needs."""
    n_slots: int = 1
    """Slots of a worker that an item takes."""
    n_at_once: int = 1
    """Items that all workers together run at a time."""
    only_on: tuple[str, ...] | None = None
    """Addresses of the workers that are large enough; None where all are."""


_foreseen: ContextVar[tuple[Need, Share] | None] = ContextVar("what was foreseen for the stage that runs", default=None)


@contextmanager
def fitting(store: SessionStore, label: Label, need: Need, report: StageReport) -> Iterator[None]:
    """Items run inside the block fit their workers and the disk; raises DoesNotFitError at once where they cannot."""
    client = require_workers(label)
    workers = _labelled(client, label)
    share = _share_on(client, workers, label, need)
    shortage = missing_room(store.location.url, to_be_written_bytes=need.disk_bytes)
    if shortage is not None:
        raise DoesNotFitError(
            f"{need.stage}: needs {_gb(need.disk_bytes)} GB on the disk of {shortage.path} for {need.told_from}, "
            f"{_gb(shortage.free_bytes)} GB are free; make room, or `vitriflow sweep` what expired"
        )
    crowded = [a for a, worker in workers.items() if _is_crowded(worker, share.n_at_once, need)]
    if crowded:
        client.run(forget_other_stages, need.stage, workers=crowded, on_error="ignore")
    cost = read_costs(store).get(need.stage)
    seconds = need.cpu_seconds * (cost.ratio if cost else 1.0)
    duration = seconds / min(share.n_at_once, max(1, need.n_items))
    cut = need.least_memory_bytes + share.spare_bytes < need.memory_bytes
    logger.log(
        logging.INFO if cut or duration >= _SECONDS_WORTH_TELLING else logging.DEBUG,
        "%s: %s; %s GB an item%s, %d at a time, %s GB on disk, about %s (%.0f CPU-s)",
        need.stage, need.told_from, _gb(min(need.memory_bytes, need.least_memory_bytes + share.spare_bytes)),
        f" cut into smaller pieces from {_gb(need.memory_bytes)} GB" if cut else "", share.n_at_once,
        _gb(need.disk_bytes), duration_words(duration), seconds,
    )  # fmt: skip
    report.foreseen_cpu_seconds += need.cpu_seconds
    report.foreseen_memory_bytes = max(report.foreseen_memory_bytes, PROCESS_BYTES + need.memory_bytes)
    previous = _foreseen.set((need, share))
    try:
        yield
    finally:
        _foreseen.reset(previous)


def share_now(client: Client, label: Label) -> Share:
    """How the items that are submitted now share the workers that there are now."""
    foreseen = _foreseen.get()
    if foreseen is None:
        n_slots = sum(int(worker["resources"].get(label, 0)) for worker in workers_of(client).values())
        return Share(n_at_once=max(1, n_slots))
    need, share = foreseen
    try:
        return share_of(client, label, need)
    except DoesNotFitError:  # the worker that is large enough comes back, or its items fail for want of it
        return share


def share_of(client: Client, label: Label, need: Need) -> Share:
    """How items with a need share the connected workers with ``label``; raises DoesNotFitError."""
    return _share_on(client, _labelled(client, label), label, need)


def _labelled(client: Client, label: Label) -> dict[str, Worker]:
    return {a: worker for a, worker in workers_of(client).items() if worker["resources"].get(label, 0) >= 1}


def _share_on(client: Client, workers: Mapping[str, Worker], label: Label, need: Need) -> Share:
    rooms = {address: _room_bytes(client, address, worker) for address, worker in workers.items()}
    slots = {address: _n_slots(worker, label) for address, worker in workers.items()}
    return share_among(rooms, slots, label, need)


def share_among(rooms: Mapping[str, float], slots: Mapping[str, int], label: str, need: Need) -> Share:
    """The same of workers by their addresses: bytes that each has for its items, and items it would run at a time."""
    least = max(need.least_memory_bytes, 1)
    large = {address: room for address, room in rooms.items() if room >= least}
    if not large:
        most = max(rooms.values(), default=0.0)
        limit = (least + PROCESS_BYTES) / _USABLE_SHARE / 2**30
        raise DoesNotFitError(
            f"{need.stage}: needs {_gb(least)} GB for one of {need.n_items} items ({need.told_from}), the largest of "
            f"{len(rooms)} workers labelled {label} has {_gb(max(most, 0.0))} GB for it; start one with "
            f"`--memory-limit {math.ceil(10 * limit) / 10:g}GiB` (VITRIFLOW_WORKER_MEMORY), or {need.remedy}"
        )
    n_slots = max(math.ceil(slots[a] / min(slots[a], int(min(room / least, 1e9)))) for a, room in large.items())
    running = {address: slots[address] // n_slots for address in large}
    each = min(large[address] / n for address, n in running.items() if n)
    return Share(each - least, n_slots, sum(running.values()), tuple(large) if len(large) < len(rooms) else None)


def _is_crowded(worker: Worker, n_at_once: int, need: Need) -> bool:
    """Whether items might not fit beside what the worker kept of other stages, by its last beat, a second ago.

    Giving it back takes half a CPU-second, more than many small batches take. Accelerators do not tell how full they
    are.
    """
    resident = float(worker.get("metrics", {}).get("memory", math.inf))
    usable = _USABLE_SHARE * float(worker["memory_limit"] or math.inf)
    n_beside = min(n_at_once, int(worker["nthreads"]), max(1, need.n_items))
    is_on_accelerator = _DEVICE_BYTES.get(str(worker["id"]), math.inf) < math.inf
    return is_on_accelerator or resident + n_beside * need.memory_bytes > usable


def _n_slots(worker: Worker, label: Label) -> int:
    return max(1, min(int(worker["resources"][label]), int(worker["nthreads"])))


def _room_bytes(client: Client, address: str, worker: Worker) -> float:
    """What a worker has for its items: of its memory, and of its accelerator's where it has one."""
    name = str(worker["id"])
    if name not in _DEVICE_BYTES:
        found = client.run(_device_bytes, workers=[address], on_error="ignore")
        _DEVICE_BYTES[name] = next(iter(found.values()), math.inf)
    limit = float(worker["memory_limit"] or math.inf)
    return min(_USABLE_SHARE * limit - PROCESS_BYTES, _USABLE_SHARE * _DEVICE_BYTES[name])


def _device_bytes() -> float:
    """What the accelerator of this process has for it, infinite where there is none."""
    if not torch.cuda.is_available():
        return math.inf
    return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())


def duration_words(seconds: float) -> str:
    """For instance "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2g}" if n_bytes < 1e10 else f"{n_bytes / 1e9:.0f}"
