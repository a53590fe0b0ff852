"""Which files of a folder were seen before, and as which exposures: so that a second look at them is quick.

``ledger/files.json`` is an index, not the truth: a file counts as known when its size and time of change are those of
the index, and without the index every file is read for its hash again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from tasks.stores.session_store import SessionStore


@dataclass(frozen=True)
class SourceFile:
    """A file, and what is remembered of it."""

    path: str
    size: int
    mtime_ns: int
    content_hash: str = ""
    """Empty until it was read."""
    exposure_id: str = ""
    """Empty until it was seen."""
    same_as: str = ""
    """Exposure of the file that has the same content and was imported instead."""


class FileIndex:
    """The index of one session, held in memory until `save`."""

    def __init__(self, store: SessionStore) -> None:
        self._location = store.location / "ledger" / "files.json"
        content = self._location.read_bytes()
        self._known: dict[str, SourceFile] = {}
        self._is_changed = False
        self.replaced: dict[str, SourceFile] = {}
        """Exposure that a path was before -> the file that is there now."""
        if content is not None:
            try:
                self._known = {path: SourceFile(path, *values) for path, values in json.loads(content).items()}
            except (ValueError, TypeError):  # an index that cannot be read is rebuilt
                self._is_changed = True

    def recall(self, file: SourceFile) -> SourceFile:
        """The file with its hash and exposure, where it did not change since they were remembered."""
        known = self._known.get(file.path)
        return known if known is not None and (known.size, known.mtime_ns) == (file.size, file.mtime_ns) else file

    def remember(self, file: SourceFile) -> None:
        known = self._known.get(file.path)
        if known == file:
            return
        if known is not None and known.exposure_id and known.exposure_id != file.exposure_id:
            self.replaced[known.exposure_id] = file
        self._known[file.path] = file
        self._is_changed = True

    def set_aside(self, file: SourceFile, exposure_id: str, same_as: str) -> SourceFile:
        """The file as an entry of its own that refers to another exposure."""
        assigned = replace(file, exposure_id=exposure_id, same_as=same_as)
        if self._known.get(file.path) != assigned:
            self._known[file.path] = assigned
            self._is_changed = True
        return assigned

    def save(self) -> None:
        """Write the index, where it changed, in one step."""
        if not self._is_changed:
            return
        content = {
            f.path: [f.size, f.mtime_ns, f.content_hash, f.exposure_id, f.same_as]
            for f in sorted(self._known.values(), key=lambda f: f.path)
        }
        self._location.write_bytes(json.dumps(content).encode())
        self._is_changed = False
