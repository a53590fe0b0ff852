"""The fixed pattern in counts: what single pixels count more or less than their surroundings.

Only detail is looked at. What varies over tens of pixels is beam, ice and the hole in the foil as well as the
detector, in every exposure at nearly the same place, so no number of movies tells them apart; it neither misleads the
alignment of frames nor the fit of a CTF.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

BIN = 8
"""Pixels to a side of the bins that the surroundings are averaged in; three by three of them, and interpolated."""

_CLIP_SIGMA = 5.0
_CLIP_SHARE = 0.5
"""Pixels farther off than both are no pattern but hits, dirt or defects; they count as if they were just so far off."""


@dataclass(frozen=True)
class Detail:
    """Counts next to what the surroundings lead one to expect."""

    excess: Tensor
    """(y, x) counts less the expected ones, outliers pulled in, 0 on bad pixels."""
    expected: Tensor
    """(y, x) mean of the surroundings."""
    is_hot: Tensor
    """(y, x) bool, so many counts that they were pulled in."""
    noise: float
    """Standard deviation of the excess over the square root of the expected counts; 1 for Poisson counts."""


def detail(counts: Tensor, is_good: Tensor | None = None) -> Detail:
    """Detail of summed counts (y, x), good pixels only; all are good when ``is_good`` (y, x) is None.

    Memory: about ten times the counts as float32.
    """
    image = counts.to(torch.float32)
    good = torch.ones_like(image, dtype=torch.bool) if is_good is None else is_good
    kept = good
    for _ in range(2):
        expected = local_mean(image, kept)
        root = expected.clamp(min=1e-6).sqrt()
        excess = image - expected
        noise = _spread((excess / root)[:: max(1, image.shape[0] // 512)][kept[:: max(1, image.shape[0] // 512)]])
        limit = torch.maximum(_CLIP_SIGMA * noise * root, _CLIP_SHARE * expected.abs())
        kept = good & (excess.abs() <= limit)
    is_hot = good & (excess > limit)
    pulled_in = torch.where(good, torch.minimum(excess, limit).maximum(-limit), 0.0)
    return Detail(pulled_in, expected, is_hot, noise)


def pattern_of(response: Tensor) -> Tensor:
    """(y, x) share by which a detector's response exceeds that of its surroundings; 0 on pixels of response 0."""
    found = detail(response, response > 0)
    return torch.where(found.expected > 0, found.excess / found.expected.clamp(min=1e-6), 0.0)


def local_mean(image: Tensor, is_good: Tensor) -> Tensor:
    """(y, x) mean of the good pixels in the three by three bins around, interpolated between the bins' centres."""
    n_y, n_x = image.shape
    weight = is_good.to(image.dtype)
    margin = (0, -n_x % BIN, 0, -n_y % BIN)
    sums, weights = (
        avg_pool2d(avg_pool2d(pad(part, margin)[None, None], BIN), 3, 1, 1) for part in (image * weight, weight)
    )
    overall = float((image * weight).sum() / weight.sum().clamp(min=1))
    means = torch.where(weights > 0, sums / weights.clamp(min=1e-9), overall)
    return interpolate(means, scale_factor=BIN, mode="bilinear", align_corners=False)[0, 0, :n_y, :n_x]


def _spread(values: Tensor) -> float:
    """Standard deviation without outliers; unlike a median's it holds for counts of 0 and 1 as well."""
    if values.numel() < 2:
        return 0.0
    limit = math.inf
    for _ in range(3):
        kept = values[values.abs() <= limit]
        deviation = float(kept.square().mean().sqrt()) if kept.numel() else 0.0
        limit = 6 * deviation
    return deviation
