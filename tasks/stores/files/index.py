"""Which files were seen before, and what became of them: so that a second look at them is quick.

``ledger/files/<bucket>`` are indices, not the truth: a file counts as known when its size and time of change are those
of the index. An entry is written when all that follows from the file is in the store, and a lost index is rebuilt from
the import's records. A path has its entry in one of 64 buckets, so that looking up a few files among many costs little.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple

from tasks.records.source_file import SourceFile
from tasks.stores.commit import State
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)

_N_BUCKETS = 64
_N_READERS = 16
"""Buckets read at once; each waits for its store."""
_REOPENED = "ledger/reopened"


class KnownFile(NamedTuple):
    """What is remembered of the file at a path."""

    size: int
    mtime_ns: int
    content_hash: str
    exposure_id: str
    """Empty for a file that is no exposure: a gain reference."""
    same_as: str
    """Exposure of the file that has the same content and was imported instead; else empty."""
    state: State
    reason: str | None
    fingerprint: str
    checked_gain: str | None
    """Fingerprint of the gain that the counts were compared with."""
    stated: tuple[float | None, ...]
    """What the microscope says of pixel size, voltage, spherical aberration and dose: a product may depend on it."""
    metadata_digest: str
    """Of all that the microscope says; empty where it says nothing."""
    sidecars: str
    """The files that say it, as `tasks.formats.sidecar_state` has them."""

    @classmethod
    def of_reference(cls, file: SourceFile, content_hash: str) -> KnownFile:
        """A file that is no exposure: a gain reference, or a list of defects."""
        return cls(file.size, file.mtime_ns, content_hash, "", "", "done", None, "", None, (), "", "")

    def is_unchanged(self, file: SourceFile) -> bool:
        return (self.size, self.mtime_ns) == (file.size, file.mtime_ns)


class FileIndex:
    """The index of one session; what is remembered reaches the store with `save`."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._buckets: dict[int, dict[str, KnownFile]] = {}
        self._changed: dict[str, KnownFile] = {}

    def recall(self, path: str) -> KnownFile | None:
        """What is known of the file that was last seen at a path."""
        number = _bucket(path)
        if number not in self._buckets:
            self._buckets[number] = self._read(number)
        return self._changed.get(path) or self._buckets[number].get(path)

    def known_hash(self, file: SourceFile) -> str:
        """Hash of the file's content where it did not change since it was read; else empty."""
        known = self.recall(file.path)
        return known.content_hash if known is not None and known.is_unchanged(file) else ""

    def look_up(self, paths: Iterable[str]) -> None:
        """Read the buckets of many paths, several at once."""
        missing = sorted({_bucket(path) for path in paths} - self._buckets.keys())
        with ThreadPoolExecutor(min(_N_READERS, max(1, len(missing)))) as pool:
            self._buckets |= zip(missing, pool.map(self._read, missing))

    def remember(self, path: str, known: KnownFile) -> None:
        if self.recall(path) != known:
            self._changed[path] = known

    def save(self) -> None:
        """Add what was remembered to the store."""
        by_bucket: dict[int, dict[str, KnownFile]] = {}
        for path, known in self._changed.items():
            by_bucket.setdefault(_bucket(path), {})[path] = known
        for number, entries in sorted(by_bucket.items()):
            self._store.index(_name(number)).append(entries)
            self._buckets.setdefault(number, {}).update(entries)
        self._changed.clear()

    def clear(self) -> None:
        """Forget everything; the next import looks at every record again."""
        (self._store.location / "ledger" / "files").remove()
        self._buckets.clear()
        self._changed.clear()

    def is_lost(self) -> bool:
        """Whether the store has no index, be it new or bereft of it."""
        return not self._store.names("ledger/files")

    @cached_property
    def reopened(self) -> frozenset[str]:
        """Exposures whose import is to be looked at again whatever the index says."""
        return frozenset(self._store.names(_REOPENED))

    def close(self, exposure_ids: Iterable[str]) -> None:
        """The import of these exposures was looked at."""
        for exposure_id in self.reopened.intersection(exposure_ids):
            (self._store.location / _REOPENED / exposure_id).remove_file()

    def _read(self, number: int) -> dict[str, KnownFile]:
        known: dict[str, KnownFile] = {}
        try:
            for segment in self._store.read_index(_name(number)):
                known |= {path: _parsed(values) for path, values in segment.items()}
        except (ValueError, TypeError, AttributeError) as error:
            logger.warning("index of files %s: cannot be read (%s); its files are read again", _name(number), error)
            self._store.index(_name(number)).clear()
            return {}
        return known


def reopen(store: SessionStore, exposure_ids: Iterable[str]) -> None:
    """Have the next import look at the records of these exposures again, although their files did not change."""
    for exposure_id in exposure_ids:
        (store.location / _REOPENED / exposure_id).write_bytes(b"")


def _parsed(values: list) -> KnownFile:  # type: ignore[type-arg]
    known = KnownFile(*values)
    return known._replace(stated=tuple(known.stated))


def _bucket(path: str) -> int:
    return hashlib.blake2b(path.encode(errors="replace"), digest_size=1).digest()[0] % _N_BUCKETS


def _name(number: int) -> str:
    return f"files/{number:02d}"
