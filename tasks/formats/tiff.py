"""TIFF files: movies, micrographs and gain references, one page a frame."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.image_file import ImageFile

_DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32")
_READ_ERRORS = (tifffile.TiffFileError, ValueError, RuntimeError, KeyError, IndexError, struct.error, EOFError)
"""What tifffile and its codecs raise for files that are broken inside."""


def open_tiff(path: Path) -> ImageFile:
    """Open a TIFF (uncompressed, LZW, deflate, or whatever else the codecs know) whose pages are grey and all alike.

    Every directory and every strip has to lie inside the file: a movie that was cut off anywhere is found here.
    """
    pages = walk_pages(path)
    first = pages[0]
    shape = (int(first.imagelength), int(first.imagewidth))
    for i, page in enumerate(pages):
        found = (int(page.imagelength), int(page.imagewidth))
        if found != shape or page.dtype != first.dtype:
            raise FormatError(
                f"{path}: page {i} is {found} {page.dtype}, page 0 is {shape} {first.dtype}; expected frames all alike"
            )
    if first.samplesperpixel != 1:
        raise FormatError(
            f"{path}: found {first.samplesperpixel} colours per pixel, expected one grey value; "
            "export the detector's counts, not a screen picture"
        )
    if first.dtype is None or first.dtype.name not in _DTYPES:
        raise FormatError(
            f"{path}: found pixels of {first.dtype}, expected one of {', '.join(_DTYPES)}; convert the file"
        )

    def frame(i: int) -> NDArray:
        return read_page(path, pages[i], i)

    return ImageFile(path, "tiff", len(pages), shape, first.dtype.newbyteorder("="), pixel_size_of(first), frame)


def walk_pages(path: Path) -> list[tifffile.TiffPage]:
    """All pages of a TIFF file, after a check that every directory and every strip lies inside it.

    The pages read their pixels by themselves after the file was closed here.
    """
    n_directories = sum(1 for _ in compressions(path))
    try:
        with tifffile.TiffFile(path) as file:
            file.pages.useframes = False
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
    except _READ_ERRORS as error:
        raise FormatError(f"{path}: is not a TIFF file that can be read ({error}); copy the file again") from error
    if len(pages) != n_directories:
        raise FormatError(f"{path}: found {len(pages)} pages in {n_directories} directories; copy the file again")
    n_bytes = path.stat().st_size
    for i, page in enumerate(pages):
        ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts)]
        n_segments = -(-int(page.imagelength) // max(1, int(page.rowsperstrip))) if not page.is_tiled else len(ends)
        if not ends or (page.planarconfig == 1 and len(ends) < n_segments):
            raise FormatError(f"{path}: page {i} has {len(ends)} strips, expected {n_segments}; copy the file again")
        if max(ends) > n_bytes:
            raise FormatError(
                f"{path}: truncated: the pixels of page {i} of {len(pages)} end at byte {max(ends)}, the file has "
                f"{n_bytes}; copy the file again"
            )
    return pages


def compressions(path: Path) -> Iterator[int]:
    """Compression of every page, in order; raises FormatError where a directory or a tag's value leaves the file."""
    return (directory.compression for directory in directories(path))


@dataclass(frozen=True)
class Directory:
    """What one directory says of its page, and where the page's pixels lie."""

    shape: tuple[int, int]
    """(y, x) of its image, 0 where it is not said."""
    compression: int
    n_segments: int
    """Strips or tiles that a page of its size has to have; 0 where a size is missing."""
    offsets: tuple[int, ...]
    """First byte of each strip or tile."""
    byte_counts: tuple[int, ...]
    metadata: tuple[int, int] | None
    """First byte and length of the text in tag 65001, where cameras write what they know of an EER movie."""


def directories(path: Path) -> Iterator[Directory]:
    """Every directory in order, without its pixels; raises FormatError where one, or a tag's value, leaves the file."""
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(magic[:2], "")
        version = struct.unpack(f"{order}H", magic[2:4])[0] if order and len(magic) == 16 else 0
        if version not in (42, 43):
            raise FormatError(
                f"{path}: is not a TIFF file: it starts with {magic[:4]!r}; "
                "remove it or give it the suffix of its format"
            )
        layout = _BIG if version == 43 else _CLASSIC
        offset = struct.unpack_from(order + layout.offset, magic, layout.first)[0]
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise FormatError(f"{path}: its directories form a circle at byte {offset}; copy the file again")
            seen.add(offset)
            file.seek(offset)
            found = _read_directory(file, order, layout, n_bytes)
            if found is None:
                raise FormatError(
                    f"{path}: truncated: directory {len(seen)}, at byte {offset}, or what it points to lies outside "
                    f"the file's {n_bytes} bytes; copy the file again when it is complete"
                )
            directory, offset = found
            yield directory
    if not seen:
        raise FormatError(f"{path}: found a TIFF header and no image; copy the file again when it is complete")


@dataclass(frozen=True)
class _Layout:
    """Sizes that differ between TIFF and BigTIFF, as struct formats."""

    first: int
    """Byte at which the header has the offset of the first directory."""
    count: str
    offset: str


