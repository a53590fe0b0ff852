"""What every reader of foreign images returns, and its frames checked and in the smallest type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError


@dataclass(frozen=True)
class ImageFile:
    """A movie, a micrograph or a gain reference on disk; pixels are read one frame at a time.

    Row 0 of a frame is the first row in the file for every format: nothing is flipped on the way in. A detector's
    MRC and TIFF files of the same image may be mirror images of each other (MRC counts rows from the bottom, TIFF
    from the top), which is why a gain reference has ``gain_flip``.
    """

    path: Path
    format: str
    n_frames: int
    shape: tuple[int, int]
    """(y, x)"""
    dtype: np.dtype
    """Of the frames that `frame` returns, in the machine's byte order."""
    pixel_size_angstrom: float | None
    """As the file says, None where it does not."""
    frame: Callable[[int], NDArray]
    """Frame of this number, (y, x)."""
    n_raw_frames: int = 0
    """Frames of the detector where several of them make one frame (EER), else 0."""
    raw_frames_per_frame: int = 0

    def frames(self) -> Iterator[NDArray]:
        """Frame by frame, (y, x) each."""
        return (self.frame(i) for i in range(self.n_frames))

    def read(self) -> NDArray:
        """(frame, y, x) all frames."""
        stack = np.empty((self.n_frames, *self.shape), self.dtype)
        for i in range(self.n_frames):
            stack[i] = self.frame(i)
        return stack


def checked_frames(image: ImageFile) -> NDArray:
    """(frame, y, x) all frames in the smallest stored type that holds them; the first bad frame raises FormatError.

    Memory: the frames in that type and one as read; while a type has to be widened, in both types.
    """
    stack = np.empty((image.n_frames, *image.shape), np.uint8)
    for i, frame in enumerate(image.frames()):
        place = f"{image.path}: frame {i} of {image.n_frames}"
        if frame.dtype.kind == "f":
            n_bad = frame.size - int(np.isfinite(frame).sum())
            if n_bad:
                raise FormatError(
                    f"{place} has {n_bad} of {frame.size} pixels that are not a number or infinite; copy it again or "
                    "leave the file out"
                )
        low, high = frame.min(), frame.max()
        if low == high:
            raise FormatError(
                f"{place} is constant: all its pixels are {low}; look whether beam and detector were on, or leave the "
                "file out"
            )
        wanted = _joint_type(stack.dtype, _smallest_type(frame, float(low), float(high)))
        if wanted != stack.dtype:
            stack = stack.astype(wanted)
        stack[i] = frame
    return stack


def _smallest_type(frame: NDArray, low: float, high: float) -> np.dtype:
    if frame.dtype.kind == "f" and not (max(-low, high) <= 65535 and np.array_equal(frame, np.rint(frame))):
        return np.dtype(np.float32)
    for dtype in (np.uint8, np.uint16, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def _joint_type(first: np.dtype, second: np.dtype) -> np.dtype:
    joint = np.promote_types(first, second)
    return joint if joint in (np.uint8, np.uint16, np.int16) else np.dtype(np.float32)
