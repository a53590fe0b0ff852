"""An index that grows by appending: each addition is a file of its own, small ones are merged into larger ones.

Adding to an index of any size costs what is added, each entry is rewritten a few times in all, and two writers at once
lose nothing of each other's. A reader merges the segments, later ones over earlier ones. An index is never the truth:
whoever keeps one can rebuild it.
"""

from __future__ import annotations

import json
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from tasks.stores.storage.location import Location, StoreError

LARGEST = 10_000
"""Entries of a segment beyond which it is not merged any more: that bounds the memory of a merge."""
_TRIES = 20


class Segments:
    """The segments of one index, ``<time>-<number of entries>-<random>.json`` below a location."""

    def __init__(self, location: Location) -> None:
        self._location = location

    def append(self, entries: Mapping[str, Any]) -> None:
        """Add or replace entries, each a JSON value; what the index has already is not written again."""
        known = self._known()
        digests = {key: _digest(entry) for key, entry in entries.items()}
        fresh = {key: entry for key, entry in entries.items() if known.digests.get(key) != digests[key]}
        if fresh:
            known.add(self._write(time.time_ns(), fresh), {key: digests[key] for key in fresh})
            self._merge(known)

    def read(self) -> Iterator[dict[str, Any]]:
        """The segments, oldest first; an entry of a later one replaces that of an earlier one."""
        for _ in range(_TRIES):
            contents = []
            for segment in self._list():
                content = (self._location / segment.file).read_bytes()
                if content is None:  # merged with others since it was listed
                    break
                contents.append(content)
            else:
                for content in contents:
                    yield json.loads(content)
                return
        raise StoreError(f"index {self._location.url}: it changed each of {_TRIES} times it was read; try again")

    def files(self) -> tuple[str, ...]:
        """Names of the segments: another tuple after every change."""
        return tuple(segment.file for segment in self._list())

    def clear(self) -> None:
        self._location.remove()

    def _list(self) -> list[_Segment]:
        return [_parsed(name) for name in self._location.list() if name.endswith(".json")]

    def _known(self) -> _Known:
        """What this process has seen of the index, brought up to date with the segments that it has not."""
        known = _known_of(self._location.url)
        present = [segment.file for segment in self._list()]
        if not known.files <= set(present):  # merged or cleared by somebody else
            known.forget()
        for file in present:
            if file not in known.files:
                content = (self._location / file).read_bytes()
                if content is not None:
                    known.add(file, {key: _digest(entry) for key, entry in json.loads(content).items()})
        return known

    def _write(self, written_at: int, entries: Mapping[str, Any]) -> str:
        name = f"{written_at:020d}-{len(entries):08d}-{uuid.uuid4().hex[:8]}.json"
        (self._location / name).write_bytes(json.dumps(entries, separators=(",", ":")).encode())
        return name

    def _merge(self, known: _Known) -> None:
        """Merge the newest segments as long as together they are as large as the one before them."""
        segments = self._list()
        n_merged, n_entries = 1, segments[-1].n_entries if segments else 0
        while n_merged < len(segments):
            older = segments[-1 - n_merged]
            if older.n_entries > n_entries or older.n_entries + n_entries > LARGEST:
                break
            n_merged, n_entries = n_merged + 1, n_entries + older.n_entries
        if n_merged == 1:
            return
        merged: dict[str, Any] = {}
        for segment in segments[-n_merged:]:
            content = (self._location / segment.file).read_bytes()
            if content is None:  # another writer merges the same
                return
            merged |= json.loads(content)
        known.files.add(self._write(segments[-1].written_at, merged))
        for segment in segments[-n_merged:]:
            (self._location / segment.file).remove_file()
            known.files.discard(segment.file)


class _Segment(NamedTuple):
    written_at: int
    n_entries: int
    file: str


def _parsed(name: str) -> _Segment:
    written_at, n_entries, _ = name.split("-")
    return _Segment(int(written_at), int(n_entries), name)


class _Known:
    """Digests of the entries that a process has read or written, and of which segments: a cache, at most stale."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.digests: dict[str, int] = {}

    def add(self, file: str, digests: Mapping[str, int]) -> None:
        self.files.add(file)
        self.digests |= digests

    def forget(self) -> None:
        self.files.clear()
        self.digests.clear()


@lru_cache(maxsize=64)
def _known_of(_url: str) -> _Known:
    return _Known()


def _digest(entry: Any) -> int:
    return zlib.crc32(json.dumps(entry, sort_keys=True).encode())
