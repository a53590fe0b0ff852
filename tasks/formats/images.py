"""One door for every image file: movies, micrographs and gain references."""

from __future__ import annotations

from pathlib import Path

from tasks.formats import FormatError
from tasks.formats.eer import EerRendering, is_eer, open_eer
from tasks.formats.image_file import ImageFile
from tasks.formats.mrc import open_mrc
from tasks.formats.png import open_png
from tasks.formats.tiff import open_tiff

MRC_SUFFIXES = (".mrc", ".mrcs", ".map", ".st")
TIFF_SUFFIXES = (".tif", ".tiff", ".gain")
SUFFIXES = (".mrc", ".mrcs", ".tif", ".tiff", ".eer", ".png")
"""Of movies and micrographs."""
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_image(path: Path, rendering: EerRendering | None = None) -> ImageFile:
    """Open an image by what is in the file; the suffix decides only for MRC, which has no mark that all writers set.

    EER movies need their ``rendering``. Raises FormatError where the file is not what it seems, OSError where it
    cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.lower()
    if start[:4] in _TIFF_STARTS:
        if not is_eer(path):
            return open_tiff(path)
        if rendering is None:
            raise FormatError(
                f"{path}: is an EER movie; give it the suffix .eer, and say how many fractions it makes "
                "(`eer_fractions`) or the dose of each (`eer_dose_per_fraction`)"
            )
        return open_eer(path, rendering)
    if start.startswith(b"\x89PNG"):
        return open_png(path)
    if suffix in MRC_SUFFIXES:
        return open_mrc(path)
    expected = {".png": "PNG", ".eer": "EER"}.get(
        suffix, "TIFF" if suffix in TIFF_SUFFIXES else "MRC, TIFF, EER or PNG"
    )
    raise FormatError(
        f"{path}: is not a {expected} file: it starts with {start!r}; remove it or give it the suffix of its format"
    )
