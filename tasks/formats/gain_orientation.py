"""The gain reference and defects of a session turned onto its frames, and whether the counts agree with the turn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from kernels.movies.gain import Flip, agreements, orient
from kernels.movies.gain_evidence import binning, rebinned
from tasks.formats import FormatError
from tasks.formats.gain import GainMeaning, fit_gain_to_eer, is_divisor_for, read_defects, read_gain
from tasks.records.session import StageParams

_COMPARED_PX = 512
"""Side of the part of frames and gain that is compared."""
_CLEAR_AGREEMENT = 0.05
"""Correlation from which counts speak for a gain: 25 times the noise of the compared part."""
_CLEARLY_BETTER = 2.0
"""Times the agreement of the orientation given; columns of a detector agree with their mirror image in part."""
_FLIPS: tuple[Flip, ...] = ("none", "vertical")
"""With four rotations they make all eight orientations."""

Shape = tuple[int, int]


class GainParams(StageParams):
    """The parameters that the session's gain depends on."""

    meaning: GainMeaning
    rotation_deg: int
    flip: Flip
    upsampling: int
    is_for_eer: bool
    binning: float = Field(default=1.0, exclude_if=lambda binning: binning == 1)  # gains made before it are current
    frame_shape: tuple[int, int] | None
    """(y, x) of the frames of the first file, where gain or defects cannot do without."""


@dataclass(frozen=True)
class GivenGain:
    """The gain as the recipe gives it; what advice on it is about."""

    path: str | None
    meaning: GainMeaning
    rotation_deg: int
    flip: Flip
    binning: float = 1.0


def read_oriented_gain(
    params: GainParams, gain_path: str | None, defects_path: str | None
) -> tuple[NDArray | None, NDArray]:
    """(y, x) factors or None without a gain, (y, x) mask that is 1 where bad; in the orientation of the frames."""
    gain = None
    is_defect = np.zeros(params.frame_shape or (0, 0), np.uint8)
    if gain_path is not None:
        read = read_gain(Path(gain_path), params.meaning, params.is_for_eer)
        gain = orient(torch.from_numpy(read), params.rotation_deg, params.flip).contiguous().numpy()
        if params.binning != 1:
            gain = _rebinned(gain, params.binning, gain_path)
        if params.frame_shape is not None:
            gain = fit_gain_to_eer(gain, params.frame_shape, params.upsampling)
        is_defect = (gain <= 0).astype(np.uint8)
    if defects_path is not None:
        shape = (int(is_defect.shape[0]), int(is_defect.shape[1]))
        is_defect |= read_defects(Path(defects_path), shape, params.upsampling)
    return gain, is_defect


def _rebinned(gain: NDArray, factor: float, path: str) -> NDArray:
    if any(n % max(1, factor) for n in gain.shape):
        raise FormatError(
            f"{path}: the gain reference is {gain.shape}, which `gain_binning: {factor:g}` does not divide; set 1, or "
            "give the gain of this detector"
        )
    return rebinned(torch.from_numpy(gain), factor).numpy()


def check_gain_shape(exposure_id: str, shape: Shape, gain_shape: Shape, given: GivenGain) -> None:
    """Raise FormatError with advice where frames and the gain as given, (y, x) each, differ."""
    if shape == gain_shape:
        return
    message = f"exposure {exposure_id}: the gain reference is {gain_shape} but its frames are {shape}"
    if shape == gain_shape[::-1]:
        angle = (given.rotation_deg + 90) % 360
        raise FormatError(
            f"{message}; set `gain_rotation_deg: {angle}` (or {(angle + 180) % 360}, or a flip with it) in the recipe"
        )
    factor = binning(gain_shape, shape)
    if factor is not None:
        raise FormatError(f"{message}; set `gain_binning: {factor * given.binning:g}` in the recipe")
    raise FormatError(f"{message}, and no binning by 2 or 4 fits; give the gain reference of this detector and mode")


def compared_part(shape: Shape) -> tuple[slice, slice]:
    """The middle of the detector, which is what is compared."""
    n_y, n_x = (max(0, (n - _COMPARED_PX) // 2) for n in shape)
    return slice(n_y, shape[0] - n_y), slice(n_x, shape[1] - n_x)


def check_gain_agreement(
    exposure_id: str, frames: NDArray, factor: NDArray, shape: Shape, given: GivenGain, is_for_eer: bool
) -> float:
    """Agreement of the counts with the gain as given; FormatError where they speak for another orientation or meaning.

    Counts that were corrected before, or are too few, speak for none.

    Parameters
    ----------
    frames
        (frame, y, x) the `compared_part` of all frames.
    factor
        (y, x) the same part of the session's gain.
    shape
        (y, x) of whole frames.
    """
    mean = torch.from_numpy(frames.mean(axis=0, dtype=np.float32))
    found = agreements(mean, torch.from_numpy(factor))
    as_given = found[0, "none"]
    clear = max(_CLEAR_AGREEMENT, 8 / mean.numel() ** 0.5)
    if as_given < -clear:
        is_divisor = is_divisor_for(Path(given.path or ""), given.meaning, is_for_eer)
        other = "multiply" if is_divisor else "divide"
        raise FormatError(
            f"exposure {exposure_id}: its counts are high where the gain makes them higher (correlation "
            f"{-as_given:.2f}); set `gain_meaning: {other}` in the recipe"
        )
    is_square = shape[0] == shape[1]
    best, (rotation, flip) = max((value, other) for other, value in found.items() if is_square or other[0] % 180 == 0)
    if best > clear and best > _CLEARLY_BETTER * as_given:
        angle, mirror = _settings_for(given, rotation, flip)
        raise FormatError(
            f"exposure {exposure_id}: its counts agree with the gain in another orientation (correlation "
            f"{best:.2f}), not in the one given ({as_given:.2f}); set `gain_rotation_deg: {angle}` and "
            f"`gain_flip: {mirror}` in the recipe"
        )
    return as_given


def _settings_for(given: GivenGain, rotation_deg: int, flip: Flip) -> tuple[int, Flip]:
    """Rotation and flip of the file that equal those given followed by the ones found."""
    corners = torch.arange(4).reshape(2, 2)
    wanted = orient(orient(corners, given.rotation_deg, given.flip), rotation_deg, flip)
    return next(
        (angle, mirror)
        for mirror in _FLIPS
        for angle in (0, 90, 180, 270)
        if torch.equal(orient(corners, angle, mirror), wanted)
    )
