"""A gain reference from the movies themselves: the specimen differs from movie to movie, the fixed pattern stays.

Few electrons fall on a pixel, so a plain mean of the counts is mostly noise. The pattern is taken apart into what
whole columns and rows share, what stretches of them share, what blocks of two by two pixels share, and what each pixel
has for itself. Every part is measured twice, from two halves of the movies: what both agree on is the size of that
part of the pattern, and with it and the counts each value is shrunk by the factor that makes the expected error least
(an empirical Bayes estimate; Efron & Morris, J. Am. Stat. Assoc. 1973, 68:117). With many counts this becomes the
plain mean; with few, whole columns are corrected and single pixels left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from kernels.movies.fixed_pattern import BIN, Detail

SEGMENT = 256
"""Pixels of a row or a column that are read out alike, where not all of it is."""
_LEAST_SIGMA = 2.5
"""A part of the pattern that both halves do not agree on by so many standard errors is left out."""
_DEAD_RESPONSE = 0.55
_HOT_SHARE = 0.5
_DEFECT_SIGMA = 6.0


@dataclass(frozen=True)
class PatternSums:
    """What many exposures say about the fixed pattern; sums that add up. 10 bytes a pixel of the detector."""

    excess: Tensor
    """(half, y, x) float32 counts less those of the surroundings."""
    expected: Tensor
    """(half, bin y, bin x) float32 counts of the surroundings, averaged over bins of 8 pixels: they are smooth."""
    n_hot: Tensor
    """(y, x) int16 exposures in which the pixel counted far more than its surroundings."""
    n_exposures: Tensor
    """(half,) int64"""

    @classmethod
    def zeros(cls, shape: tuple[int, int], device: torch.device | str = "cpu") -> PatternSums:
        bins = (-(-shape[0] // BIN), -(-shape[1] // BIN))
        return cls(
            torch.zeros(2, *shape, device=device),
            torch.zeros(2, *bins, device=device),
            torch.zeros(shape, dtype=torch.int16, device=device),
            torch.zeros(2, dtype=torch.int64),
        )

    def add(self, counts: Detail, half: int) -> None:
        """Add one exposure to a half, in place."""
        n_y, n_x = counts.expected.shape
        margin = (0, -n_x % BIN, 0, -n_y % BIN)
        padded = pad(counts.expected[None, None], margin, mode="replicate")
        self.excess[half] += counts.excess
        self.expected[half] += avg_pool2d(padded, BIN)[0, 0]
        self.n_hot.add_(counts.is_hot.to(torch.int16))
        self.n_exposures[half] += 1

    def __add__(self, other: PatternSums) -> PatternSums:
        return PatternSums(
            self.excess + other.excess,
            self.expected + other.expected,
            self.n_hot + other.n_hot,
            self.n_exposures + other.n_exposures,
        )


@dataclass(frozen=True)
class PatternPart:
    """One part of the pattern, and how well it is known."""

    name: str
    rms: float
    """Of the true pattern, by the two halves; 0 where they do not agree on any."""
    rms_error: float
    """Expected of the estimate; it is at most ``rms``, where the part is left out."""


@dataclass(frozen=True)
class EstimatedGain:
    """A gain made from movies."""

    gain: Tensor
    """(y, x) factor that multiplies counts, about 1; 0 where the detector is bad."""
    is_defect: Tensor
    """(y, x) bool"""
    parts: tuple[PatternPart, ...]

    @property
    def pattern_rms(self) -> float:
        """Of the fixed pattern relative to the counts: what is wrong without a gain."""
        return float(sum(part.rms**2 for part in self.parts) ** 0.5)

    @property
    def rms_error(self) -> float:
        """What is expected to be wrong with it."""
        return float(sum(part.rms_error**2 for part in self.parts) ** 0.5)

    @property
    def explained(self) -> float:
        """Share of the pattern's variance that the gain takes away, 0 to 1."""
        return max(0.0, 1 - (self.rms_error / self.pattern_rms) ** 2) if self.pattern_rms > 0 else 0.0


