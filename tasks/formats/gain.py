"""Gain references and defect files, converted to one meaning: a factor that multiplies, a mask that is 1 where bad."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.images import open_image

GainMeaning = Literal["auto", "multiply", "divide"]


def is_divisor_for(path: Path, meaning: GainMeaning, is_for_eer: bool) -> bool:
    """Whether counts are to be divided by this reference; see `read_gain`."""
    return is_for_eer and path.suffix.lower() != ".gain" if meaning == "auto" else meaning == "divide"


def read_gain(path: Path, meaning: GainMeaning = "auto", is_for_eer: bool = False) -> NDArray:
    """(y, x) float32 factors that multiply the counts, 0 where the detector is bad; as the file is oriented.

    Gain references multiply, those in ThermoFisher's ``.gain`` files too. The one exception is a reference for EER
    movies in another format (MRC or TIFF): it holds the response of the detector and divides. ``auto`` follows these
    rules; they are RELION's (`EERRenderer::loadEERGain`).
    """
    image = open_image(path)
    gain = image.frame(0).astype(np.float32)
    gain[~np.isfinite(gain) | (gain < 0)] = 0
    is_good = gain > 0
    if not is_good.any():
        raise FormatError(f"{path}: the gain reference has no positive value; give the file the detector uses")
    if is_divisor_for(path, meaning, is_for_eer):
        mean = gain[is_good].mean(dtype=np.float64)
        gain[is_good] = mean / gain[is_good]
    return gain


def fit_gain_to_eer(gain: NDArray, shape: tuple[int, int], upsampling: int) -> NDArray:
    """The gain of EER frames of ``shape``: pixels repeated, or averaged, where detector and frames differ by 2 or 4.

    Unchanged where no such factor fits; the caller compares shapes.
    """
    for factor in (2, 4):
        if upsampling >= factor and (gain.shape[0] * factor, gain.shape[1] * factor) == shape:
            return gain.repeat(factor, axis=0).repeat(factor, axis=1)
        if (shape[0] * factor, shape[1] * factor) == gain.shape:
            blocks = gain.reshape(shape[0], factor, shape[1], factor)
            return np.where((blocks == 0).any(axis=(1, 3)), 0, blocks.mean(axis=(1, 3))).astype(np.float32)
    return gain


def read_defects(path: Path, shape: tuple[int, int], scale: int = 1) -> NDArray:
    """(y, x) uint8 mask, 1 where the detector is bad, in the pixels of the frames.

    Either an image that is not zero where the detector is bad, or a text whose lines ``x y width height`` are
    rectangles that start at column x, row y, both counted from 0, in the file order of the frames (MotionCor2's and
    RELION's form). Neither is rotated or flipped with the gain. With ``scale`` both count detector pixels that are
    ``scale`` frame pixels wide.
    """
    with path.open("rb") as file:
        start = file.read(256)
    if b"\0" in start or start.startswith(b"\x89PNG"):
        mask = (open_image(path).frame(0) != 0).astype(np.uint8)
        if mask.shape != shape:
            mask = mask.repeat(scale, axis=0).repeat(scale, axis=1)
        if mask.shape != shape:
            raise FormatError(
                f"{path}: the defect mask is {mask.shape}, the frames are {shape}; "
                "give the mask in the orientation of the frames"
            )
        return mask
    mask = np.zeros(shape, np.uint8)
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            x, y, width, height = (int(word) * scale for word in words)
        except ValueError as error:
            raise FormatError(
                f"{path} line {number}: found {line.strip()!r}, expected four whole numbers: x y width height"
            ) from error
        if x < 0 or y < 0 or width < 1 or height < 1 or x + width > shape[1] or y + height > shape[0]:
            raise FormatError(
                f"{path} line {number}: the rectangle {line.strip()!r} reaches outside frames of {shape[1]} columns "
                f"and {shape[0]} rows; write x y width height in pixels of the frames"
            )
        mask[y : y + height, x : x + width] = 1
    return mask
