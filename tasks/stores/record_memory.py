"""Commit records that were read or written a moment ago, so that they are not read again for every stage.

Whoever alone works on some exposures may remember their records while it does: of a batch that goes through all stages
every record is then read once. Nothing is remembered longer than a block, and never by the import, which looks at what
others may have written meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

RecordType = TypeVar("RecordType")

_MOST = 20_000
"""Records that are remembered; each takes a few kilobytes."""


class RecordMemory(Generic[RecordType]):
    """Address of a product in its store -> its record."""

    def __init__(self) -> None:
        self._records: dict[str, RecordType] = {}

    def recall(self, url: str) -> RecordType | None:
        return self._records.get(url)

    def remember(self, url: str, record: RecordType) -> None:
        if len(self._records) >= _MOST:
            self._records.clear()
        self._records[url] = record


_memory: ContextVar[RecordMemory | None] = ContextVar("record_memory", default=None)  # type: ignore[type-arg]


def current_memory() -> RecordMemory | None:  # type: ignore[type-arg]
    """The memory of the innermost block; None outside of one."""
    return _memory.get()


@contextmanager
def remembered_records() -> Iterator[None]:
    """Stores that are opened inside the block share one memory: nobody else may write records of these exposures."""
    previous = _memory.set(RecordMemory())
    try:
        yield
    finally:
        _memory.reset(previous)