def estimate_gain(sums: PatternSums) -> EstimatedGain:
    """The gain of least expected error, and the pixels that count nothing or far too much.

    Fine detail only, see `kernels.movies.fixed_pattern`. Needs an exposure in each half.
    Memory: 70 bytes a pixel beside the sums.
    """
    if int(sums.n_exposures.min()) < 1:
        raise ValueError(
            f"found {sums.n_exposures.tolist()} exposures in the two halves, expected one in each at least"
        )
    n_y, n_x = sums.excess.shape[-2:]
    weight = sums.expected.repeat_interleave(BIN, -2).repeat_interleave(BIN, -1)[:, :n_y, :n_x].clamp(min=1e-6)
    is_defect = _defects(sums, weight)
    weight = torch.where(is_defect, 1e-6, weight)
    left = torch.where(is_defect, 0.0, sums.excess)
    response = torch.zeros(n_y, n_x, device=left.device)
    parts = []
    for name, group, spread in _levels(n_y, n_x):
        excess, counts = group(left), group(weight)
        effect, part = _shrunk(name, excess, counts)
        parts.append(part)
        response += spread(effect)
        del effect
        if excess is not left:
            # of each half its own, whole values, so that the parts that follow have no noise in common
            left -= spread(excess / counts).mul_(weight)
    del left, weight
    return EstimatedGain(torch.where(is_defect, 0.0, 1 / (1 + response).clamp(min=0.1)), is_defect, tuple(parts))


def mean_gain(sums: PatternSums) -> Tensor:
    """(y, x) the plain mean of all counts made into a gain, for comparison: what each pixel says, unshrunk."""
    n_y, n_x = sums.excess.shape[-2:]
    weight = sums.expected.sum(0).repeat_interleave(BIN, 0).repeat_interleave(BIN, 1)[:n_y, :n_x]
    return 1 / (1 + sums.excess.sum(0) / weight.clamp(min=1e-6)).clamp(min=0.1)


def _defects(sums: PatternSums, weight: Tensor) -> Tensor:
    """(y, x) bool: hot in half of the exposures, or a response below about a half, told from chance."""
    total = weight.sum(0)
    relative = sums.excess.sum(0) / total
    sample = relative.flatten()[:: max(1, relative.numel() // 200_000)]
    noise = 1.4826 * (sample - sample.median()).abs().median()
    n_exposures = int(sums.n_exposures.sum())
    is_hot = sums.n_hot >= max(2.0, _HOT_SHARE * n_exposures)
    return is_hot | ((relative < _DEAD_RESPONSE - 1) & (relative < -_DEFECT_SIGMA * noise))


Group = Callable[[Tensor], Tensor]


def _levels(n_y: int, n_x: int) -> list[tuple[str, Group, Group]]:
    """Name, sums over the groups of a part of the pattern, and its values spread over the pixels again."""

    def grouped(height: int, width: int) -> tuple[Group, Group]:
        def group(image: Tensor) -> Tensor:
            if height == width == 1:
                return image
            padded = pad(image, (0, -n_x % width, 0, -n_y % height))
            return padded.unflatten(-1, (-1, width)).sum(-1).unflatten(-2, (-1, height)).sum(-2)

        def spread(values: Tensor) -> Tensor:
            if height == width == 1:
                return values
            return values.repeat_interleave(height, -2).repeat_interleave(width, -1)[..., :n_y, :n_x]

        return group, spread

    sizes = {
        "columns": (n_y, 1),
        "rows": (1, n_x),
        "stretches of columns": (min(SEGMENT, n_y), 1),
        "stretches of rows": (1, min(SEGMENT, n_x)),
        "blocks of 2 × 2": (2, 2),
        "pixels": (1, 1),
    }
    return [(name, *grouped(*size)) for name, size in sizes.items()]


def _shrunk(name: str, excess: Tensor, weight: Tensor) -> tuple[Tensor, PatternPart]:
    """Values of the groups (half, y, x) -> (y, x), pulled towards 0 as far as they are likely to be noise.

    The variance of the pattern is the covariance of the halves, that of the noise follows from their difference and
    falls with the expected counts of a group.
    """
    total = weight.sum(0)
    is_known = weight.amin(0) > 1e-3 * float(total.mean())
    n = int(is_known.sum())
    if n < 2:
        return torch.zeros_like(total), PatternPart(name, 0.0, 0.0)
    first, second = ((excess[half] / weight[half]).masked_fill_(~is_known, 0.0) for half in (0, 1))
    covariance = _mean(first * second, n)
    error = (_mean(first.square(), n) * _mean(second.square(), n) / n) ** 0.5
    per_count = _mean((first - second).square_() * (weight[0] * weight[1] / total), n)
    del first, second
    if covariance < _LEAST_SIGMA * error:  # it may be there, but not so that it could be taken away
        hidden = (max(0.0, covariance) + error) ** 0.5
        return torch.zeros_like(total), PatternPart(name, hidden, hidden)
    kept = covariance / (covariance + per_count / total)
    left = covariance * (1 - _mean(kept.masked_fill(~is_known, 0.0), n))
    effect = (excess.sum(0) / total).mul_(kept).masked_fill_(~is_known, 0.0)
    return effect, PatternPart(name, covariance**0.5, left**0.5)


def _mean(values: Tensor, n: int) -> float:
    return float(values.sum(dtype=torch.float64)) / n
