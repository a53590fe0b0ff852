"""Electron event movies (EER) of Falcon 4 detectors: a TIFF whose pages hold run-length coded events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.image_file import ImageFile
from tasks.formats.tiff import compressions, directories, walk_pages

COMPRESSIONS = (65000, 65001, 65002)
"""Codings of electron events, as TIFF numbers them."""


@dataclass(frozen=True)
class EerRendering:
    """How events become frames."""

    upsampling: int = 1
    """1, 2 or 4 pixels along each axis for a pixel of the detector."""
    n_fractions: int | None = None
    """Frames to make; the detector's frames are shared out evenly, and the remainder at the end is left out."""
    frames_per_fraction: int | None = None
    """Frames of the detector in each frame to make, instead of `n_fractions`."""

    def __post_init__(self) -> None:
        if self.upsampling not in (1, 2, 4):
            raise ValueError(f"EER up-sampling is {self.upsampling}, expected 1, 2 or 4")
        if (self.n_fractions is None) == (self.frames_per_fraction is None):
            raise ValueError("an EER movie needs either its number of fractions or the detector frames in each")

    def group_size(self, path: Path, n_raw_frames: int) -> int:
        """Detector frames that make one frame."""
        if self.frames_per_fraction is not None:
            size, asked = self.frames_per_fraction, f"{self.frames_per_fraction} detector frames in each fraction"
        else:
            assert self.n_fractions is not None
            size, asked = n_raw_frames // max(1, self.n_fractions), f"{self.n_fractions} fractions"
        if not 1 <= size <= n_raw_frames:
            raise FormatError(f"{path}: found {n_raw_frames} detector frames, too few for {asked}; ask for fewer")
        return size


def is_eer(path: Path) -> bool:
    """Whether the first pages of a TIFF file hold electron events."""
    try:
        return any(compression in COMPRESSIONS for compression in islice(compressions(path), 2))
    except FormatError:
        return path.suffix.lower() == ".eer"


def count_raw_frames(path: Path) -> int:
    """Number of frames of the detector."""
    return len(_event_pages(path))


def open_eer(path: Path, rendering: EerRendering) -> ImageFile:
    """Open an EER movie as frames of counted events, uint8, or uint16 where more than 255 could meet in a pixel.

    The pixel size is that of the rendered pixel, when the file's metadata tell it.

    Source
    ------
    Guo et al., IUCrJ 2020, 7:860; the bit layout is that of ThermoFisher's EerReaderLib.
    """
    pages = _event_pages(path)
    shape = (int(pages[0].imagelength), int(pages[0].imagewidth))
    scale = rendering.upsampling
    group = rendering.group_size(path, len(pages))
    dtype = np.dtype(np.uint8 if group <= 255 else np.uint16)
    size = (shape[0] * scale, shape[1] * scale)

    def frame(i: int) -> NDArray:
        counts = np.zeros(size, dtype)
        with path.open("rb") as file:
            for number, page in enumerate(pages[i * group : (i + 1) * group], start=i * group):
                stream = bytearray()
                for offset, length in zip(page.dataoffsets, page.databytecounts):
                    file.seek(offset)
                    stream += file.read(length)
                _add_events(path, number, bytes(stream), _bits_of(page), counts, shape, scale)
        return counts

    pixel_size = _pixel_size(path)
    return ImageFile(
        path, "eer", len(pages) // group, size, dtype, pixel_size / scale if pixel_size else None, frame,
        n_raw_frames=len(pages), raw_frames_per_frame=group,
    )  # fmt: skip


def _event_pages(path: Path) -> list[tifffile.TiffPage]:
    """Pages with events; a sum image that some programs put first is left out."""
    pages = [page for page in walk_pages(path) if int(page.compression) in COMPRESSIONS]
    if not pages:
        raise FormatError(f"{path}: found no page with electron events; give a plain TIFF movie the suffix .tif")
    for i, page in enumerate(pages):
        if page.shape[:2] != pages[0].shape[:2] or page.compression != pages[0].compression:
            raise FormatError(f"{path}: detector frame {i} is {page.shape}, frame 0 is {pages[0].shape}")
    return pages


