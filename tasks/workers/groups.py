"""Items one after the other on their worker, and which of them it is computing now."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.stores.storage.location import StoreWriteError
from tasks.workers.allotment import allotted

SECONDS_PER_GROUP = 0.25
"""Items that take less are handed to workers in groups: a future costs 10 ms of CPU time of all who see it."""

_EXECUTING: dict[str, tuple[str, tuple[str, ...]]] = {}
"""Of this worker: key -> name of the item and its owners."""


@dataclass
class Outcomes:
    """What became of a group of items, in order, and how long that took."""

    results: list[Any]
    """What the function returned, or the exception that ended it; fewer than items where they took long."""
    seconds: float


def run_group(
    function: Callable[..., Any],
    name: str,
    owners: tuple[str, ...],
    items: list[Any],
    *arguments: Any,
    spare_bytes: float = math.inf,
) -> Outcomes:
    """Items one after the other on their worker; one that fails stops no other, a store that cannot be written does.

    Items that turn out slow are left to other groups.
    ``spare_bytes`` is what an item may take beyond the least it needs.
    """
    started = time.perf_counter()
    outcomes = Outcomes([], 0.0)
    for item in items:
        if outcomes.results and time.perf_counter() - started > 2 * SECONDS_PER_GROUP:
            break
        key = uuid.uuid4().hex
        _EXECUTING[key] = (f"{name} {item}", owners)
        try:
            with allotted(spare_bytes):
                outcomes.results.append(function(item, *arguments))
        except StoreWriteError:
            raise
        except BaseException as error:  # the boundary of an item; Dask waits for ever where a library exits or panics
            outcomes.results.append(RuntimeError(f"{name} {item}: {type(error).__name__}: {error}"))
        finally:
            del _EXECUTING[key]
    outcomes.seconds = time.perf_counter() - started
    return outcomes


def executing(owners: tuple[str, ...]) -> list[str]:
    """Items of some owners that this worker is computing."""
    return [name for name, its_owners in list(_EXECUTING.values()) if set(its_owners) & set(owners)]
