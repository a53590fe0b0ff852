"""Scan the folders of microscopes: sessions that began, files that are complete since the last look.

A scan is the truth; file events only wake it. It reads directory entries, and of a file that changed its container and
its sidecar, a few milliseconds each; pixels are read by the import. It is a plain function and no Prefect task, since
it runs every few seconds for months, and a task run costs 20 kB of the server's database.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from tasks.formats import FormatError
from tasks.formats.completeness import Container, inspect
from tasks.formats.microscope_metadata import read_metadata
from tasks.formats.session_layout import SessionFolder, find_sessions
from tasks.records.session import StageParams
from tasks.records.source_folder import SourceFolder
from tasks.stores.files.arrivals import Arrival, add_arrivals, read_arrivals
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError

logger = logging.getLogger(__name__)

_STAGE = "scan_folders"
_SOURCE = "session/source"
_REST_PER_SCAN = 9.0
"""Seconds without scans for each second of scanning."""
_ENOUGH_FILES = 3
"""Files of a session after which their number of frames, and whether they have sidecars, is expected of the others."""


class ScanFoldersParams(StageParams):
    """When a file counts as complete."""

    still_seconds: float = Field(default=10.0, ge=0)
    """A whole file whose number of frames nobody told is complete when two scans so far apart find it unchanged."""
    patience_seconds: float = Field(default=120.0, ge=0)
    """A file that is not whole, lacks frames or waits for its sidecar is handed over after standing still for so long:
    the import then says what is wrong with it."""
    expected_frames: int | None = Field(default=None, ge=1)
    """Frames of every movie, where the microscope's sidecars do not tell."""


@dataclass
class _Seen:
    """A file between its first sighting and its arrival."""

    size: int
    mtime_ns: int
    since: float
    """Monotonic time of the scan that first found it like this."""
    due_at: float = math.inf
    """Monotonic time at which it counts as complete, or is given up, if nothing changes."""
    n_scans: int = 1
    container: Container | None = None
    has_sidecar: bool = False

    def arrival(self, path: str) -> Arrival:
        complaint, n_frames = ("", None) if self.container is None else (self.container.reason, self.container.n_frames)
        return Arrival(path, self.size, self.mtime_ns, complaint, time.time(), n_frames, self.has_sidecar)


@dataclass
class ScannedSession:
    """What the last scan found of a session."""

    store_url: str
    folder: Path
    n_files: int = 0
    """Movies in the folder now."""
    n_arrived: int = 0
    """Of which are complete."""
    n_new: int = 0
    """Of which this scan found to be complete."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Path -> why it is not complete yet."""
    due_at: float = math.inf
    """Monotonic time at which a scan will find the next of them complete if nothing changes; infinite for none."""
    last_arrival: float = 0.0
    """Seconds since 1970 when the last of them was found complete; 0 where none was."""


class FolderWatch:
    """What one process remembers between scans; forgetting it delays what is being written by ``still_seconds``."""

    def __init__(self, stores: str, params: ScanFoldersParams) -> None:
        self._stores = Location.of(stores)
        self._params = params
        self._sessions: dict[Path, _FollowedSession] = {}
        self._not_before: dict[str, float] = {}
        self._due_at: dict[str, float] = {}
        """Root -> monotonic time of the next scan that finds a file complete without any event."""

    def scan(self, roots: list[str]) -> list[ScannedSession]:
        """Look at every session below the roots; a session that cannot be stored is logged and tried again.

        A root that takes long to scan is scanned less often, so that scanning never takes more than a tenth of the
        time: move sessions that have ended away from it.
        """
        found = []
        for root in roots:
            started = time.monotonic()
            if started >= self._not_before.get(root, started):
                sessions = self._scan_root(Path(root))
                self._not_before[root] = time.monotonic() + _REST_PER_SCAN * (time.monotonic() - started)
                due_at = min((session.due_at for session in sessions), default=math.inf)
                self._due_at[root] = max(due_at, self._not_before[root])
                found += sessions
        return found

    def seconds_until_due(self) -> float:
        """How long until a scan finds a file complete that nobody writes to any more, 0 where one is overdue.

        Infinite where no file waits.
        """
        return max(0.0, min(self._due_at.values(), default=math.inf) - time.monotonic())

    def _scan_root(self, root: Path) -> list[ScannedSession]:
        try:
            folders = find_sessions(root)
        except (FormatError, OSError) as error:
            logger.error("%s: %s cannot be scanned (%s); check the mount", _STAGE, root, error)
            return []
        found = []
        for folder in folders:
            try:
                found.append(self._session_of(folder).scan(folder, self._params, time.monotonic()))
            except (StoreError, FormatError, OSError) as error:
                logger.error("%s: session in %s: %s", _STAGE, folder.folder, error)
        return found

    def _session_of(self, folder: SessionFolder) -> _FollowedSession:
        followed = self._sessions.get(folder.folder)
        if followed is None:
            followed = _FollowedSession(open_session(self._stores, folder))
            self._sessions[folder.folder] = followed
        return followed


