"""A function over many items on labelled workers, a bounded number at a time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker, wait
from prefect.exceptions import Pause

from tasks.orders import Orders
from tasks.progress import progress
from tasks.stores.storage.location import StoreWriteError
from tasks.workers.connection import Label, current_connection, require_workers
from tasks.workers.groups import SECONDS_PER_GROUP, Outcomes, run_group
from tasks.workers.room import Share, share_now

Item = TypeVar("Item")

_SECONDS_BETWEEN_LOOKS = 0.5
"""After which a stage looks whether the operator has orders, also when no item ends."""
_SECONDS_BETWEEN_COUNTS = 5.0
"""After which the slots of the workers are counted anew."""
_SHORTEST_GROUP_SECONDS = 0.05
_LARGEST_GROUP = 64
_FASTEST_ITEM_SECONDS = 1e-4
_SECONDS_TO_FINISH = 8.0
"""For items that are being worked on when the flow run is suspended."""


def run_items(
    function: Callable[..., Any],
    items: Sequence[Item],
    *arguments: Any,
    label: Label,
    name: str,
    window: int | None = None,
    advance: Callable[[], None] | None = None,
) -> Iterator[tuple[Item, Any]]:
    """Run ``function(item, *arguments)`` for every item on labelled workers, at most ``window`` at a time.

    Items that take little time go to the workers in groups. Yields (item, result) as they finish. A result is what the
    function returned, or the exception that ended it: ``StoreWriteError`` as raised, everything else, a killed worker
    included, as the reason in words. Raises SchedulerLostError where the scheduler ends: then no item is to blame.
    ``advance`` is called after each item in place of a progress bar of these items' own.

    When the operator suspends or cancels the flow run no further item is started. Items that wait for a worker are
    withdrawn, those that are being worked on are waited for, but not for long: what is then still worked on is
    committed by its worker when it is done.
    """
    client = require_workers(label)
    connection = current_connection()
    orders = Orders()
    share_of_now = _counted_anew(client, label)
    waiting = list(reversed(items))
    suspects: list[Item] = []
    is_last_chance = False
    running: dict[Future, list[Item]] = {}
    finished: SimpleQueue[Future] = SimpleQueue()
    seconds_per_item = connection.seconds_per_item.get(name, math.inf)

    def submit() -> None:
        """A group of items; those whose worker was killed before are run one at a time, with nothing beside them."""
        nonlocal is_last_chance
        is_last_chance = not waiting
        if waiting:
            fewest, most = _SHORTEST_GROUP_SECONDS / seconds_per_item, SECONDS_PER_GROUP / seconds_per_item
            even = len(waiting) / (2 * share_of_now().n_at_once)
            n_items = 1 if window else int(min(most, max(fewest, even), _LARGEST_GROUP))
            group = [waiting.pop() for _ in range(min(len(waiting), max(1, n_items)))]
        else:
            group = [suspects.pop()]
        share = share_of_now()
        future = client.submit(
            run_group,
            function,
            name,
            connection.owners,
            group,
            *arguments,
            spare_bytes=share.spare_bytes,
            resources={label: share.n_slots},
            workers=share.only_on,
            retries=0,
            pure=False,
            key=f"{name}-{os.urandom(6).hex()}",
        )
        running[future] = group
        future.add_done_callback(finished.put)

    def submit_what_may_run() -> None:
        while waiting and len(running) < (window or 2 * share_of_now().n_at_once):
            submit()
        if suspects and not waiting and not running:
            submit()

    with progress(name, len(items)) if advance is None else nullcontext(advance) as step:
        try:
            submit_what_may_run()
            while running:
                orders.heed()
                try:
                    future = finished.get(timeout=_SECONDS_BETWEEN_LOOKS)
                except Empty:
                    continue
                group = running.pop(future)
                outcomes = _outcomes_of(future, name)
                future.release()
                if isinstance(outcomes, KilledWorker) and not is_last_chance:
                    suspects += group  # Dask blames all that the worker had, and one of them may have killed it
                else:
                    if isinstance(outcomes, Outcomes):
                        waiting += reversed(group[len(outcomes.results) :])
                        seconds_per_item = max(outcomes.seconds / len(outcomes.results), _FASTEST_ITEM_SECONDS)
                        connection.seconds_per_item[name] = seconds_per_item
                    for item, result in zip(group, _results_of(outcomes, name, group)):
                        yield item, result
                        step()
                submit_what_may_run()
        except Pause:
            _finish_started(client, list(running))
            raise
        finally:
            client.cancel(list(running))


def _counted_anew(client: Client, label: Label) -> Callable[[], Share]:
    """How items share the workers there are, looked at every few seconds: a cluster may grow with its work."""
    counted_at, share = -math.inf, Share()

    def now() -> Share:
        nonlocal counted_at, share
        if time.monotonic() - counted_at >= _SECONDS_BETWEEN_COUNTS:
            share, counted_at = share_now(client, label), time.monotonic()
        return share

    return now


def _finish_started(client: Client, futures: list[Future]) -> None:
    """Withdraw the items that no worker has begun, and give the others a while."""
    begun = {key for calls in client.call_stack().values() for key in calls}
    client.cancel([future for future in futures if future.key not in begun])
    with suppress(TimeoutError):
        wait([future for future in futures if future.key in begun], timeout=_SECONDS_TO_FINISH)


def run_all(
    function: Callable[..., Any],
    items: Sequence[Item],
    *arguments: Any,
    label: Label,
    name: str,
    advance: Callable[[], None] | None = None,
) -> None:
    """Run ``function(item, *arguments)`` for every item, see `run_items`; raises the first reason why one ended."""
    for _, result in run_items(function, items, *arguments, label=label, name=name, advance=advance or _no_step):
        if isinstance(result, Exception):
            raise result


class SchedulerLostError(RuntimeError):
    """The scheduler ended, or forgot what it was to do, while items were with it."""


def _outcomes_of(future: Future, name: str) -> Outcomes | Exception:
    """What a finished future gave, or what ended it: its worker may die when it is done and before it is asked."""
    try:
        return future.result()  # type: ignore[no-any-return]
    except CancelledError as error:
        raise SchedulerLostError(
            f"{name}: the Dask scheduler withdrew its items ({error}); it was stopped or started anew. What is done is "
            "kept: run the same again when the scheduler and its workers are back (`vitriflow up`)"
        ) from error
    except Exception as error:
        return error


def _results_of(outcomes: Outcomes | Exception, name: str, group: list[Any]) -> list[Any]:
    if isinstance(outcomes, Outcomes):
        return outcomes.results
    error = outcomes
    if isinstance(error, StoreWriteError):
        return [error] * len(group)
    if isinstance(error, KilledWorker):
        words = (
            "its worker was killed each time it was tried; most often it ran out of memory "
            "(raise VITRIFLOW_WORKER_MEMORY, or use smaller boxes or movies)"
        )
    else:
        words = f"{type(error).__name__}: {error}"
    return [RuntimeError(f"{name} {item}: {words}") for item in group]


def _no_step() -> None:
    """A stage of several passes counts passes in its progress bar, not their blocks."""
