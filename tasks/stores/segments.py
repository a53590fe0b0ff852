"""An index that grows by appending: each addition is a file of its own, small ones are merged into larger ones.

Adding to an index of any size costs what is added, each entry is rewritten a few times in all, and two writers at once
lose nothing of each other's. A reader merges the segments, later ones over earlier ones. An index is never the truth:
whoever keeps one can rebuild it.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        if not entries:
            return
        known = self._known()
        digests = _digests_of(entries)
        is_known = _are_in(digests, [known[file] for file in sorted(known, reverse=True)])
        fresh = {key: entry for (key, entry), is_there in zip(entries.items(), is_known) if not is_there}
        if fresh:
            known[self._write(time.time_ns(), fresh)] = _latest([digests[~is_known]])
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

    def _known(self) -> dict[str, NDArray[np.void]]:
        """Digests of what this process has seen of the index, brought up to date with what it has not."""
        known = _known_of(self._location.url)
        present = [segment.file for segment in self._list()]
        for file in known.keys() - set(present):  # merged or cleared by somebody else
            del known[file]
        for file in present:
            if file not in known:
                content = (self._location / file).read_bytes()
                if content is not None:
                    known[file] = _latest([_digests_of(json.loads(content))])
        return known

    def _write(self, written_at: int, entries: Mapping[str, Any]) -> str:
        name = f"{written_at:020d}-{len(entries):08d}-{uuid.uuid4().hex[:8]}.json"
        (self._location / name).write_bytes(json.dumps(entries, separators=(",", ":")).encode())
        return name

    def _merge(self, known: dict[str, NDArray[np.void]]) -> None:
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
        digests: list[NDArray[np.void]] = []
        for segment in segments[-n_merged:]:
            content = (self._location / segment.file).read_bytes()
            if content is None:  # another writer merges the same
                return
            its_entries = json.loads(content)
            merged |= its_entries
            its_digests = known.get(segment.file)
            digests.append(_digests_of(its_entries) if its_digests is None else its_digests)
        known[self._write(segments[-1].written_at, merged)] = _latest(digests)
        for segment in segments[-n_merged:]:
            (self._location / segment.file).remove_file()
            known.pop(segment.file, None)


class _Segment(NamedTuple):
    written_at: int
    n_entries: int
    file: str


def _parsed(name: str) -> _Segment:
    written_at, n_entries, _ = name.split("-")
    return _Segment(int(written_at), int(n_entries), name)


_DIGEST = np.dtype([("key", np.uint64), ("entry", np.uint32)])


@lru_cache(maxsize=64)
def _known_of(_url: str) -> dict[str, NDArray[np.void]]:
    """Segment -> digests of its entries, as this process read or wrote it: a cache, at most stale.

    Twelve bytes an entry, so that an index of 100,000 exposures takes a megabyte of every process that writes it.
    """
    return {}


def _digests_of(entries: Mapping[str, Any]) -> NDArray[np.void]:
    """(entry,) in the order given."""
    digests = np.empty(len(entries), _DIGEST)
    digests["key"] = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) for key in entries]
    digests["entry"] = [zlib.crc32(json.dumps(entry, sort_keys=True).encode()) for entry in entries.values()]
    return digests


def _latest(oldest_first: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Of entries with the same key the last one, sorted by key."""
    newest_first = np.concatenate(oldest_first)[::-1]
    return newest_first[np.unique(newest_first["key"], return_index=True)[1]]


def _are_in(digests: NDArray[np.void], newest_first: Sequence[NDArray[np.void]]) -> NDArray[np.bool_]:
    """Which of some entries the newest segment that has their key has as they are."""
    is_same = np.zeros(len(digests), bool)
    is_open = np.ones(len(digests), bool)
    for segment in newest_first:
        found = segment[np.searchsorted(segment["key"], digests["key"]).clip(max=len(segment) - 1)]
        is_there = is_open & (found["key"] == digests["key"])
        is_same |= is_there & (found["entry"] == digests["entry"])
        is_open &= ~is_there
    return is_same
