"""Which sessions lie under a microscope's root folder, and which of their files are movies."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.formats import FormatError
from tasks.formats.epu import EpuName
from tasks.formats.mrc import stated_size
from tasks.formats.serialem import MDOC_SUFFIX

logger = logging.getLogger(__name__)

Layout = Literal["epu", "serialem", "plain"]

_MOVIE_SUFFIXES = (".mrc", ".mrcs", ".tif", ".tiff", ".eer")
_GAIN_SUFFIXES = (".mrc", ".mrcs", ".tif", ".tiff", ".gain")
_LONGEST_NAME = 100

_GAIN = re.compile(r"^(?:count|super)ref_|gain_?-?ref|^gain[_.-]|[_-]gain\.", re.IGNORECASE)
_DEFECTS = re.compile(r"^defects?(?=[_.-]|$)", re.IGNORECASE)
_NO_MOVIE = re.compile(
    r"(?:^|[_\s-])(?:atlas|overview|search|focus|lmm|mmm|montage)(?=[_\s.\d-]|$)|^(?:grid)?squares?(?=[_.\d-])"
    r"|^foilhole_(?!.*_data_)|^(?:pre)?view(?=[_.\d-])|^dark(?:ref)?(?=[_.-])",
    re.IGNORECASE,
)
_NO_SESSION_FOLDER = re.compile(
    r"^(?:atlas|overviews?|search(?:maps?)?|focus|foilholes|lmm|mmm|squares?|\$recycle\.bin|@eadir|lost\+found"
    r"|system volume information)$|\.zarr$",
    re.IGNORECASE,
)
_EPU_DISC = re.compile(r"^Images-Disc\d*$", re.IGNORECASE)
_EPU_SESSION = "epusession.dm"
_EPU_MOVIE = re.compile(r"_(?:fractions|eer)$", re.IGNORECASE)
_SECTION = re.compile(rb"^\[\s*(FrameSet|ZValue|MontSection)\b", re.MULTILINE)


@dataclass(frozen=True)
class SessionFolder:
    """One session as it lies on disk now; a later scan finds the same name with more movies."""

    name: str
    """Unique under the root, and a name that `Session` takes: the folder's own where it lies directly in the root."""
    folder: Path
    """With all of the session's movies in it, at any depth."""
    layout: Layout
    movies: tuple[Path, ...]
    """By path."""
    gain: Path | None
    """The first by name where there are several, so that a later one does not change what was imported."""
    defects: Path | None
    mirror: Path | None = None
    """EPU: the folder with the XML files, where the movies lie in a tree of their own."""


def find_sessions(root: Path, depth: int = 1) -> list[SessionFolder]:
    """All sessions with at least one movie under ``root``, by name; nothing is opened but a few headers.

    EPU: the folder above ``Images-Disc*``, wherever it lies. A tree with movies and no XML that has a folder of the
    same name and grid squares with XML elsewhere under the root is one session with it. All other movies belong to the
    folder ``depth`` levels below the root, whatever subfolders it has or gets, and to the root itself where they lie
    higher: SerialEM's where there are ``.mdoc`` files, plain else.

    Not movies: hidden and partial files, atlas, search, focus and overview images, images of squares and holes, EPU's
    sums beside the fractions, SerialEM's stacks of sums, gain references and defect maps. Folders of such images,
    hidden folders and Zarr stores are left out.
    """
    if not root.is_dir():
        raise FormatError(f"{root}: is not a folder that can be read; give the folder in which a microscope writes")
    units: dict[Path, _Unit] = {}
    epu_folders: set[Path] = set()
    for place, folders, names in _walk(root):
        if any(map(_EPU_DISC.match, folders)) or any(name.lower() == _EPU_SESSION for name in names):
            epu_folders.add(place)
        relevant = [name for name in names if not name.startswith((".", "~"))]
        if relevant:
            folder, layout = _unit_of(root, place, depth, epu_folders)
            units.setdefault(folder, _Unit(folder, layout)).add(place, relevant)
    for unit in units.values():
        unit.settle()
    mirrors = _mirrors(list(units.values()))
    sessions = [
        SessionFolder(
            _name(root, unit.folder), unit.folder, unit.layout, tuple(sorted(unit.movies)), _first(unit.gains),
            _first(unit.defects), mirrors.get(unit.folder),
        )
        for unit in units.values()
        if unit.movies
    ]  # fmt: skip
    return sorted(sessions, key=lambda session: session.name)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder with the names of its folders and files, from the root down; links to folders are followed once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(root, onerror=_warn, followlinks=True):
        try:
            status = Path(place).stat()
        except OSError as error:
            _warn(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _NO_SESSION_FOLDER.search(f))
        yield Path(place), folders, names