def open_session(stores: Location, folder: SessionFolder) -> SessionStore:
    """The store of the session in a folder, created where there is none.

    A session whose folder is now reached by another path (another mount, a moved disk) keeps its store; another
    session of the same name gets ``<name>-2`` and so on.
    """
    name = folder.name
    for number in range(1, 1000):
        name = folder.name if number == 1 else f"{folder.name}-{number}"
        store = SessionStore.create(f"{stores.url}/{name}.zarr", name)
        record = store.product(_SOURCE).record()
        if record is None or _is_same_session(store, Path(record.details["folder"]), folder):
            _remember_source(store, folder)
            return store
    raise StoreError(f"{stores.url}: a thousand sessions are called {folder.name}; rename the folder {folder.folder}")


def source_folder(store: SessionStore) -> SourceFolder:
    """Where the session's files were last seen."""
    followed = followed_folder(store)
    if followed is None:
        raise StoreError(f"store {store.url}: it follows no folder; process it with its folder given")
    return followed


def followed_folder(store: SessionStore) -> SourceFolder | None:
    """The same; None for a session that was processed with its folder given."""
    record = store.product(_SOURCE).record()
    return None if record is None else SourceFolder.model_validate(record.details)


def _is_same_session(store: SessionStore, known: Path, folder: SessionFolder) -> bool:
    if known == folder.folder:
        return True
    if known.is_dir():
        return known.samefile(folder.folder)
    arrived = [Path(path) for path in read_arrivals(store)]
    return not arrived or any((folder.folder / _below(path, known)).exists() for path in arrived[:20])


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)


def _remember_source(store: SessionStore, folder: SessionFolder) -> None:
    """Gain and defects of the first sight stay, so that a later one does not change what was imported."""
    product = store.product(_SOURCE)
    places = {name: getattr(folder, name) for name in ("gain", "defects", "mirror")}
    source = SourceFolder(
        folder=str(folder.folder),
        layout=folder.layout,
        **{name: None if place is None else str(place) for name, place in places.items()},
    )
    record = product.record()
    if record is not None:
        known = SourceFolder.model_validate(record.details)
        source = source.model_copy(
            update={"gain": known.gain or source.gain, "defects": known.defects or source.defects}
        )
        if known == source:
            return
    with product.write(_STAGE, 1, ScanFoldersParams(), {"folder": source.folder}) as attempt:
        attempt.details = source.model_dump()


