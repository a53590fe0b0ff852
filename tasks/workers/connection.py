"""The connected Dask cluster: whose items it runs, the labels of its workers, the guard before a stage."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import distributed
from distributed import Client

from tasks.workers.groups import executing

logger = logging.getLogger(__name__)

Label = Literal["CPU", "GPU"]

WANTED = "vitriflow-wanted"
"""Topic of the scheduler's events under which a stage without a worker tells its label; `flows.slurm` listens."""

_SECONDS_BETWEEN_REMINDERS = 30.0
_SECONDS_BETWEEN_COUNTS = 1.0


class NoWorkerError(RuntimeError):
    """No Dask worker carries the label that a stage needs."""


class _Slots:
    """Slots of the workers that there are, by label."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._counted_at = -math.inf

    def count(self, client: Client, label: Label) -> int:
        """As counted a moment ago: the stages of a small batch follow each other faster than workers come and go."""
        if time.monotonic() - self._counted_at > _SECONDS_BETWEEN_COUNTS:
            self._found.clear()
            for worker in workers_of(client).values():
                self._found.update({name: int(n) for name, n in worker["resources"].items()})
            self._counted_at = time.monotonic()
        return self._found[label]


@dataclass(frozen=True)
class Connection:
    """Whose items are run, how long they wait for a worker that is not there, and what was seen of both so far."""

    owners: tuple[str, ...] = ()
    """The parts of a session that are worked on; items of one of them that an earlier flow left behind are waited for.
    """
    patience_seconds: float = 0.0
    slots: _Slots = field(default_factory=_Slots)
    seconds_per_item: dict[str, float] = field(default_factory=dict)
    """Stage -> how long its items took last, from which follows how many make a group."""


_connection: ContextVar[Connection | None] = ContextVar("connection", default=None)


def current_connection() -> Connection:
    """That of the innermost block; one that knows nothing where there is no connection of ours."""
    return _connection.get() or Connection()


@contextmanager
def connect(address: str, owners: tuple[str, ...] = (), patience_seconds: float = 0.0) -> Iterator[Client]:
    """A Dask client that the stages called inside the block use.

    Parameters
    ----------
    owners
        Parts of a session that are worked on, alone (see `tasks.stores.storage.lease`). A flow that was killed leaves
        the items behind that its workers were computing: they are waited for here, so that none is computed twice.
    patience_seconds
        How long a stage waits for a worker with its label, saying so, before it gives up.
    """
    connection = Connection(owners, patience_seconds)
    with Client(address, set_as_default=True, timeout=30) as client:
        _wait_for_leftovers(client, owners)
        previous = _connection.set(connection)
        try:
            yield client
        finally:
            _connection.reset(previous)


def _wait_for_leftovers(client: Client, owners: tuple[str, ...]) -> None:
    is_told = False
    while owners:
        left = client.run(executing, owners, on_error="ignore")
        names = [name for found in left.values() for name in found]
        if not names:
            return
        if not is_told:
            is_told = True
            logger.info("waiting for %d items that an earlier flow left behind: %s", len(names), ", ".join(names))
        time.sleep(0.5)


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """Address -> what the scheduler says of each worker now.

    ``Client.scheduler_info`` may answer with none: a beat of the client, which asks for no workers, overwrites what was
    asked for before it is returned.
    """
    return client.sync(client.scheduler.identity, n_workers=-1)["workers"]  # type: ignore[union-attr,no-any-return]


def require_workers(label: Label) -> Client:
    """The connected client, once a worker with ``label`` is there; raises NoWorkerError where none comes."""
    try:
        client = distributed.default_client()
    except ValueError as error:
        raise NoWorkerError("no Dask cluster is connected; start one with `vitriflow up`") from error
    connection = current_connection()
    if connection.slots.count(client, label):
        return client
    started = time.monotonic()
    patience = connection.patience_seconds
    told_at = -math.inf
    while True:
        workers = workers_of(client).values()
        if any(worker["resources"].get(label, 0) >= 1 for worker in workers):
            return client
        labels = sorted({name for worker in workers for name in worker["resources"]})
        message = (
            f"no worker labelled {label} at {client.scheduler.address}: found {len(workers)} workers"  # type: ignore[union-attr]
            f" labelled {', '.join(labels) or 'nothing'}; start one with"
            f" `dask worker {client.scheduler.address} --nthreads 1 --resources {label}=1`"  # type: ignore[union-attr]
        )
        waited = time.monotonic() - started
        if waited >= patience:
            raise NoWorkerError(message)
        client.log_event(WANTED, label)
        if waited - told_at >= _SECONDS_BETWEEN_REMINDERS:
            told_at = waited
            logger.warning("%s; waiting for it, %.0f of %.0f s", message, waited, patience)
        time.sleep(min(1.0, patience - waited))
