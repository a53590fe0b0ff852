"""Files that SerialEM writes: ``.mdoc`` beside the frames, or one of many movies."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from tasks.formats import FormatError
from tasks.formats.images import MRC_SUFFIXES
from tasks.formats.sidecar import ANGSTROM_PER_UM, SidecarPart, frame_shape, iso_time, part, read_number

logger = logging.getLogger(__name__)

MDOC_SUFFIX = ".mdoc"
_POSITION = re.compile(r"(?:^|[_-])(X[+-]?\d+Y[+-]?\d+(?:-\d+)?)(?=[_.]|$)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def shot_position(name: str) -> str | None:
    """Hole and position of a multiple-record shot in a movie's name, for instance ``X+1Y-1-2``."""
    found = _POSITION.search(name)
    return found[1] if found else None


def read_serialem(movie: Path) -> SidecarPart | None:
    """What the ``.mdoc`` of a movie, or one of many movies that names it, says; None where there is none.

    SerialEM writes Å, kV, degrees and e⁻/Å², stage, shifts and defocus in µm, and counts underfocus negative.
    """
    for path in mdoc_places(movie):
        if path.is_file():
            mdoc = _read_mdoc(path)
            section = mdoc.section_of(movie)
            if section is None:
                raise FormatError(
                    f"{path}: found {len(mdoc.sections)} sections of other movies "
                    f"({', '.join(_named(s) or '?' for s in mdoc.sections[:3])}), expected one with SubFramePath "
                    f"{movie.name}; correct the name of the movie or of its mdoc"
                )
            return _serialem_part(path, mdoc, section, movie)
    for folder in (movie.parent, movie.parent.parent):
        for path in _mdocs_of_many(folder):
            mdoc = _read_mdoc(path)
            section = mdoc.by_movie.get(movie.name)
            if section is not None:
                return _serialem_part(path, mdoc, section, movie)
    return None


def mdoc_places(movie: Path) -> list[Path]:
    """Where the ``.mdoc`` of this movie alone may lie, the first place first."""
    return [movie.with_name(movie.name + MDOC_SUFFIX), movie.with_suffix(MDOC_SUFFIX)]


@dataclass(frozen=True)
class _Mdoc:
    """An ``.mdoc`` file: key-value pairs before the first section, and those of each section."""

    general: dict[str, str]
    sections: list[dict[str, str]]
    by_movie: dict[str, dict[str, str]]
    """Sections by the name of the movie that they have."""

    def section_of(self, movie: Path) -> dict[str, str] | None:
        """The movie's section in a file named after the movie; the only one counts whatever it names."""
        if movie.name in self.by_movie:
            return self.by_movie[movie.name]
        named = list(self.by_movie.values()) or self.sections
        return named[0] if len(named) == 1 else None


