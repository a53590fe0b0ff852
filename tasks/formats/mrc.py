"""MRC files (MRC2014): movies, micrographs, gain references and maps."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mrcfile
import mrcfile.dtypes
import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.image_file import ImageFile

HEADER_BYTES = 1024
_DTYPES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}
_OTHER_MODES = {3: "complex int16", 4: "complex float32", 101: "packed 4-bit"}
_BITS = {0: 8, 1: 16, 2: 32, 3: 32, 4: 64, 6: 16, 12: 16, 101: 4}
"""Of a pixel, in each mode; a row of mode 101 ends on a whole byte."""
_IMOD_STAMP = 1146047817
"""Word 39 of the header reads "IMOD"; then bit 0 of word 40 says whether the bytes of mode 0 are signed."""
_IMOD_SLICE = slice(40, 48)
"""Of words 39 and 40 in the header field ``extra2``."""


def open_mrc(path: Path) -> ImageFile:
    """Open a stack of images or a single one; the size of the file has to be what its header says, to the byte.

    Both byte orders are read. Mode 0 is signed as in MRC2014, unless an IMOD stamp says that its bytes are unsigned.

    Source
    ------
    Cheng et al., J. Struct. Biol. 2015, 192:146; IMOD's MRC format description for the stamp.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    header, dtype, offset = parse_layout(path, content, n_bytes)
    nx, ny, nz = (int(header[name]) for name in ("nx", "ny", "nz"))
    cell, sampling = float(header["cella"]["x"]), int(header["mx"])
    pixel_size = cell / sampling if sampling > 0 and np.isfinite(cell) and cell > 0 else None

    def frame(i: int) -> NDArray:
        image = np.fromfile(path, dtype, count=nx * ny, offset=offset + i * nx * ny * dtype.itemsize)
        if image.size < nx * ny:
            raise FormatError(f"{path}: became shorter while frame {i} was read; import it when it is complete")
        return image.reshape(ny, nx).astype(dtype.newbyteorder("="), copy=False)

    return ImageFile(path, "mrc", nz, (ny, nx), dtype.newbyteorder("="), pixel_size, frame)


def parse_layout(path: Path, content: bytes, n_bytes: int) -> tuple[np.void, np.dtype, int]:
    """Header, type of a pixel in the file's byte order, and where in the file the first one stands.

    Parameters
    ----------
    content
        The first kilobyte of the file at least.
    n_bytes
        Size of the file, which has to be what its header says.
    """
    if len(content) < HEADER_BYTES:
        raise FormatError(
            f"{path}: found {len(content)} bytes, expected an MRC header of {HEADER_BYTES}; copy the file again"
        )
    order, header = _parse_header(path, content[:HEADER_BYTES])
    nx, ny, nz, mode = (int(header[name]) for name in ("nx", "ny", "nz", "mode"))
    dtype = np.dtype(_DTYPES[mode]).newbyteorder(order)
    if mode == 0 and _is_unsigned(header, order):
        dtype = np.dtype(np.uint8)
    offset = HEADER_BYTES + int(header["nsymbt"])
    expected = offset + nx * ny * nz * dtype.itemsize
    if n_bytes != expected:
        problem = "truncated" if n_bytes < expected else "too long"
        raise FormatError(
            f"{path}: {problem}: found {n_bytes} bytes, expected {expected} for {nz} frames of ({ny}, {nx}) in mode "
            f"{mode}; copy the file again"
        )
    return header, dtype, offset


@dataclass(frozen=True)
class StatedSize:
    """What a header says of its file."""

    n_frames: int
    shape: tuple[int, int]
    """(y, x)"""
    n_bytes: int
    """Of the whole file."""


def stated_size(path: Path) -> StatedSize:
    """Size of a file as its header says, in any mode of MRC2014 and IMOD; nothing but the header is read."""
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES:
        raise FormatError(
            f"{path}: found {len(content)} bytes, expected an MRC header of {HEADER_BYTES}; copy the file again"
        )
    _, header = _find_header(path, content)
    nx, ny, nz, mode = (int(header[name]) for name in ("nx", "ny", "nz", "mode"))
    return StatedSize(nz, (ny, nx), HEADER_BYTES + int(header["nsymbt"]) + -(-nx * _BITS[mode] // 8) * ny * nz)


def _parse_header(path: Path, content: bytes) -> tuple[Literal["<", ">"], np.void]:
    """Byte order and header of a file whose mode is one that is read here."""
    order, header = _find_header(path, content)
    mode = int(header["mode"])
    if mode in _OTHER_MODES:
        raise FormatError(
            f"{path}: found mode {mode} ({_OTHER_MODES[mode]}), expected one of {', '.join(map(str, _DTYPES))}; "
            "convert the file, for instance with IMOD's newstack -mode"
        )
    return order, header


def _find_header(path: Path, content: bytes) -> tuple[Literal["<", ">"], np.void]:
    """Byte order and header; the order is the one in which the mode makes sense."""
    found = {}
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        header = np.frombuffer(content, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))[0]
        found[order] = header
        sizes = [int(header[name]) for name in ("nx", "ny", "nz")]
        if all(0 < n < 2**24 for n in sizes) and int(header["nsymbt"]) >= 0 and int(header["mode"]) in _BITS:
            return order, header
    sizes = [int(found["<"][name]) for name in ("nx", "ny", "nz", "mode")]
    raise FormatError(
        f"{path}: is not an MRC file: its header says {sizes[0]} x {sizes[1]} x {sizes[2]} px in mode {sizes[3]}; "
        "remove the file or give it the suffix of its format"
    )


def _is_unsigned(header: np.void, order: str) -> bool:
    stamp, flags = struct.unpack(f"{order}2i", header["extra2"].tobytes()[_IMOD_SLICE])
    return stamp == _IMOD_STAMP and not flags & 1


def write_mrc(path: Path | str, array: NDArray, pixel_size_angstrom: float, is_stack: bool = False) -> None:
    """Write an image (y, x), a map (z, y, x), or with ``is_stack`` a movie or image stack (frame, y, x).

    int8, int16, uint16, float16 and float32 keep their type; uint8 becomes mode 0 with IMOD's mark for unsigned
    bytes. The file appears under its name when it is whole.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.dtype == np.uint8:
        array, is_unsigned = array.view(np.int8), True
    else:
        is_unsigned = False
    if array.dtype not in [np.dtype(d) for d in _DTYPES.values()]:
        raise ValueError(f"{path}: found {array.dtype}, MRC has no mode for it; cast to float32 or uint16 first")
    if array.ndim != 3 and not (array.ndim == 2 and not is_stack):
        raise ValueError(f"{path}: found {array.ndim} axes, expected 2 or 3, and 3 for a stack")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with mrcfile.new(partial) as file:
            file.set_data(array)
            if is_stack:
                file.set_image_stack()
            elif array.ndim == 3:
                file.set_volume()
            file.voxel_size = pixel_size_angstrom
            if is_unsigned:
                extra = bytearray(file.header.extra2.tobytes())
                extra[_IMOD_SLICE] = struct.pack("=2i", _IMOD_STAMP, 0)
                file.header.extra2 = np.void(bytes(extra))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