def _bits_of(page: tifffile.TiffPage) -> tuple[int, int, int]:
    """Bits of the run length and of the sub-pixel position along x and y."""
    if page.compression == 65000:
        return 8, 2, 2
    if page.compression == 65001:
        return 7, 2, 2
    run, x, y = (page.tags.valueof(code, default) for code, default in ((65007, 7), (65008, 2), (65009, 2)))
    return int(run), int(x), int(y)


def _add_events(
    path: Path, number: int, stream: bytes, bits: tuple[int, int, int], counts: NDArray, shape: tuple[int, int],
    scale: int,
) -> None:  # fmt: skip
    """Add one detector frame's events to ``counts``."""
    if bits == (8, 2, 2) and (events := _fixed_width_events(stream, shape[0] * shape[1])) is not None:
        position, sub_pixel = events
        shift = {1: 2, 2: 1, 4: 0}[scale]
        y = position // shape[1] * scale + ((sub_pixel >> 2) >> shift)
        x = position % shape[1] * scale + ((sub_pixel & 3) >> shift)
        counts[y, x] += 1  # an event has a pixel of its own, so no index occurs twice
        return
    try:
        imagecodecs.eer_decode(  # adds to what is in ``out``
            stream + b"\0" * (len(stream) % 2), counts.shape, *bits, superres={1: 0, 2: 1, 4: 2}[scale], out=counts
        )
    except (ValueError, RuntimeError) as error:
        raise FormatError(
            f"{path}: the events of detector frame {number} cannot be decoded ({error}); copy the file again"
        ) from error


def _fixed_width_events(stream: bytes, n_pixels: int) -> tuple[NDArray, NDArray] | None:
    """Positions and sub-pixel numbers (y above x, two bits each) of the first Falcon 4 coding: 12 bits a code always.

    None where the runs do not end on the last pixel: then codes of full runs are shorter, as in the 7-bit coding.
    """
    n_codes = len(stream) * 8 // 12
    content = np.frombuffer(stream + b"\0\0", np.uint8).astype(np.int32)
    first = np.arange(0, n_codes // 2 * 3 + 3, 3)
    first = first[first + 2 < len(content)]
    low, middle, high = content[first], content[first + 1], content[first + 2]
    codes = np.stack([low | (middle & 15) << 8, middle >> 4 | high << 4], axis=1).reshape(-1)[:n_codes]
    run = codes & 255
    is_event = run < 255
    pixel = np.cumsum(run + is_event) - is_event  # where each code's event lies
    end = int(np.searchsorted(pixel, n_pixels))
    if end == len(pixel) or pixel[end] != n_pixels:
        return None
    is_event = is_event[:end]
    return pixel[:end][is_event], (codes[:end][is_event] >> 8) ^ 0b1010


def acquisition_metadata(path: Path) -> dict[str, str]:
    """Items that the camera wrote into the first page, be it one of events or the sum before them: name -> text.

    Among them ``numberOfFrames``, ``exposureTime`` (s), ``totalDose`` (e⁻ per pixel), ``sensorPixelSize.width`` (m) and
    ``timestamp``. They are XML whose declaration names the encoding ``utf - 8`` in some files, which no parser takes.
    Empty where there are none, neither before the first page with events nor in it.

    Source
    ------
    EerReaderLib takes tag 65001 of the page on which a file opens, before it asks whether that is the final image.
    """
    for directory in directories(path):
        if directory.metadata is not None:
            with path.open("rb") as file:
                file.seek(directory.metadata[0])
                text = file.read(directory.metadata[1]).decode(errors="replace")
            return dict(re.findall(r'<item name="([^"]+)"[^>]*>\s*([^<]*?)\s*</item>', text))
        if directory.compression in COMPRESSIONS:
            break
    return {}


def event_shape(path: Path) -> tuple[int, int]:
    """(y, x) of the detector, from the first page with events; (0, 0) where there is none."""
    return next((page.shape for page in directories(path) if page.compression in COMPRESSIONS), (0, 0))


def _pixel_size(path: Path) -> float | None:
    """Å at the specimen for a pixel of the detector, from the metadata (`sensorPixelSize`, in metres)."""
    text = acquisition_metadata(path).get("sensorPixelSize.width", "")
    try:
        size = float(text) * 1e10
    except ValueError:
        return None
    return size if 0.05 <= size <= 100 else None