def _mdocs_of_many(folder: Path) -> list[Path]:
    """Those in a folder that do not stand beside the one file that they are named after."""
    try:
        status = folder.stat()
    except OSError:
        return []
    return list(_list_mdocs_of_many(folder, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _list_mdocs_of_many(folder: Path, changed_at: int) -> tuple[Path, ...]:
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return ()
    stems = {name.rsplit(".", 1)[0] for name in names if not name.lower().endswith(MDOC_SUFFIX)}
    return tuple(
        folder / name
        for name in sorted(names)
        if name.lower().endswith(MDOC_SUFFIX)
        and not name.startswith(".")
        and not _is_of_one_movie(name[: -len(MDOC_SUFFIX)], names, stems)
    )


def _is_of_one_movie(named: str, names: set[str], stems: set[str]) -> bool:
    """Whether a movie of this name or stem is there; ``x.mrc.mdoc`` of a stack of sums has sections of many."""
    is_image = named.lower().endswith((*MRC_SUFFIXES, ".idoc"))
    return not is_image and (named in names or named in stems)


def _read_mdoc(path: Path) -> _Mdoc:
    try:
        status = path.stat()
        return _parse_mdoc(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror or error}); check permissions") from error


@lru_cache(maxsize=32)
def _parse_mdoc(path: Path, n_bytes: int, changed_at: int) -> _Mdoc:
    """Parsed once while size and time of change stay.

    Source
    ------
    "Image Metadata Files" in SerialEM's help: IMOD's autodoc format, sections ``ZValue`` (of an image stack) and
    ``FrameSet`` (of a frame file).
    """
    content = path.read_bytes()
    if b"\0" in content:
        raise FormatError(f"{path}: found binary content, expected the text of SerialEM's mdoc; copy the file again")
    general: dict[str, str] = {}
    sections: list[dict[str, str]] = []
    current = general
    for line in content.decode("utf-8", errors="replace").splitlines():
        line = line.strip("\ufeff \t")
        if header := re.match(r"^\[\s*(\w+)\s*=\s*(.*?)\s*\]$", line):
            if header[1] == "T":
                general.setdefault("T", header[2])
            else:
                current = {"section": header[1]}
                sections.append(current)
        elif pair := re.match(r"^([^=#\[]+?)\s*=\s*(.*)$", line):
            current[pair[1]] = pair[2].strip()
    if not general and not sections:
        raise FormatError(
            f"{path}: found no line of the form `key = value` in {n_bytes} bytes, expected SerialEM's mdoc; copy the "
            "file again"
        )
    named = {name: section for section in sections if (name := _named(section)) is not None}
    return _Mdoc(general, sections, named)


def _named(section: dict[str, str]) -> str | None:
    """Name of the movie of a section, without its folder on the camera's computer."""
    return PureWindowsPath(section["SubFramePath"]).name if section.get("SubFramePath") else None


def _serialem_part(path: Path, mdoc: _Mdoc, section: dict[str, str], movie: Path) -> SidecarPart:
    both = {**mdoc.general, **section}

    def numbers(key: str, n: int) -> list[float] | None:
        text = both.get(key)
        if text is None:
            return None
        words = text.split()
        if len(words) < n:
            raise FormatError(f"{path}: {key} is {text!r}, expected {n} numbers; copy the file again")
        return [read_number(path, key, word) or 0.0 for word in words]

    def number(key: str) -> float | None:
        found = numbers(key, 1)
        return found[0] if found else None

    def um(key: str) -> float | None:
        value = number(key)
        return None if value is None else value * ANGSTROM_PER_UM

    doses = numbers("FrameDosesAndNumber", 2) or []
    dose = number("ExposureDose") or sum(d * n for d, n in zip(doses[::2], doses[1::2]))
    n_frames = number("NumSubFrames") or sum(doses[1::2])
    defocus, slit, position = um("TargetDefocus"), numbers("FilterSlitAndLoss", 1), both.get("MultishotHoleAndPosition")
    stage, stage_z, shift = numbers("StagePosition", 2), um("StageZ"), numbers("ImageShift", 2)
    beam = numbers("BeamShift", 2)
    title = re.sub(r"^SerialEM:\s*(?:(?:Acquired|Digitized) on\s+)?", "", both.get("T", ""))
    return part(
        path.name,
        pixel_size_angstrom=_serialem_pixel_size(number("PixelSpacing"), numbers("ImageSize", 2), section, movie),
        voltage_kv=number("Voltage") or None,
        total_dose=dose or None,
        exposure_time_s=number("ExposureTime") or None,
        n_frames=int(n_frames) or None,
        acquired_at=_serialem_time(path, both.get("DateTime")),
        nominal_defocus_angstrom=None if defocus is None else -defocus,
        magnification=number("Magnification") or None,
        stage_position_angstrom=None
        if stage is None or stage_z is None
        else (stage_z, stage[1] * ANGSTROM_PER_UM, stage[0] * ANGSTROM_PER_UM),
        stage_tilt_deg=number("TiltAngle"),
        image_shift=None if shift is None else (shift[1], shift[0]),
        beam_shift=None if beam is None else (beam[1], beam[0]),
        hole_position=None if position is None else "_".join(position.split()),
        gain_file=_file_name(both.get("GainReference")),
        defect_file=_file_name(both.get("DefectFile")),
        energy_filter_slit_ev=slit[0] if slit and slit[0] > 0 else None,
        microscope=re.split(r"\s{2,}|\s+Camera\s*->", title)[0].strip() or None,
        software="SerialEM",
    )


def _serialem_pixel_size(
    stated: float | None, image_size: list[float] | None, section: dict[str, str], movie: Path
) -> float | None:
    """Å per pixel of the movie: that of its own section, or of the sum that a section of an image stack describes."""
    if not stated:
        return None
    shape = frame_shape(movie)
    if section.get("section") == "FrameSet" or shape is None or image_size is None:
        return stated
    ratio = max(shape) / max(image_size)
    return stated / ratio if any(abs(ratio - whole) < 0.05 * whole for whole in (0.25, 0.5, 1, 2, 4)) else stated


def _file_name(path: str | None) -> str | None:
    return PureWindowsPath(path).name or None if path else None


def _serialem_time(path: Path, text: str | None) -> str | None:
    """``08-Oct-21  07:39:08`` of all versions, and the newer ``2021-Oct-08  07:39:08``, in ISO 8601."""
    if not text:
        return None
    found = re.match(r"^(\d{1,4})-(\w{3})-(\d{1,4})\s+(\d+):(\d\d):(\d\d)", text)
    if found and found[2].title() in _MONTHS:
        day, year = (int(found[3]), int(found[1])) if len(found[1]) == 4 else (int(found[1]), int(found[3]))
        try:
            month, hour, minute, second = _MONTHS.index(found[2].title()) + 1, *map(int, found.group(4, 5, 6))
            return datetime(year if year > 99 else 2000 + year, month, day, hour, minute, second).isoformat()
        except ValueError:
            pass
    time = iso_time(text)
    if time is None:
        logger.warning("%s: DateTime is %r, which is no known form of a date and time", path, text)
    return time
