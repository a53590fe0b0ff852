"""What counts say about a gain reference: its orientation, its binning, and whether they are multiplied by it.

Counts that were not corrected show the response of the detector. Its pattern by a gain in some orientation and with
some meaning is compared with theirs; the slope of counts on pattern is 1 where the gain is right, 0 where it has
nothing to do with them, about -1 where it is to be used the other way. All that is needed are three sums an exposure,
and they add up over exposures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from kernels.movies.fixed_pattern import Detail, pattern_of
from kernels.movies.gain import Flip, orient

Meaning = Literal["multiply", "divide"]
VerdictKind = Literal[
    "as given", "other way", "ambiguous", "already corrected", "another gain", "too few counts", "flat gain"
]

BINNINGS = (1.0, 2.0, 4.0, 0.5, 0.25)
"""Pixels of the gain along one pixel of the frames."""

CLEAR_SIGMA = 6.0
"""Standard errors from which a difference is taken for one; every comparison is made once a batch, for months."""
LEAST_AGREEMENT = 0.4
"""Slope from which a gain is taken to be that of the detector, if not the one of that day."""
_NO_AGREEMENT = 0.2
_OWN_PATTERN_SHARE = 0.5
_N_SHIFTS = 8
_COMPARED_PX = 2048


@dataclass(frozen=True)
class GainUse:
    """One way to put a gain reference to use."""

    rotation_deg: int
    flip: Flip
    meaning: Meaning


@dataclass(frozen=True)
class GainScore:
    """How one use fits the counts."""

    use: GainUse
    agreement: float
    """Slope of the counts' pattern on the gain's; 1 where it is right."""
    standard_error: float

    @property
    def sigma(self) -> float:
        """Agreement in standard errors."""
        return self.agreement / self.standard_error if self.standard_error > 0 else 0.0


@dataclass(frozen=True)
class GainVerdict:
    """What the scores say together."""

    kind: VerdictKind
    best: GainScore | None
    margin_sigma: float
    """How much better the best is than the next: the square root of twice the difference of log-likelihoods."""
    exposures_needed: float
    """Times as many exposures as there were would be enough; 1 or less where they are."""


def binning(gain_shape: Sequence[int], frame_shape: Sequence[int]) -> float | None:
    """Pixels of the gain along one pixel of the frames, in either orientation; None where none of `BINNINGS` fits."""
    for factor in BINNINGS:
        size = [n * factor for n in frame_shape]
        if list(gain_shape) in (size, size[::-1]):
            return factor
    return None


def resized(response: Tensor, factor: float) -> Tensor:
    """(y, x) response in pixels ``factor`` times as wide, of those it has; 0 where one of them is bad.

    Responses average and gains do not: a binned pixel counts what its parts count together.
    """
    if factor == 1:
        return response
    if factor < 1:
        n = round(1 / factor)
        return response.repeat_interleave(n, 0).repeat_interleave(n, 1)
    n = int(factor)
    means, good = (avg_pool2d(part[None, None], n)[0, 0] for part in (response, (response > 0).float()))
    return torch.where(good == 1, means, 0.0)


def rebinned(gain: Tensor, factor: float) -> Tensor:
    """(y, x) gain that multiplies counts of pixels ``factor`` times as wide; 0 where a part of one is bad."""
    response = resized(_inverse(gain), factor)
    return _inverse(response)


def _inverse(values: Tensor) -> Tensor:
    return torch.where(values > 0, 1 / values.clamp(min=1e-6), 0.0)


def uses(gain_shape: Sequence[int], frame_shape: Sequence[int]) -> list[GainUse]:
    """Every orientation in which the gain covers the frames, with both meanings; the one as given comes first."""
    ratio = [gain_shape[0] / frame_shape[0], gain_shape[1] / frame_shape[1]]
    turned = [gain_shape[0] / frame_shape[1], gain_shape[1] / frame_shape[0]]
    angles = ([0, 180] if ratio[0] == ratio[1] else []) + ([90, 270] if turned[0] == turned[1] else [])
    flips: tuple[Flip, ...] = ("none", "vertical")  # a horizontal flip is half a turn and a vertical one
    meanings: tuple[Meaning, ...] = ("multiply", "divide")
    return [GainUse(angle, flip, meaning) for meaning in meanings for angle in sorted(angles) for flip in flips]


def patterns(gain: Tensor, factor: float) -> dict[Meaning, Tensor]:
    """(y, x) patterns that the detector would show, in the gain's orientation and the frames' pixels."""
    return {
        "multiply": pattern_of(resized(_inverse(gain), factor)),
        "divide": pattern_of(resized(gain.clamp(min=0), factor)),
    }


def evidence(counts: Detail, pattern: dict[Meaning, Tensor], of: Sequence[GainUse], seed: int = 0) -> Tensor:
    """(use, 3) float64 sums of one exposure that add up: excess × pattern, expected × pattern², variance of the first.

    Looks at the middle 2048 × 2048 pixels, which are plenty: there, 40 electrons on a pixel show a pattern of 3 % with
    380 standard errors. The variance is measured by shifting the pattern over the counts, so that it holds for counts
    that are not Poisson, and for a specimen whose neighbouring pixels are alike.
    """
    excess, expected = _middle(counts.excess), _middle(counts.expected)
    middles = {meaning: _middle(image) for meaning, image in pattern.items()}
    shape = excess.shape
    found = torch.zeros(len(of), 3, dtype=torch.float64)
    for row, use in enumerate(of):
        oriented = orient(middles[use.meaning], use.rotation_deg, use.flip)
        if oriented.shape != shape:
            raise ValueError(f"the gain's pattern is {tuple(oriented.shape)}, the counts are {tuple(shape)}")
        found[row, 0] = _product(excess, oriented)
        found[row, 1] = _product(expected * oriented, oriented)
        if row == 0:
            generator = torch.Generator().manual_seed(seed)
            squares = 0.0
            for _ in range(_N_SHIFTS):
                step = [int(torch.randint(n // 8, n - n // 8, (), generator=generator)) for n in shape]
                squares += _product(excess, oriented.roll(step, (0, 1))) ** 2
            variance_per_power = squares / _N_SHIFTS / max(float(found[0, 1]), 1e-30)
    # chance may make the shifted ones small, but never smaller than counting does
    found[:, 2] = max(variance_per_power, counts.noise**2) * found[:, 1]
    return found


def compared_pixels(shape: Sequence[int]) -> int:
    """How many pixels of frames of this shape `evidence` looks at."""
    return math.prod(n - 2 * margin for n, margin in zip(shape, _margins(shape)))


def _margins(shape: Sequence[int]) -> list[int]:
    return [max(0, (n - _COMPARED_PX) // 2) for n in shape]


def _middle(image: Tensor) -> Tensor:
    """The same middle of an image in whatever orientation it is."""
    return image[tuple(slice(margin, n - margin) for n, margin in zip(image.shape, _margins(image.shape)))]


def _product(first: Tensor, second: Tensor) -> float:
    """Sum of products of two images: by rows in their own precision, over rows in double."""
    return float(torch.linalg.vecdot(first, second).double().sum())


def scores(sums: Tensor, of: Sequence[GainUse]) -> list[GainScore]:
    """Agreement by the summed evidence (use, 3) of all exposures, one for each use."""
    result = []
    for use, (cross, power, variance) in zip(of, sums.tolist()):
        slope, error = (cross / power, math.sqrt(variance) / power) if power > 0 else (0.0, 0.0)
        result.append(GainScore(use, slope, error))
    return result


def judge(found: Sequence[GainScore], own_pattern_rms: float | None, gain_pattern_rms: float) -> GainVerdict:
    """What to make of the scores.

    Parameters
    ----------
    own_pattern_rms
        Of the fixed pattern in the counts, measured without the gain (see `PatternWatch`); None where it is not known
        yet, and then counts that no gain fits are not said to be corrected.
    gain_pattern_rms
        Of the gain's.
    """
    if gain_pattern_rms <= 0 or not any(score.standard_error > 0 for score in found):
        return GainVerdict("flat gain", None, 0.0, 0.0)
    ranked = sorted(found, key=lambda score: score.sigma, reverse=True)
    best, rest = ranked[0], ranked[1:]
    margin = math.sqrt(max(0.0, best.sigma**2 - max(0.0, rest[0].sigma) ** 2)) if best.sigma > 0 else 0.0
    enough = CLEAR_SIGMA * best.standard_error / LEAST_AGREEMENT
    if best.sigma >= CLEAR_SIGMA and best.agreement >= LEAST_AGREEMENT:
        if margin < CLEAR_SIGMA:
            return GainVerdict("ambiguous", best, margin, (CLEAR_SIGMA / max(margin, 0.1)) ** 2)
        return GainVerdict("as given" if best.use == found[0].use else "other way", best, margin, enough**2)
    if enough > 1 or own_pattern_rms is None:
        return GainVerdict("too few counts", best, margin, max(enough**2, 2.0 if own_pattern_rms is None else 0.0))
    is_unrelated = best.agreement < _NO_AGREEMENT
    is_flat = own_pattern_rms < _OWN_PATTERN_SHARE * gain_pattern_rms
    return GainVerdict("already corrected" if is_unrelated and is_flat else "another gain", best, margin, enough**2)
