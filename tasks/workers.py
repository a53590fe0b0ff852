"""The items of a stage on labelled Dask workers: guard, bounded window, outcomes, usage.

Prefect owns stages, Dask owns items. An item is one product: its function runs on a worker with the stage's label,
reads stores, writes one attempt and returns nothing but its outcome. Arrays never travel.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, TypeVar

import distributed
import torch
from distributed import Client, Future, KilledWorker, wait
from prefect.exceptions import Pause

from tasks.formats import FormatError
from tasks.orders import Orders
from tasks.progress import progress
from tasks.records.secrets import redacted
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, ExpiredProductError, Record, fingerprint
from tasks.stores.ledger import STAGES, write_index
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError, StoreWriteError

logger = logging.getLogger(__name__)

Label = Literal["CPU", "GPU"]
Params = TypeVar("Params", bound=StageParams)
Item = TypeVar("Item")

WANTED = "vitriflow-wanted"
"""Topic of the scheduler's events under which a stage without a worker tells its label; `flows.slurm` listens."""

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_COUNTS = 5.0
"""After which a stage looks whether the operator has orders, also when no item ends."""
_SECONDS_PER_GROUP = 0.25
"""Items that take less are handed to workers in groups: a future costs 4 ms of the scheduler's and the flow's time."""
_LARGEST_GROUP = 16
_SECONDS_BETWEEN_REMINDERS = 30.0
_SECONDS_TO_FINISH = 8.0
"""For items that are being worked on when the flow run is suspended."""


class NoWorkerError(RuntimeError):
    """No Dask worker carries the label that a stage needs."""


class SkipItem(Exception):
    """Raised by an item's function: there is nothing to do for it, and its message says why."""


@dataclass(frozen=True)
class Stage(Generic[Params]):
    """How a stage that makes one product per item is run; all callables are functions of a module."""

    name: str
    version: int
    """Raised when the same input and parameters give another result."""
    label: Label
    compute: Callable[[SessionStore, str, Params, Attempt], None]
    """Makes the product of one item; runs on the worker."""
    inputs: Callable[[SessionStore, str], list[str]]
    """Addresses of the products that the item reads."""
    address: Callable[[str], str] | None = None
    """Address of the item's product; ``exposures/<item>/<name>`` when None."""

    def address_of(self, item: str) -> str:
        return self.address(item) if self.address else f"exposures/{item}/{self.name}"


@dataclass(frozen=True)
class Connection:
    """Whose items are run, and how long they wait for a worker that is not there."""

    owners: tuple[str, ...] = ()
    """The parts of a session that are worked on; items of one of them that an earlier flow left behind are waited for.
    """
    patience_seconds: float = 0.0


_NOBODY = Connection()
_connection: ContextVar[Connection] = ContextVar("connection")


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
        left = client.run(_executing, owners, on_error="ignore")
        names = [name for found in left.values() for name in found]
        if not names:
            return
        if not is_told:
            is_told = True
            logger.info("waiting for %d items that an earlier flow left behind: %s", len(names), ", ".join(names))
        time.sleep(0.5)


def _executing(owners: tuple[str, ...]) -> list[str]:
    """Items of some owners that this worker is computing."""
    return [name for name, its_owners in list(_EXECUTING.values()) if set(its_owners) & set(owners)]


_EXECUTING: dict[str, tuple[str, tuple[str, ...]]] = {}
"""Of this worker: key -> name of the item and its owners."""


@dataclass
class _Outcomes:
    """What became of a group of items, in order, and how long the group took."""

    results: list[Any]
    """What the function returned, or the exception that ended it."""
    seconds: float


def _run_group(
    function: Callable[..., Any], name: str, owners: tuple[str, ...], items: list[Any], *arguments: Any
) -> _Outcomes:
    """Items one after the other on their worker; one that fails stops no other, a store that cannot be written does."""
    started = time.perf_counter()
    outcomes = _Outcomes([], 0.0)
    for item in items:
        key = uuid.uuid4().hex
        _EXECUTING[key] = (f"{name} {item}", owners)
        try:
            outcomes.results.append(function(item, *arguments))
        except StoreWriteError:
            raise
        except Exception as error:  # the boundary of an item
            outcomes.results.append(RuntimeError(f"{name} {item}: {type(error).__name__}: {error}"))
        finally:
            del _EXECUTING[key]
    outcomes.seconds = time.perf_counter() - started
    return outcomes


