"""Pixels whose counts do not come from the specimen: hot, dead, or hit by something else than the beam."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

_SPIKE_SIGMA = 12.0
"""Counts of a movie frame go no farther from their mean, even where only a tenth of the pixels count anything."""


def outlying_pixels(mean_frame: Tensor, n_sigma: float = 7.0) -> Tensor:
    """(y, x) bool, true where the gain-corrected mean of all frames lies far off its surroundings.

    Compared with the 24 pixels around, so that an uneven beam or a dark contamination marks nothing but what stands
    alone. A second look, in which the pixels of the first count no more, spares the neighbours of hot ones.
    """
    image = mean_frame[None, None]
    is_good = torch.ones_like(image)
    excess = image
    for _ in range(2):
        weight = _box_sum(is_good)
        around = (_box_sum(image * is_good) - image * is_good) / (weight - is_good).clamp(min=1)
        excess = image - around
        sample = excess.flatten()[:: max(1, excess.numel() // 200_000)]
        spread = 1.4826 * (sample - sample.median()).abs().median()
        is_good = (excess.abs() <= n_sigma * spread).to(image.dtype)
    return is_good[0, 0] == 0


def _box_sum(image: Tensor) -> Tensor:
    return 25 * avg_pool2d(pad(image, (2, 2, 2, 2)), 5, 1)


def spikes(frame: Tensor) -> Tensor:
    """(n,) indices, in the flattened frame, of pixels hit by an x-ray or a cosmic ray."""
    flat = frame.reshape(-1)
    spread, mean = torch.std_mean(flat[:: max(1, len(flat) // 100_000)])
    return (flat > mean + _SPIKE_SIGMA * spread).nonzero()[:, 0]
