"""What an item may take of its worker's memory, and what a worker keeps from one item of a stage to the next."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import math
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

_SPARE: ContextVar[float] = ContextVar("spare memory of an item", default=math.inf)
_KEPT: dict[str, OrderedDict[Hashable, Any]] = {}
"""Of this worker: stage -> its values, the last used one last."""
_LOCK = threading.Lock()
_resident_bytes_then = 0.0
"""Of this worker, when it last gave back what it could."""
_HARDLY_BYTES = 30_000_000


@contextmanager
def allotted(spare_bytes: float) -> Iterator[None]:
    """Let the item that runs in the block take so much beyond the least that it needs."""
    previous = _SPARE.set(spare_bytes)
    try:
        yield
    finally:
        _SPARE.reset(previous)


def spare_memory_bytes() -> float:
    """What the item that runs here may take beyond the least it needs; no limit outside of a worker."""
    return _SPARE.get()


def n_pieces(piece_bytes: float, most: int) -> int:
    """How many pieces of one size an item may hold at a time: one is among the least it needs."""
    return 1 + int(min(most - 1, max(0.0, spare_memory_bytes()) / max(piece_bytes, 1.0)))


def kept(stage: str, key: Hashable, make: Callable[[], Value], n_kept: int) -> Value:
    """The value under a key, made where it is not there; the worker keeps the last ``n_kept`` of the stage."""
    with _LOCK:
        values = _KEPT.setdefault(stage, OrderedDict())
        if key in values:
            values.move_to_end(key)
            return values[key]  # type: ignore[no-any-return]
        while len(values) >= n_kept:  # before the next one is made: both at a time would be one too many
            values.popitem(last=False)
    value = make()
    with _LOCK:
        values[key] = value
    return value


def forget_other_stages(stage: str) -> None:
    """Give back what this worker keeps of other stages, and what its allocator kept of freed arrays.

    Looking through all objects takes a tenth of a second, so it is left out where the process has hardly grown since.
    """
    global _resident_bytes_then
    with _LOCK:
        others = [name for name in _KEPT if name != stage]
        for other in others:
            del _KEPT[other]
    if not others and _resident_bytes() < _resident_bytes_then + _HARDLY_BYTES:
        return
    gc.collect()
    trim = _trim()
    if trim is not None:  # glibc only
        trim(0)
    _resident_bytes_then = _resident_bytes()


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    library = ctypes.util.find_library("c")
    return getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None


def _resident_bytes() -> float:
    """Infinite where the system does not tell."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * resource.getpagesize() if status.exists() else math.inf
