"""Whether a file of a microscope is whole, told from its container alone: no pixel is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import FormatError
from tasks.formats.eer import COMPRESSIONS, acquisition_metadata
from tasks.formats.images import MRC_SUFFIXES, TIFF_SUFFIXES
from tasks.formats.mrc import stated_size
from tasks.formats.tiff import Directory, directories

_PNG_START = b"\x89PNG\r\n\x1a\n"
_TIFF_HEADER_BYTES = 8


@dataclass(frozen=True)
class Container:
    """What the container of a file says of the file."""

    is_whole: bool
    n_frames: int | None
    """Frames in the file (EER: of the detector); None where it is not whole."""
    reason: str
    """Why it is not whole; empty where it is."""


def inspect(path: Path) -> Container:
    """Whether everything that the container of ``path`` promises is inside the file.

    TIFF and BigTIFF: the chain of directories ends, and every tag's value and every strip or tile lies in the file;
    EER: the same, and as many frames as the camera wrote into its metadata. MRC: the size is that of the header to the
    byte. PNG: the last chunk is there. Cost: a few milliseconds, whatever the size of the pixels.

    A whole container is not always a whole movie. A program that writes a TIFF page by page leaves a whole file after
    every page, and one that counts the frames in the MRC header up does so too: compare ``n_frames`` with the number
    that the microscope's sidecar or the recipe expects, or wait until size and time of change stood still over two
    scans. The same holds where a copying program reserves the final size before it has the content.

    Raises FormatError for a suffix that no microscope gives to its images, OSError where the file cannot be read.
    """
    suffix = path.suffix.lower()
    check: Callable[[Path], int]
    if suffix == ".eer":
        check = _check_eer
    elif suffix in TIFF_SUFFIXES:
        check = _check_tiff
    elif suffix in MRC_SUFFIXES:
        check = _check_mrc
    elif suffix == ".png":
        check = _check_png
    else:
        known = ", ".join(("*.eer", *(f"*{s}" for s in (*TIFF_SUFFIXES, *MRC_SUFFIXES)), "*.png"))
        raise FormatError(f"{path}: found the suffix {path.suffix!r}, expected one of {known}; leave the file out")
    try:
        return Container(True, check(path), "")
    except FormatError as error:
        return Container(False, None, str(error))


def _check_tiff(path: Path) -> int:
    n_bytes = path.stat().st_size
    n_pages = 0
    for i, directory in enumerate(directories(path)):
        _check_segments(path, i, directory, n_bytes)
        n_pages += 1
    return n_pages


def _check_eer(path: Path) -> int:
    n_bytes = path.stat().st_size
    n_frames = 0
    for i, directory in enumerate(directories(path)):
        _check_segments(path, i, directory, n_bytes)
        n_frames += directory.compression in COMPRESSIONS
    if not n_frames:
        raise FormatError(f"{path}: found no page with electron events; give a plain TIFF movie the suffix .tif")
    promised = acquisition_metadata(path).get("numberOfFrames", "")
    if promised.isdigit() and n_frames < int(promised):
        raise FormatError(
            f"{path}: found {n_frames} frames of the detector, its metadata say {promised}; copy the file again when "
            "it is complete"
        )
    return n_frames


def _check_segments(path: Path, i: int, directory: Directory, n_bytes: int) -> None:
    n_found = min(len(directory.offsets), len(directory.byte_counts))
    if not 0 < directory.n_segments <= n_found:
        raise FormatError(
            f"{path}: page {i} has {n_found} strips or tiles, expected {directory.n_segments or 'a size of its image'};"
            " copy the file again when it is complete"
        )
    if min(directory.offsets) < _TIFF_HEADER_BYTES or min(directory.byte_counts) < 1:
        raise FormatError(
            f"{path}: page {i} has strips or tiles that are not written yet; copy the file again when it is complete"
        )
    end = max(offset + count for offset, count in zip(directory.offsets, directory.byte_counts))
    if end > n_bytes:
        raise FormatError(
            f"{path}: truncated: the pixels of page {i} end at byte {end}, the file has {n_bytes}; copy the file again "
            "when it is complete"
        )


def _check_mrc(path: Path) -> int:
    stated = stated_size(path)
    n_bytes = path.stat().st_size
    if n_bytes != stated.n_bytes:
        problem = "truncated" if n_bytes < stated.n_bytes else "too long"
        raise FormatError(
            f"{path}: {problem}: found {n_bytes} bytes, its header says {stated.n_bytes} for {stated.n_frames} frames; "
            "copy the file again when it is complete"
        )
    return stated.n_frames


def _check_png(path: Path) -> int:
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_PNG_START)) != _PNG_START:
            raise FormatError(f"{path}: is not a PNG file; remove it or give it the suffix of its format")
        kind, end = b"", len(_PNG_START)
        while kind != b"IEND":
            file.seek(end)
            head = file.read(8)
            end += 12 + (struct.unpack(">I", head[:4])[0] if len(head) == 8 else 0)
            if len(head) < 8 or end > n_bytes:
                raise FormatError(
                    f"{path}: truncated: chunk {kind.decode(errors='replace')!r} is the last in the file's {n_bytes} "
                    "bytes, expected IEND; copy the file again when it is complete"
                )
            kind = head[4:]
    return 1