def _warn(error: OSError) -> None:
    logger.warning("the folder %s cannot be read (%s); check permissions", error.filename, error.strerror)


def _unit_of(root: Path, place: Path, depth: int, epu_folders: set[Path]) -> tuple[Path, Layout]:
    """Folder of the session that the files of a folder belong to."""
    for folder in (place, *place.parents):
        if folder in epu_folders:
            return folder, "epu"
        if folder == root:
            break
    parts = place.relative_to(root).parts
    return root.joinpath(*(parts[:depth] if len(parts) >= depth else ())), "plain"


@dataclass
class _Unit:
    """A session while its folders are walked."""

    folder: Path
    layout: Layout
    movies: list[Path] = field(default_factory=list)
    sums: list[Path] = field(default_factory=list)
    """EPU's images that have the name of a movie without its ending."""
    gains: list[Path] = field(default_factory=list)
    defects: list[Path] = field(default_factory=list)
    squares: set[str] = field(default_factory=set)
    has_mdoc: bool = False
    has_xml: bool = False

    def add(self, place: Path, names: Iterable[str]) -> None:
        present = set(names)
        for name in names:
            lower = name.lower()
            if lower.endswith(_MOVIE_SUFFIXES) and not _GAIN.search(name) and not _DEFECTS.search(name):
                if _NO_MOVIE.search(name):
                    continue
                if self.layout == "epu" and not _EPU_MOVIE.search(name.rsplit(".", 1)[0]):
                    if EpuName.of(name) is not None:
                        self.sums.append(place / name)
                elif not _is_stack_of_sums(place, name, present):
                    self.movies.append(place / name)
            elif lower.endswith(MDOC_SUFFIX):
                self.has_mdoc = True
            elif lower.endswith(".xml"):
                self.has_xml = self.has_xml or EpuName.of(name) is not None
            elif lower.endswith(_GAIN_SUFFIXES) and not _DEFECTS.search(name):
                self.gains.append(place / name)
            elif _DEFECTS.search(name) and lower.endswith((".txt", *_MOVIE_SUFFIXES)):
                self.defects.append(place / name)
        if self.layout == "epu":
            self.squares |= {part for part in place.relative_to(self.folder).parts if part.startswith("GridSquare_")}

    def settle(self) -> None:
        """Decide what needs all of the session's files."""
        if self.layout == "plain" and self.has_mdoc:
            self.layout = "serialem"
        if not self.movies and self.sums and _has_frames(min(self.sums)):  # an EPU that gives movies no ending
            self.movies = self.sums


def _is_stack_of_sums(place: Path, name: str, present: set[str]) -> bool:
    """Whether SerialEM's ``.mdoc`` beside an MRC file describes images, each a section, and not the frames of one."""
    if not name.lower().endswith((".mrc", ".mrcs")) or name + MDOC_SUFFIX not in present:
        return False
    try:
        with (place / (name + MDOC_SUFFIX)).open("rb") as file:
            found = _SECTION.search(file.read(4096))
    except OSError:
        return False
    return found is not None and found[1] != b"FrameSet"


def _has_frames(path: Path) -> bool:
    if not path.name.lower().endswith((".mrc", ".mrcs")):
        return False
    try:
        return stated_size(path).n_frames > 1
    except (FormatError, OSError):
        return False


def _mirrors(units: list[_Unit]) -> dict[Path, Path]:
    """For a tree of movies without XML, the tree of the same name and squares that has the XML."""
    found = {}
    for unit in units:
        if unit.layout == "epu" and unit.movies and not unit.has_xml:
            others = [
                other.folder
                for other in units
                if other is not unit and other.has_xml and not other.movies and other.folder.name == unit.folder.name
                and other.squares & unit.squares
            ]  # fmt: skip
            if len(others) == 1:
                found[unit.folder] = others[0]
    return found


def _first(paths: list[Path]) -> Path | None:
    return min(paths, key=lambda path: (path.name, path)) if paths else None


def _name(root: Path, folder: Path) -> str:
    """The folder's name; with a hash of its path where another folder could come to have the same name."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", folder.name).lstrip("._-") or "session"
    if folder == root or (folder.parent == root and safe == folder.name and len(safe) <= _LONGEST_NAME):
        return safe[:_LONGEST_NAME]
    place = folder.relative_to(root).as_posix()
    return f"{safe[: _LONGEST_NAME - 9]}-{hashlib.blake2b(place.encode(errors='replace'), digest_size=4).hexdigest()}"
