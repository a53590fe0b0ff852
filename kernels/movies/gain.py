"""Gain references and bad pixels of a detector: orientation, application, repair, agreement with counts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Flip = Literal["none", "vertical", "horizontal"]


def orient(image: Tensor, rotation_deg: int, flip: Flip = "none") -> Tensor:
    """Image (..., y, x) turned clockwise as seen with row 0 on top, by a multiple of 90°, and flipped after that.

    ``vertical`` turns it upside down, ``horizontal`` exchanges left and right.

    Source
    ------
    The conventions of RELION's --gain_rot and --gain_flip (1 and 2) and of MotionCor2's -RotGain and -FlipGain.
    """
    if rotation_deg % 90:
        raise ValueError(f"a gain reference was to be turned by {rotation_deg}°, expected 0, 90, 180 or 270")
    turned = torch.rot90(image, -(rotation_deg // 90), dims=(-2, -1))
    if flip == "none":
        return turned
    return turned.flip(-2 if flip == "vertical" else -1)


def combined(rotation_deg: int, flip: Flip, next_rotation_deg: int, next_flip: Flip) -> tuple[int, Flip]:
    """The one rotation and flip of `orient` that do what two after another do; the flip is none or vertical."""
    corners = torch.arange(4).reshape(2, 2)
    wanted = orient(orient(corners, rotation_deg, flip), next_rotation_deg, next_flip)
    flips: tuple[Flip, ...] = ("none", "vertical")  # with four rotations they make all eight orientations
    return next(
        (angle, mirror)
        for mirror in flips
        for angle in (0, 90, 180, 270)
        if torch.equal(orient(corners, angle, mirror), wanted)
    )


def replacements(is_defect: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """For every bad pixel, a good pixel near it whose counts stand in for its own.

    A neighbour's counts keep the noise as it is; a mean would leave smooth spots that alignment and CTF fit see.
    Which of the neighbours is drawn once, so that results can be repeated. A pixel takes from the closest ring of
    radius 1, 2, 4, … in which a draw meets a good pixel.

    Parameters
    ----------
    is_defect
        (y, x) not zero where bad.

    Returns
    -------
    (n,) indices of the bad pixels in the flattened image, (n,) indices of their replacements.
    """
    bad = is_defect != 0
    if bool(bad.all()):
        raise ValueError("all pixels are marked as bad; check the gain reference and the defect file")
    n_y, n_x = bad.shape
    target = bad.reshape(-1).nonzero()[:, 0]
    source = torch.full_like(target, -1)
    generator = torch.Generator().manual_seed(seed)
    radius, left = 1, torch.arange(len(target), device=target.device)
    while len(left):
        y, x = target[left] // n_x, target[left] % n_x
        for _ in range(8):
            step = torch.randint(-radius, radius + 1, (2, len(left)), generator=generator).to(target.device)
            near_y, near_x = y + step[0], x + step[1]
            is_inside = (near_y >= 0) & (near_y < n_y) & (near_x >= 0) & (near_x < n_x)
            index = torch.where(is_inside, near_y * n_x + near_x, target[left])
            is_found = ~bad.reshape(-1)[index] & (source[left] < 0)
            source[left[is_found]] = index[is_found]
        left = left[source[left] < 0]
        radius = min(2 * radius, max(n_y, n_x))
    return target, source


def apply_gain(frames: Tensor, gain: Tensor) -> Tensor:
    """Counts (..., y, x) times the gain (y, x), float32."""
    if gain.shape != frames.shape[-2:]:
        raise ValueError(f"the gain is {tuple(gain.shape)}, the frames are {tuple(frames.shape[-2:])}")
    return frames.to(torch.float32) * gain


def repair_defects(frames: Tensor, is_defect: Tensor, seed: int = 0) -> Tensor:
    """Frames (..., y, x) with the bad pixels of ``is_defect`` (y, x) filled from good ones nearby."""
    target, source = replacements(is_defect, seed)
    repaired = frames.flatten(-2).clone()
    repaired[..., target] = repaired[..., source]
    return repaired.reshape(frames.shape)


def agreements(mean_frame: Tensor, gain: Tensor, radius: int = 3) -> dict[tuple[int, Flip], float]:
    """Correlation of uncorrected counts with the inverse of a gain, as it is and in every orientation that fits.

    1 at best; around 0 where the gain belongs to another orientation or the counts were corrected before, negative
    where counts are to be divided by it. Each pixel is compared with its surroundings of ``radius`` pixels, so that
    specimen and beam play no part.

    Parameters
    ----------
    mean_frame
        (y, x) mean of the frames of a movie, or of many.
    gain
        (y, x) factor that multiplies counts; pixels where it is 0 are left out.

    Returns
    -------
    (rotation in degrees, flip) of `orient`, applied to ``gain`` -> correlation, 0 where one of the two is flat.
    """
    counts = _detail(mean_frame.to(torch.float32), mean_frame > 0, radius)
    response = _detail(torch.where(gain > 0, 1 / gain.clamp_min(1e-6), 0), gain > 0, radius)
    scale = float((counts.square().sum() * response.square().sum()).sqrt())
    rotations = (0, 90, 180, 270) if gain.shape[0] == gain.shape[1] else (0, 180)
    flips: tuple[Flip, ...] = ("none", "vertical")  # a horizontal flip is half a turn and a vertical one
    return {
        (angle, flip): float((counts * orient(response, angle, flip)).sum()) / scale if scale > 0 else 0.0
        for angle in rotations
        for flip in flips
    }


def _detail(image: Tensor, is_good: Tensor, radius: int) -> Tensor:
    """(y, x) good pixels less their surroundings, others 0; outliers pulled in to five robust standard deviations."""
    detail = image - _mean_around(image, is_good, radius)
    values = detail[is_good]
    if not values.numel():
        return torch.zeros_like(image)
    centre = values.median()
    limit = 5 * 1.4826 * (values - centre).abs().median()
    if limit > 0:
        detail = (detail - centre).clamp(-limit, limit)
    return torch.where(is_good, detail, 0)


def _mean_around(image: Tensor, is_good: Tensor, radius: int) -> Tensor:
    """(y, x) mean of the good pixels in the square around each pixel."""
    weight = is_good.to(image.dtype)
    size = 2 * radius + 1
    sums, weights = (
        torch.nn.functional.avg_pool2d(part[None, None], size, 1, radius)[0, 0] for part in (image * weight, weight)
    )
    return sums / weights.clamp_min(1e-6)
