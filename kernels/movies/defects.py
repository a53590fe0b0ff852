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


def odd_pixels(counts: Tensor, expected: Tensor, is_good: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) indices of hot and of dead pixels in flattened summed counts (y, x), next to the ``expected`` ones (y, x).

    Hot is above twice, dead below a fifth of the surroundings, and both so far off that counting noise makes no
    ten of them in an exposure of 16 million pixels: a dead pixel can be told from 14 expected counts on.
    """
    off = counts - expected
    chance = off.abs() > 5.5 * expected.clamp(min=1e-6).sqrt()
    is_hot = is_good & (counts > 2 * expected) & chance & (off > 8)
    is_dead = is_good & (counts < 0.2 * expected) & (expected > _DEAD_COUNTS)
    return is_hot.reshape(-1).nonzero()[:, 0], is_dead.reshape(-1).nonzero()[:, 0]


_DEAD_COUNTS = 14.0
"""exp(-14) is one in a million."""


def odd_lines(change: Tensor, error: float, least: float = 0.1) -> Tensor:
    """(n,) indices of rows, or columns, whose mean changed by itself.

    Parameters
    ----------
    change
        (line,) of the mean relative to the surroundings, since earlier exposures.
    error
        Standard error of one value by counting.
    least
        Smaller changes are left to the gain.
    """
    n, reach = len(change), min(8, (len(change) - 1) // 2)
    if n < 5:
        return change.new_zeros(0, dtype=torch.long)
    padded = torch.nn.functional.pad(change[None, None], (reach, reach), mode="reflect")[0, 0]
    alone = change - padded.unfold(0, 2 * reach + 1, 1).median(dim=1).values
    spread = 1.4826 * float(alone.abs().median())
    return (alone.abs() > max(least, 8 * error, 8 * spread)).nonzero()[:, 0]


def clusters(index: Tensor, width: int, least_px: int) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) around every group of at least ``least_px`` touching pixels; index is of a flat image."""
    left = {divmod(i, width) for i in index.tolist()}
    found = []
    while left:
        group, border = [], [left.pop()]
        while border:
            y, x = border.pop()
            group.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border += near
        if len(group) >= least_px:
            ys, xs = zip(*group)
            found.append((min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1))
    return sorted(found)
