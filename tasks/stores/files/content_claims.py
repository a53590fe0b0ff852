"""Which exposure a content belongs to: the first that claimed it, whatever its file is called now.

A claim is an empty file, ``ledger/contents/<2 digits>/<hash>.<time>.<path>.<exposure>``, put before the product and
never changed, so that finding the exposure of a content costs one listing of a small folder. No store needs a
conditional write for this: of two that claim at once both see both claims, or the later one sees the other's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import NamedTuple

from tasks.stores.session_store import SessionStore

_CONTENTS = "ledger/contents"


class Claim(NamedTuple):
    """Sorted, the first claim of a content comes first."""

    claimed_at_ns: int
    path_digest: str
    """Of the file that was read."""
    exposure_id: str

    def is_of(self, path: str) -> bool:
        return self.path_digest == _digest(path)


def claims_of(store: SessionStore, content: str) -> list[Claim]:
    """All claims of a content, the first one first; a version has its parents' too."""
    names = store.names(f"{_CONTENTS}/{content[:2]}")
    return sorted(_parsed(name) for name in names if name.startswith(f"{content}."))


def claim(store: SessionStore, content: str, path: str, exposure_id: str, at_ns: int | None = None) -> list[Claim]:
    """Claim a content for an exposure; returns all its claims, the first one first.

    A file that claimed the same before claims nothing again.
    """
    found = claims_of(store, content)
    if any(other.is_of(path) for other in found):
        return found
    name = f"{content}.{time.time_ns() if at_ns is None else at_ns:016x}.{_digest(path)}.{exposure_id}"
    (store.location / _CONTENTS / content[:2] / name).write_bytes(b"")
    return claims_of(store, content)


def all_claims(store: SessionStore) -> Iterator[Claim]:
    """Every claim of a session, a version's parents' too."""
    for prefix in store.names(_CONTENTS):
        yield from (_parsed(name) for name in store.names(f"{_CONTENTS}/{prefix}"))


def are_lost(store: SessionStore) -> bool:
    """Whether the store has no claim."""
    return not store.names(_CONTENTS)


def _parsed(name: str) -> Claim:
    _, time_text, path_digest, exposure_id = name.split(".", 3)
    return Claim(int(time_text, 16), path_digest, exposure_id)


def _digest(path: str) -> str:
    return hashlib.blake2b(path.encode(errors="replace"), digest_size=4).hexdigest()
