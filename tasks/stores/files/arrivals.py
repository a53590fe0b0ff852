"""Which files of a session are complete: handed over by whoever watches the folder, taken by whoever processes them.

The hand-over is an index of the session's store (``ledger/arrivals``), so it outlives both. A file that changes after
it arrived arrives anew. Losing the index costs a scan: the import knows by content what it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.stores.files.index import FileIndex, KnownFile
from tasks.stores.session_store import SessionStore

_INDEX = "arrivals"


@dataclass(frozen=True)
class Arrival:
    """A file that nobody writes to any more."""

    path: str
    size: int
    mtime_ns: int
    complaint: str = ""
    """What is wrong with it as far as its container tells; the import decides."""
    arrived_at: float = 0.0
    """Seconds since 1970 when it was found complete."""
    n_frames: int | None = None
    """Frames in it; None where its container does not tell."""
    has_sidecar: bool = False
    """Whether the microscope had said something of it."""


def add_arrivals(store: SessionStore, arrivals: Iterable[Arrival]) -> None:
    store.index(_INDEX).append(
        {a.path: [a.size, a.mtime_ns, a.complaint, a.arrived_at, a.n_frames, a.has_sidecar] for a in arrivals}
    )


def read_arrivals(store: SessionStore) -> dict[str, Arrival]:
    """Path -> the file as it last arrived."""
    return {path: Arrival(path, *values) for segment in store.read_index(_INDEX) for path, values in segment.items()}


def waiting_arrivals(store: SessionStore) -> list[Arrival]:
    """Files that arrived and have not been imported since, the first to arrive first."""
    arrivals = read_arrivals(store)
    index = FileIndex(store)
    index.look_up(arrivals)
    waiting = [arrival for path, arrival in arrivals.items() if not _is_imported(index.recall(path), arrival)]
    return sorted(waiting, key=lambda a: (a.arrived_at, a.path))


def arrivals_version(store: SessionStore) -> tuple[str, ...]:
    """Changes when files arrive; cheaper than looking at them."""
    return store.index(_INDEX).files()


def _is_imported(known: KnownFile | None, arrival: Arrival) -> bool:
    return known is not None and (known.size, known.mtime_ns) == (arrival.size, arrival.mtime_ns)