def device() -> torch.device:
    """Where an item computes: the accelerator of its worker, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
    started = time.monotonic()
    patience = _connection.get(_NOBODY).patience_seconds
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


def run_stage(session_url: str, stage: Stage[Params], items: Sequence[str], params: Params) -> StageReport:
    """Make the product of every item that does not have it yet.

    Items whose commit record has the fingerprint of this stage, these parameters and these inputs are kept.
    An item that raises gets a record with its reason and stops nobody else; a store that cannot be written, or a
    missing worker, stops the stage.
    """
    store = SessionStore.open(session_url)
    report = StageReport(stage=stage.name)
    todo: list[str] = []
    outcomes: dict[str, Record] = {}
    for item in items:
        try:
            inputs = store.fingerprints(stage.inputs(store, item))
        except StoreError as error:
            report.skipped[item] = str(error)
            continue
        record = store.product(stage.address_of(item)).record()
        if record is not None and record.is_current(fingerprint(stage.name, stage.version, params, inputs)):
            report.kept.append(item)
            outcomes[item] = record
        else:
            todo.append(item)
    if todo:
        client = require_workers(stage.label)
        with stage_usage(client, stage.label, report):
            for item, result in run_items(
                _make_product, todo, session_url, stage, params, label=stage.label, name=stage.name
            ):
                if isinstance(result, StoreWriteError):
                    raise result
                if isinstance(result, Exception):  # the worker died with the item: nobody else could record it
                    _record_failure(store, stage, item, params, "failed", str(result))
                elif result is not None:
                    report.failed[item] = result
        for item in todo:
            record = store.product(stage.address_of(item)).record()
            if record is None:
                raise StoreError(
                    f"{stage.name} left no record for {item}; check that workers and flow see the same store"
                )
            outcomes[item] = record
            if item in report.failed:  # what it is made from expired; the product made earlier stays
                continue
            if record.state == "done":
                report.done.append(item)
            elif record.state == "skipped":
                report.skipped[item] = record.reason or ""
            else:
                report.failed[item] = record.reason or ""
    if stage.name in STAGES:
        write_index(store, stage.name, outcomes)
    logger.info(
        "%s: %d done, %d kept, %d failed, %d skipped; %.1f CPU-s",
        stage.name, len(report.done), len(report.kept), len(report.failed), len(report.skipped), report.cpu_seconds,
    )  # fmt: skip
    return report


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
    included, as the reason in words.
    ``advance`` is called after each item in place of a progress bar of these items' own.

    When the operator suspends or cancels the flow run no further item is started. Items that wait for a worker are
    withdrawn, those that are being worked on are waited for, but not for long: what is then still worked on is
    committed by its worker when it is done.
    """
    client = require_workers(label)
    owners = _connection.get(_NOBODY).owners
    orders = Orders()
    window_of_now = _growing_window(client, label)
    waiting = list(reversed(items))
    suspects: list[Item] = []
    last_chance: list[Item] = []
    running: dict[Future, list[Item]] = {}
    finished: SimpleQueue[Future] = SimpleQueue()
    seconds_per_item = math.inf

    def submit() -> None:
        """A group of items; those whose worker was killed before are run one at a time, with nothing beside them."""
        if waiting:
            n_items = 1 if window else int(min(_SECONDS_PER_GROUP / seconds_per_item, len(waiting) / window_of_now()))
            group = [waiting.pop() for _ in range(min(len(waiting), max(1, min(n_items, _LARGEST_GROUP))))]
        else:
            group = [suspects.pop()]
            last_chance.extend(group)
        future = client.submit(
            _run_group,
            function,
            name,
            owners,
            group,
            *arguments,
            resources={label: 1},
            retries=0,
            pure=False,
            key=f"{name}-{os.urandom(6).hex()}",
        )
        running[future] = group
        future.add_done_callback(finished.put)

    def submit_what_may_run() -> None:
        while waiting and len(running) < (window or window_of_now()):
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
                error = future.exception()
                if isinstance(error, KilledWorker) and not last_chance:
                    suspects += group  # Dask blames all that the worker had, and one of them may have killed it
                else:
                    last_chance.clear()
                    results = _results_of(future, name, group)
                    if error is None:
                        seconds_per_item = future.result().seconds / len(group)
                    future.release()
                    for item, result in zip(group, results):
                        yield item, result
                        step()
                submit_what_may_run()
        except Pause:
            _finish_started(client, list(running))
            raise
        finally:
            client.cancel(list(running))


