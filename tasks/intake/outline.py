"""Sizes of files that are not imported yet, from the header of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.formats import FormatError
from tasks.formats.exposure_file import FileParams, open_exposure
from tasks.records.forecast import Outline
from tasks.records.source_file import SourceFile

_TRIED = 5
_ALIKE = 1.3
"""Ratio of sizes up to which a file is taken for one like another of its folder: counts are packed, and doses vary."""
_SEEN: dict[tuple[str, str, FileParams], tuple[int, Outline]] = {}
"""Folder, suffix and parameters -> size of the last file that was looked into, and its outline.

A header is hundreds of pages long for some movies, and files of a session that is collected come a few at a time.
"""


def files_outline(files: Sequence[SourceFile], params_of: Callable[[str], FileParams]) -> Outline | None:
    """Number of files, and the frames of the largest whose header can be read; None where none of some can."""
    for file in sorted(files, key=lambda file: file.size, reverse=True)[:_TRIED]:
        path, params = Path(file.path), params_of(file.path)
        key = (str(path.parent), path.suffix, params)
        size, outline = _SEEN.get(key) or (0, None)
        if outline is None or not size / _ALIKE <= file.size <= _ALIKE * size:
            try:
                outline = _outline(path, params)
            except (FormatError, OSError):  # its import will say what is wrong with it
                continue
            _SEEN[key] = file.size, outline
        return outline.model_copy(update={"n_exposures": len(files)})
    return None


def _outline(path: Path, params: FileParams) -> Outline:
    image = open_exposure(path, params)
    stated = params.optics.pixel_size_angstrom / params.eer_upsampling if params.optics else None
    return Outline(
        n_exposures=1,
        n_frames=image.n_frames,
        shape=image.shape,
        bytes_per_px=image.dtype.itemsize,
        pixel_size_angstrom=stated or image.pixel_size_angstrom or 1.0,
    )
