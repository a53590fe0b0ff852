"""A stage that makes one product per item: kept, made, or recorded with the reason why not."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, NamedTuple, TypeVar

from tasks.formats import FormatError
from tasks.records.forecast import Need
from tasks.records.secrets import redacted
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, ExpiredProductError, Record, fingerprint
from tasks.stores.ledger import STAGES, write_index
from tasks.stores.record_memory import current_memory, remembered_records
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError, StoreWriteError
from tasks.workers.connection import Label, require_workers
from tasks.workers.items import run_items
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

Params = TypeVar("Params", bound=StageParams)


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
    needs: Callable[[SessionStore, Sequence[str], Params], Need | None] | None = None
    """Memory, disk and time of items, told before the first of them is run; None where they cannot be told."""

    def address_of(self, item: str) -> str:
        return self.address(item) if self.address else f"exposures/{item}/{self.name}"


def run_stage(session_url: str, stage: Stage[Params], items: Sequence[str], params: Params) -> StageReport:
    """Make the product of every item that does not have it yet.

    Items whose commit record has the fingerprint of this stage, these parameters and these inputs are kept.
    An item that raises gets a record with its reason and stops nobody else; a store that cannot be written, or a
    missing worker, stops the stage.
    """
    with nullcontext() if current_memory() else remembered_records():
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
        need = stage.needs(store, todo, params) if stage.needs else None
        room = fitting(store, stage.label, need, report) if need else nullcontext()
        made: dict[str, Record] = {}
        with room, stage_usage(client, stage.label, report):
            for item, result in run_items(
                _make_product, todo, _StoreOfGroup(session_url), stage, params, label=stage.label, name=stage.name
            ):
                if isinstance(result, StoreWriteError):
                    raise result
                if isinstance(result, Exception):  # the worker died with the item: nobody else could record it
                    made[item] = _record_failure(store, stage, item, params, "failed", str(result))
                elif isinstance(result, _NotMade):
                    report.failed[item], made[item] = result
                else:
                    made[item] = result
        _check_same_store(store, stage, todo[-1])
        for item in todo:
            record = outcomes[item] = made[item]
            store.product(stage.address_of(item)).remember(record)
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


def _check_same_store(store: SessionStore, stage: Stage[Params], item: str) -> None:
    """Raise StoreError where an item's record, which a worker has just written, is not seen here."""
    if SessionStore(store.location, store.session, store.parents).product(stage.address_of(item)).record() is None:
        raise StoreError(f"{stage.name} left no record for {item}; check that workers and flow see the same store")


class _StoreOfGroup:
    """A session's store as it travels to a worker, where a group of items opens it once."""

    def __init__(self, session_url: str) -> None:
        self._url = session_url

    def __reduce__(self) -> tuple[type[_StoreOfGroup], tuple[str]]:
        return _StoreOfGroup, (self._url,)

    @cached_property
    def opened(self) -> SessionStore:
        with remembered_records():
            return SessionStore.open(self._url)


class _NotMade(NamedTuple):
    """An item whose product stays as it was made earlier: what it would be made from now expired."""

    reason: str
    record: Record


def _make_product(item: str, group: _StoreOfGroup, stage: Stage[Params], params: Params) -> Record | _NotMade:
    """One item on its worker: write its product, or a record that says why there is none."""
    store = group.opened
    inputs = store.fingerprints(stage.inputs(store, item))
    expected = fingerprint(stage.name, stage.version, params, inputs)
    product = store.product(stage.address_of(item))
    record = product.record()
    if record is not None and record.is_current(expected):
        return record  # a worker that was killed with this item in its group had made it
    try:
        with product.write(stage.name, stage.version, params, inputs) as attempt:
            stage.compute(store, item, params, attempt)
        assert attempt.record is not None
        return attempt.record
    except StoreWriteError:
        raise
    except ExpiredProductError as error:
        if record is None:
            return _record_failure(store, stage, item, params, "failed", str(error))
        return record if record.fingerprint == expected else _NotMade(str(error), record)
    except SkipItem as reason:
        return _record_failure(store, stage, item, params, "skipped", str(reason))
    except FormatError as error:
        return _record_failure(store, stage, item, params, "quarantined", str(error))
    except (ValueError, StoreError) as error:  # bad values say themselves what is wrong
        return _record_failure(store, stage, item, params, "failed", str(error))
    except Exception as error:  # the boundary of an item: its reason goes into the ledger
        logger.error("%s %s: %s", stage.name, item, redacted(traceback.format_exc()))
        return _record_failure(store, stage, item, params, "failed", f"{type(error).__name__}: {error}")


def _record_failure(
    store: SessionStore,
    stage: Stage[Params],
    item: str,
    params: Params,
    state: Literal["failed", "skipped", "quarantined"],
    reason: str,
) -> Record:
    inputs = store.fingerprints(stage.inputs(store, item))
    return store.product(stage.address_of(item)).put_outcome(state, reason, stage.name, stage.version, params, inputs)