def _growing_window(client: Client, label: Label) -> Callable[[], int]:
    """Twice the slots of the workers there are, counted anew every few seconds: a cluster may grow with its work."""
    counted_at, size = -math.inf, 2

    def now() -> int:
        nonlocal counted_at, size
        if time.monotonic() - counted_at >= _SECONDS_BETWEEN_COUNTS:
            workers = workers_of(client).values()
            size = 2 * max(1, sum(int(worker["resources"].get(label, 0)) for worker in workers))
            counted_at = time.monotonic()
        return size

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


def run_blocks(
    scratch: Scratch[Params],
    make: Callable[..., None],
    blocks: Mapping[str, Any],
    *arguments: Any,
    label: Label = "GPU",
    advance: Callable[[], None] | None = None,
) -> None:
    """Make the scratch product of every block that is not there yet; raises what ends one of them.

    On a worker ``make(block, scratch, attempt, *arguments)`` fills the product that ``blocks`` has the block under.
    """
    run_all(
        _make_block, list(blocks.items()), scratch, make, *arguments,
        label=label, name=scratch.stage, advance=advance,
    )  # fmt: skip


def _make_block(
    item: tuple[str, Any], scratch: Scratch[Params], make: Callable[..., None], *arguments: Any
) -> None:  # fmt: skip
    name, block = item
    if scratch.record(name) is None:
        with scratch.write(name) as attempt:
            make(block, scratch, attempt, *arguments)


def _no_step() -> None:
    """A stage of several passes counts passes in its progress bar, not their blocks."""


def _results_of(future: Future, name: str, group: list[Any]) -> list[Any]:
    error = future.exception()
    if error is None:
        return future.result().results
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


def _make_product(item: str, session_url: str, stage: Stage[Params], params: Params) -> str | None:
    """One item on its worker: write its product, or a record that says why there is none.

    Returns why not where that cannot be recorded: an earlier product is there, and what it was made from expired.
    """
    store = SessionStore.open(session_url)
    inputs = store.fingerprints(stage.inputs(store, item))
    product = store.product(stage.address_of(item))
    if product.is_current(fingerprint(stage.name, stage.version, params, inputs)):
        return None  # a worker that was killed with this item in its group had made it
    try:
        with product.write(stage.name, stage.version, params, inputs) as attempt:
            stage.compute(store, item, params, attempt)
    except StoreWriteError:
        raise
    except ExpiredProductError as error:
        record = product.record()
        if record is None:
            _record_failure(store, stage, item, params, "failed", str(error))
        elif record.fingerprint != fingerprint(stage.name, stage.version, params, inputs):
            return str(error)
    except SkipItem as reason:
        _record_failure(store, stage, item, params, "skipped", str(reason))
    except FormatError as error:
        _record_failure(store, stage, item, params, "quarantined", str(error))
    except (ValueError, StoreError) as error:  # bad values say themselves what is wrong
        _record_failure(store, stage, item, params, "failed", str(error))
    except Exception as error:  # the boundary of an item: its reason goes into the ledger
        logger.error("%s %s: %s", stage.name, item, redacted(traceback.format_exc()))
        _record_failure(store, stage, item, params, "failed", f"{type(error).__name__}: {error}")
    return None


def _record_failure(
    store: SessionStore,
    stage: Stage[Params],
    item: str,
    params: Params,
    state: Literal["failed", "skipped", "quarantined"],
    reason: str,
) -> None:
    inputs = store.fingerprints(stage.inputs(store, item))
    store.product(stage.address_of(item)).put_outcome(state, reason, stage.name, stage.version, params, inputs)


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
