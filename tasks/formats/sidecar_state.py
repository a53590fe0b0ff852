"""Whether the sidecar files of a movie came, changed or went since they were read, told without reading them."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.formats.epu import xml_places
from tasks.formats.serialem import MDOC_SUFFIX, mdoc_places


def sidecar_state(movie: Path, mirror: Path | None, names: FolderNames | None = None) -> str:
    """Name, size and time of change of a movie's own sidecars; empty where it has none.

    A file about many movies is not part of it: it changes with each of them. ``names`` spare asking the disk for files
    that are not there.
    """
    found = []
    for place in [*xml_places(movie, mirror), *mdoc_places(movie)]:
        if names is None or place in names:
            try:
                status = place.stat()
            except OSError:
                continue
            found.append(f"{place.name} {status.st_size} {status.st_mtime_ns}")
    return "; ".join(found)


class FolderNames:
    """Names of sidecar files in folders, each folder listed once: for one look at many files."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}
        self._has_mdoc: dict[Path, bool] = {}

    def __contains__(self, path: Path) -> bool:
        return path.name in self._of(path.parent)

    def has_mdoc(self, movie: Path) -> bool:
        """Whether a file about many movies may name this one."""
        for folder in (movie.parent, movie.parent.parent):
            if folder not in self._has_mdoc:
                self._has_mdoc[folder] = any(name.endswith(MDOC_SUFFIX) for name in self._of(folder))
        return self._has_mdoc[movie.parent] or self._has_mdoc[movie.parent.parent]

    def _of(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                names = [entry.name for entry in os.scandir(folder)]
            except OSError:
                names = []
            self._names[folder] = frozenset(name for name in names if name.endswith((".xml", MDOC_SUFFIX)))
        return self._names[folder]
