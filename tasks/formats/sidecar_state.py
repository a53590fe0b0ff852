"""Whether the sidecar files of a movie came, changed or went since they were read, told without reading them."""

from __future__ import annotations

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
    """Names in folders, each listed once: for one look at many files."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def __contains__(self, path: Path) -> bool:
        return path.name in self._of(path.parent)

    def has_mdoc(self, movie: Path) -> bool:
        """Whether a file about many movies may name this one."""
        folders = (movie.parent, movie.parent.parent)
        return any(name.endswith(MDOC_SUFFIX) for folder in folders for name in self._of(folder))

    def _of(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                names = frozenset(path.name for path in folder.iterdir() if path.suffix in (".xml", MDOC_SUFFIX))
            except OSError:
                names = frozenset()
            self._names[folder] = names
        return self._names[folder]