_CLASSIC = _Layout(first=4, count="H", offset="I")
_BIG = _Layout(first=8, count="Q", offset="Q")
_COMPRESSION = 259
_METADATA = 65001
_STRIPS = (273, 279)
"""Tags of offsets and byte counts."""
_TILES = (324, 325)
_READ_TAGS = {256, 257, _COMPRESSION, 277, 278, 284, 322, 323, *_STRIPS, *_TILES}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _read_directory(file: BinaryIO, order: str, layout: _Layout, n_bytes: int) -> tuple[Directory, int] | None:
    """The directory, and offset of the next one (0: this is the last); None where it reaches beyond the file."""
    head = file.read(struct.calcsize(order + layout.count))
    if len(head) < struct.calcsize(order + layout.count):
        return None
    n_entries = struct.unpack(order + layout.count, head)[0]
    entry = struct.Struct(f"{order}HH{layout.offset}{layout.offset}")
    if n_entries == 0 or n_entries * entry.size > n_bytes:
        return None
    offset_bytes = struct.calcsize(order + layout.offset)
    content = file.read(n_entries * entry.size + offset_bytes)
    if len(content) < n_entries * entry.size + offset_bytes:
        return None
    tags: dict[int, tuple[int, ...]] = {}
    metadata = None
    for i in range(n_entries):
        code, kind, n_values, value = entry.unpack_from(content, i * entry.size)
        size = _TYPE_BYTES.get(kind, 1) * n_values
        if size > offset_bytes and value + size > n_bytes:
            return None
        if code == _METADATA and size > offset_bytes:
            metadata = (value, size)
        if code in _READ_TAGS and kind in _INTEGER_TYPES:
            start = i * entry.size + 4 + offset_bytes
            if size > offset_bytes:
                file.seek(value)
                text, start = file.read(size), 0
                if len(text) < size:
                    return None
            else:
                text = content
            tags[code] = struct.unpack_from(f"{order}{n_values}{_INTEGER_TYPES[kind]}", text, start)
    following = struct.unpack_from(order + layout.offset, content, n_entries * entry.size)[0]
    return _directory(tags, metadata), int(following)


def _directory(tags: dict[int, tuple[int, ...]], metadata: tuple[int, int] | None) -> Directory:
    def first(code: int, default: int) -> int:
        return tags.get(code, (default,))[0]

    width, length = first(256, 0), first(257, 0)
    is_tiled = _TILES[0] in tags
    if is_tiled:
        n_segments = -(-width // max(1, first(322, width))) * -(-length // max(1, first(323, length)))
    else:
        n_segments = -(-length // max(1, min(length, first(278, length)))) if width else 0
    if first(284, 1) == 2:  # each colour has segments of its own
        n_segments *= first(277, 1)
    offsets, byte_counts = (tags.get(code, ()) for code in (_TILES if is_tiled else _STRIPS))
    return Directory((length, width), first(_COMPRESSION, 1), n_segments, offsets, byte_counts, metadata)


def read_page(path: Path, page: tifffile.TiffPage, i: int) -> NDArray:
    """(y, x) pixels of a grey page."""
    try:
        file = page.parent.filehandle
        file.open()
        try:
            image = np.asarray(page.asarray())
        finally:
            file.close()
    except (*_READ_ERRORS, OSError) as error:
        raise FormatError(f"{path}: frame {i} cannot be decoded ({error}); copy the file again") from error
    return image.reshape(page.imagelength, page.imagewidth).astype(image.dtype.newbyteorder("="), copy=False)


def pixel_size_of(page: tifffile.TiffPage) -> float | None:
    """Å per pixel, where the page states a resolution per centimetre that an electron microscope can have."""
    resolution, unit = page.tags.get("XResolution"), page.tags.get("ResolutionUnit")
    if resolution is None or unit is None or int(unit.value) != 3 or not resolution.value[0]:
        return None
    size = 1e8 * resolution.value[1] / resolution.value[0]
    return size if 0.05 <= size <= 100 else None


def write_tiff_movie(
    path: Path | str,
    frames: Iterable[NDArray],
    compression: Literal["none", "lzw", "deflate"] = "lzw",
    rows_per_strip: int = 16,
) -> None:
    """Write frames (frame, y, x), an array or one frame after the other, one page each.

    The file appears under its name when it is whole: a TIFF looks whole after each of its pages.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with tifffile.TiffWriter(partial) as file:
            for i, frame in enumerate(frames):
                image = np.asarray(frame)
                if image.ndim != 2 or image.dtype.name not in _DTYPES:
                    raise ValueError(
                        f"{path}: frame {i} is {image.shape} {image.dtype}, expected (y, x) of {', '.join(_DTYPES)}"
                    )
                file.write(
                    image,
                    photometric="minisblack",
                    compression={"none": None, "lzw": "lzw", "deflate": "adobe_deflate"}[compression],
                    rowsperstrip=rows_per_strip,
                    metadata=None,
                    contiguous=False,
                )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
