"""What the microscope's own files say of a movie: EPU's XML, SerialEM's ``.mdoc``, the metadata inside EER movies.

Their units and signs are converted in the module of each, and nowhere deeper.
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

from tasks.formats.eer import acquisition_metadata
from tasks.formats.epu import EpuName, read_epu
from tasks.formats.serialem import read_serialem, shot_position
from tasks.formats.sidecar import ANGSTROM_PER_METRE, SidecarPart, iso_time, part, read_number
from tasks.records.microscope_metadata import MicroscopeMetadata


def read_metadata(movie: Path, mirror: Path | None = None) -> MicroscopeMetadata:
    """All that the files beside a movie, the movie itself and its name say of it.

    EPU: ``FoilHole_…_<date>_<time>.xml`` beside the movie, or, where the camera's computer has the movies in a tree of
    its own, under ``mirror``, the session's folder with the XML files. SerialEM: ``<movie>.mdoc``, ``<stem>.mdoc``, or
    an ``.mdoc`` of many movies in the movie's folder or the one above, in which a ``SubFramePath`` names it. Where two
    of them say the same thing, the first wins.

    The pixel size is that of the movie: EPU states it for the image that it saves, and a super-resolution movie of the
    same field has smaller pixels, so the size of the movie's frames is read as well.

    Raises FormatError for a sidecar that cannot be read as what its name says; a movie without sidecars has what its
    name tells, or nothing.
    """
    parts = [read_epu(movie, mirror), read_serialem(movie), _read_eer(movie), _read_name(movie)]
    found = [one for one in parts if one is not None]
    values: dict[str, Any] = {}
    for one in reversed(found):
        values |= one.values
    return MicroscopeMetadata(sources=tuple(one.source for one in found if one.source), **values)


def hole_position_of(name: str) -> str | None:
    """Acquisition area in a movie's name: the two numbers after ``Data_`` of EPU, ``X+1Y-1-2`` of SerialEM."""
    epu = EpuName.of(name)
    return epu.area if epu is not None else shot_position(name)


def _read_name(movie: Path) -> SidecarPart | None:
    epu = EpuName.of(movie.name)
    return part("", hole_position=hole_position_of(movie.name), acquired_at=epu.acquired_at if epu else None)


def _read_eer(movie: Path) -> SidecarPart | None:
    """Metadata in the first frame, written by the camera.

    Source
    ------
    Tag 65001 of ThermoFisher's EerReaderLib: exposure in s, dose in electrons per pixel, pixels in m at the specimen.
    """
    if movie.suffix.lower() != ".eer" or not movie.is_file():
        return None
    items = acquisition_metadata(movie)
    if not items:
        return None

    def number(name: str) -> float | None:
        return read_number(movie, name, items.get(name))

    size, dose = number("sensorPixelSize.width"), number("totalDose")
    pixel_size = size * ANGSTROM_PER_METRE if size else None
    n_frames = number("numberOfFrames")
    return part(
        movie.name,
        pixel_size_angstrom=pixel_size,
        total_dose=dose / pixel_size**2 if dose and pixel_size else None,
        exposure_time_s=number("exposureTime") or None,
        n_frames=int(n_frames) if n_frames else None,
        acquired_at=iso_time(items.get("timestamp")),
        gain_file=PureWindowsPath(items["eerGainReference"]).name if items.get("eerGainReference") else None,
        detector=items.get("commercialName") or items.get("cameraName") or None,
    )
