"""What the readers of sidecar files share: numbers with their place, times, and the size of a movie's frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.formats import FormatError
from tasks.formats.eer import event_shape
from tasks.formats.images import MRC_SUFFIXES, TIFF_SUFFIXES
from tasks.formats.mrc import stated_size
from tasks.formats.tiff import directories

ANGSTROM_PER_METRE = 1e10
ANGSTROM_PER_UM = 1e4


@dataclass(frozen=True)
class SidecarPart:
    """What one file says, by the names of `MicroscopeMetadata`."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)


def part(source: str, **values: Any) -> SidecarPart:
    """The values that the file has."""
    return SidecarPart(source, {name: value for name, value in values.items() if value is not None})


def read_number(path: Path, key: str, text: str | None) -> float | None:
    """A finite number; None for an empty element."""
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"{path}: {key} is {text.strip()!r}, expected a number; copy the file again")
    return value


def pair(y: float | None, x: float | None) -> tuple[float, float] | None:
    """(y, x) where both are known."""
    return None if y is None or x is None else (y, x)


def iso_time(text: str | None) -> str | None:
    """A time in ISO 8601, None where the text is none."""
    try:
        return datetime.fromisoformat(text).isoformat() if text else None
    except ValueError:
        return None


def frame_shape(movie: Path) -> tuple[int, int] | None:
    """(y, x) of the movie's frames from its header, None where it has none that can be read."""
    suffix = movie.suffix.lower()
    try:
        if suffix in MRC_SUFFIXES:
            return stated_size(movie).shape
        if suffix in (".eer", *TIFF_SUFFIXES):
            shape = event_shape(movie) if suffix == ".eer" else next(directories(movie)).shape
            return shape if min(shape) > 0 else None
    except (FormatError, OSError):
        return None
    return None