class _FollowedSession:
    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._arrived = read_arrivals(store)
        self._seen: dict[str, _Seen] = {}
        self._frames: Counter[int] = Counter()
        """Number of frames -> files with it."""
        self._n_with_sidecar = 0
        for arrival in self._arrived.values():
            self._count(arrival)
        self._last_arrival = max((a.arrived_at for a in self._arrived.values()), default=0.0)

    def scan(self, folder: SessionFolder, params: ScanFoldersParams, now: float) -> ScannedSession:
        result = ScannedSession(self._store.url, folder.folder)
        new: list[Arrival] = []
        present: set[str] = set()
        for path in folder.movies:
            text = str(path)
            present.add(text)
            try:
                status = path.stat()
            except OSError:  # gone since it was listed, or not to be read: the next scan or the import tells
                continue
            known = self._arrived.get(text)
            if known is not None and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
                result.n_arrived += 1
                continue
            seen = self._update(text, status.st_size, status.st_mtime_ns, now)
            reason = self._reason_to_wait(path, seen, folder, params, now)
            if reason:
                result.waiting[text] = reason
            else:
                new.append(seen.arrival(text))
                self._count(new[-1])
        result.n_files, result.n_new = len(present), len(new)
        if new:
            add_arrivals(self._store, new)
            self._arrived |= {arrival.path: arrival for arrival in new}
            result.n_arrived += len(new)
            self._last_arrival = max(arrival.arrived_at for arrival in new)
        self._seen = {path: seen for path, seen in self._seen.items() if path in result.waiting}
        result.due_at = min((seen.due_at for seen in self._seen.values()), default=math.inf)
        result.last_arrival = self._last_arrival
        return result

    def _update(self, path: str, size: int, mtime_ns: int, now: float) -> _Seen:
        seen = self._seen.get(path)
        if seen is None or (seen.size, seen.mtime_ns) != (size, mtime_ns):
            seen = self._seen[path] = _Seen(size, mtime_ns, now)
        else:
            seen.n_scans += 1
        return seen

    def _reason_to_wait(
        self, path: Path, seen: _Seen, folder: SessionFolder, params: ScanFoldersParams, now: float
    ) -> str:
        """Why the file is not complete; empty where it is, or where waiting longer would not help."""
        still = now - seen.since
        seen.due_at = seen.since + params.patience_seconds
        if seen.container is None:
            try:
                seen.container = inspect(path)
            except OSError as error:
                seen.container = Container(False, None, f"{path}: cannot be read ({error.strerror or error})")
        seen.has_sidecar, stated = _sidecar(path, folder.mirror)
        n_frames = seen.container.n_frames
        if not seen.container.is_whole:
            reason = f"not whole yet: {seen.container.reason}"
        elif self._needs_sidecar(folder) and not seen.has_sidecar:
            reason = "its sidecar is not there yet"
        else:
            expected = params.expected_frames or stated or self._usual_frames()
            if n_frames is not None and n_frames == expected:
                return ""
            if expected is None:
                seen.due_at = seen.since + params.still_seconds
                is_still = seen.n_scans >= 2 and still >= params.still_seconds
                return "" if is_still else f"{n_frames} frames so far, how many are to come is not known"
            reason = f"{n_frames} of {expected} frames"
        return reason if seen.n_scans < 2 or still < params.patience_seconds else ""

    def _count(self, arrival: Arrival) -> None:
        if arrival.n_frames is not None:
            self._frames[arrival.n_frames] += 1
            self._n_with_sidecar += arrival.has_sidecar

    def _usual_frames(self) -> int | None:
        """What nearly all files of the session had so far."""
        if not self._frames:
            return None
        n_frames, n_files = self._frames.most_common(1)[0]
        return n_frames if n_files >= _ENOUGH_FILES and n_files >= 0.9 * self._frames.total() else None

    def _needs_sidecar(self, folder: SessionFolder) -> bool:
        n_files = self._frames.total()
        if n_files < _ENOUGH_FILES:
            return folder.layout == "epu" and self._n_with_sidecar == n_files
        return self._n_with_sidecar >= 0.9 * n_files


def _sidecar(path: Path, mirror: Path | None) -> tuple[bool, int | None]:
    """Whether the microscope says something of the file, and how many frames it is to have."""
    try:
        metadata = read_metadata(path, mirror)
    except (FormatError, OSError):  # perhaps being written; a broken one is told by the import
        return False, None
    return bool(metadata.sources), metadata.n_frames
