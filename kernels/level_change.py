"""Whether the level of a sequence has changed: the last values against those before, by medians.

In numpy: on a few hundred numbers the threads of torch cost more than the arithmetic, a hundredfold on busy cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAD_TO_SIGMA = 1.4826
"""Median absolute deviation of a normal distribution -> its standard deviation."""
_LEAST_BLOCKS = 5
"""Fewer medians of blocks say little of how much they scatter."""


@dataclass(frozen=True)
class LevelChange:
    """The level before, the level now, and how sure it is that they differ."""

    before: float
    recent: float
    sigma: float
    """Standard deviation that a median of so many values has while nothing changes."""

    @property
    def n_sigma(self) -> float:
        """Size of the change in standard deviations; infinite where the values before were all the same."""
        change = abs(self.recent - self.before)
        if self.sigma > 0:
            return change / self.sigma
        return math.inf if change > 0 else 0.0


def level_change(values: NDArray, n_recent: int, n_before: int) -> LevelChange | None:
    """Compare the median of the last values with that of those before them.

    The error of a median is taken from two sides, and the larger counts: from the scatter of single values, as if they
    were independent, and from the scatter between the medians of earlier blocks of the same length, which holds what
    neighbours have in common (a grid square, a hole, a run of autofocus).

    Parameters
    ----------
    values
        (n,) in order of time; those that are not finite are left out.
    n_recent
        Length of the last block.
    n_before
        At most this many values before it are compared with it.

    Returns
    -------
    None where fewer than five blocks lie before the last one.

    Source
    ------
    Standard error of the median of normal values, sqrt(π / 2n) sigma; for the MAD Rousseeuw & Croux, JASA 1993,
    88:1273.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    recent = finite[-n_recent:]
    earlier = finite[:-n_recent][-n_before:]
    n_blocks = len(earlier) // n_recent
    if n_blocks < _LEAST_BLOCKS:
        return None
    before, now = float(np.median(earlier)), float(np.median(recent))
    single = _MAD_TO_SIGMA * float(np.median(abs(earlier - before)))
    of_values = single * math.sqrt(math.pi / 2 * (1 / len(recent) + 1 / len(earlier)))
    blocks = np.median(earlier[len(earlier) - n_blocks * n_recent :].reshape(n_blocks, n_recent), axis=1)
    between = _MAD_TO_SIGMA * float(np.median(abs(blocks - np.median(blocks)))) * math.sqrt(1 + 1 / n_blocks)
    return LevelChange(before, now, max(of_values, between))
