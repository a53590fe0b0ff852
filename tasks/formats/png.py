"""PNG files: micrographs of 8 or 16 bits."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.image_file import ImageFile

_HEADER = struct.Struct(">8s4x4sIIBB")
_END = b"\0\0\0\0IEND\xaeB`\x82"


def open_png(path: Path) -> ImageFile:
    """Open a grey PNG; row 0 is the top row."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        file.seek(max(0, path.stat().st_size - len(_END)))
        end = file.read()
    if len(head) < _HEADER.size or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise FormatError(
            f"{path}: is not a PNG file: it starts with {head[:8]!r}; remove it or give it the suffix of its format"
        )
    _, _, n_x, n_y, bits, colour = _HEADER.unpack(head)
    if colour != 0 or bits not in (8, 16):
        raise FormatError(
            f"{path}: found {bits} bits in PNG colour type {colour}, expected 8 or 16 bits of grey (type 0); "
            "export the detector's counts, not a screen picture"
        )
    if end != _END:
        raise FormatError(f"{path}: truncated: it does not end with a PNG end mark; copy the file again")

    def frame(_: int) -> NDArray:
        try:
            image = np.asarray(imagecodecs.png_decode(path.read_bytes()))
        except (ValueError, RuntimeError) as error:
            raise FormatError(f"{path}: cannot be decoded ({error}); copy the file again") from error
        return image.reshape(n_y, n_x)

    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    return ImageFile(path, "png", 1, (n_y, n_x), dtype, None, frame)
