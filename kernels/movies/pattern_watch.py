"""Watches the fixed pattern of a detector over a session: what changed, and at which exposure.

Every exposure is compared with those before it. Nothing is believed that a single exposure shows: a hit by a cosmic
ray, or dirt, is gone in the next one. A change is reported once; from then on the new state is what later exposures
are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from kernels.movies.defects import clusters, odd_lines, odd_pixels
from kernels.movies.fixed_pattern import Detail

FindingKind = Literal["gain agreement", "pattern", "column", "row", "pixels"]

N_PATTERN = 4
"""Exposures in a row that are compared with all before them: their noise differs, a new pattern is in each."""
LEAST_AGREEMENT_CHANGE = 0.1
LEAST_CLUSTER_PX = 4
_SIGMA = 6.0
_CONFIRMING = 2
_MOST_EARLIER = 64
"""Exposures from which on the state before is left as it is, so that a slow change is a change in the end."""


@dataclass(frozen=True)
class ExposureSummary:
    """What is kept of the fixed pattern of one exposure."""

    window: Tensor
    """(y, x) excess over expected counts in the middle of the detector; 0 on bad, hot and dead pixels."""
    column_profile: Tensor
    """(x,) mean excess over mean expected counts of the good pixels of each column."""
    row_profile: Tensor
    """(y,)"""
    odd_pixel: Tensor
    """(n,) int64 indices of hot and dead pixels in the flattened frame."""
    mean_counts: float
    """Expected per pixel, in all frames together."""
    noise: float
    """See `kernels.movies.fixed_pattern.Detail`."""
    agreement: float | None = None
    """With the gain in use; None where there is none."""
    agreement_error: float = 0.0


def summarise(counts: Tensor, found: Detail, is_good: Tensor, window_px: int = 512) -> ExposureSummary:
    """Summary of summed counts (y, x) and their detail, without agreement."""
    odd = torch.cat(odd_pixels(counts, found.expected, is_good))
    share = torch.where(is_good, found.excess / found.expected.clamp(min=1e-6), 0.0)
    share.view(-1)[odd] = 0.0
    margins = [max(0, (n - window_px) // 2) for n in counts.shape]
    window = share[tuple(slice(margin, n - margin) for n, margin in zip(counts.shape, margins))]
    expected = torch.where(is_good, found.expected, 0.0)
    columns, rows = (found.excess.sum(axis) / expected.sum(axis).clamp(min=1e-6) for axis in (0, 1))
    mean = float(expected.sum() / is_good.sum().clamp(min=1))
    return ExposureSummary(window, columns, rows, odd, mean, found.noise)


@dataclass(frozen=True)
class Finding:
    """A change, and the number of the exposure that shows it first."""

    kind: FindingKind
    exposure: int
    size: float
    """New less old agreement; RMS of the change of the pattern; relative change of a line; pixels of a cluster."""
    region: tuple[int, int, int, int] | None = None
    """x, y, width, height in pixels of the frames."""


@dataclass(frozen=True)
class Watch:
    """What the exposures so far look like; `look` gives the next one."""

    n: int = 0
    """Exposures looked at."""
    column_sum: Tensor = field(default_factory=lambda: torch.zeros(0))
    row_sum: Tensor = field(default_factory=lambda: torch.zeros(0))
    n_profiles: int = 0
    window_sum: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    window_power: float = 0.0
    """Sum over exposures of the mean square of the window; with ``window_sum`` it gives the pattern's own power."""
    n_windows: int = 0
    agreement_sum: float = 0.0
    n_agreements: int = 0
    known_odd: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """(n,) flat indices of pixels that are no news."""
    recent: tuple[ExposureSummary, ...] = ()
    """The last ones, which wait to be confirmed or compared."""

    @property
    def pattern_power(self) -> tuple[float, float] | None:
        """Mean square of the pattern that all exposures share, and its standard error; None before there are two."""
        waiting = [one.window for one in self.recent[1 - N_PATTERN :]]
        n = self.n_windows + len(waiting)
        if n < 2:
            return None
        total = torch.stack([*([self.window_sum] if self.n_windows else []), *waiting]).sum(0)
        squares = self.window_power + sum(_mean_square(window) for window in waiting)
        return _shared_power(total, squares, n), 2**0.5 * squares / n**2 / max(1.0, total.numel() ** 0.5)

    @property
    def pattern_limit(self) -> float | None:
        """RMS of the smallest change of the pattern that would be reported; None before there is enough to compare."""
        if self.n_windows < 2:
            return None
        noise = self.window_power / self.n_windows
        n_pairs = N_PATTERN * (N_PATTERN - 1) / 2
        return float((_SIGMA * _error(noise, self.n_windows, self.window_sum.numel(), n_pairs)) ** 0.5)

    def look(self, summary: ExposureSummary, shape: tuple[int, int]) -> tuple[Watch, list[Finding]]:
        """The watch after one more exposure of frames of ``shape``, and what it found."""
        recent = (*self.recent, summary)[-N_PATTERN:]
        watch = replace(self, n=self.n + 1, recent=recent)
        findings: list[Finding] = []
        for step in (_look_at_agreement, _look_at_lines_and_pixels, _look_at_pattern):
            watch, found = step(watch, shape)
            findings += found
        return watch, findings


def _look_at_agreement(watch: Watch, _: tuple[int, int]) -> tuple[Watch, list[Finding]]:
    latest = watch.recent[-_CONFIRMING:]
    values = [one.agreement for one in latest if one.agreement is not None]
    if len(values) < len(latest) or not values:
        return watch, []
    before = watch.agreement_sum / max(1, watch.n_agreements)
    changes = [value - before for value in values]
    is_odd = [
        abs(change) > max(LEAST_AGREEMENT_CHANGE, _SIGMA * one.agreement_error) for change, one in zip(changes, latest)
    ]
    if watch.n_agreements and len(changes) == _CONFIRMING and all(is_odd) and changes[0] * changes[-1] > 0:
        finding = Finding("gain agreement", watch.n - _CONFIRMING, sum(changes) / len(changes))
        return replace(_with_a_new_pattern(watch), agreement_sum=sum(values), n_agreements=_CONFIRMING), [finding]
    if (watch.n_agreements and is_odd[-1]) or watch.n_agreements >= _MOST_EARLIER:
        return watch, []
    return replace(watch, agreement_sum=watch.agreement_sum + values[-1], n_agreements=watch.n_agreements + 1), []


def _with_a_new_pattern(watch: Watch) -> Watch:
    """The watch after a change that was reported: that the pattern changed with it is not to be said twice."""
    return replace(
        watch, window_sum=torch.zeros(0, 0), window_power=0.0, n_windows=0, recent=watch.recent[-_CONFIRMING:]
    )


def _mean_square(window: Tensor) -> float:
    return float(window.double().square().mean())


def _shared_power(total: Tensor, squares: float, n: int) -> float:
    """Mean square of what n windows of this sum, and with this sum of mean squares, have in common."""
    return (_mean_square(total) - squares) / (n * (n - 1))


def _error(noise: float, n_before: float, n_pixels: int, n_pairs: float) -> float:
    """Standard error of the mean square of a change of pattern, by products of exposures less the mean of earlier."""
    return noise / n_pixels**0.5 * (1 / n_pairs + 4 / (n_before * N_PATTERN) + 2 / n_before**2) ** 0.5


def _look_at_pattern(watch: Watch, _: tuple[int, int]) -> tuple[Watch, list[Finding]]:
    """Mean square of what the last exposures have in common and the ones before them do not."""
    if len(watch.recent) < N_PATTERN:
        return watch, []
    windows = [one.window for one in watch.recent]
    if watch.n_windows >= 2:
        n = watch.n_windows
        mean = watch.window_sum / n
        away = [window - mean for window in windows]
        total = torch.stack(away).sum(0)
        own = sum(_mean_square(one) for one in away)
        n_pairs = N_PATTERN * (N_PATTERN - 1) / 2
        noise = watch.window_power / n
        # the noise of the mean before is in each of them; what it has of pattern is not noise
        noise_of_mean = (noise - _shared_power(watch.window_sum, watch.window_power, n)) / n
        change = (_mean_square(total) - own) / (2 * n_pairs) - noise_of_mean
        loudest = max(noise, own / N_PATTERN)
        if change > _SIGMA * _error(loudest, n, mean.numel(), n_pairs):
            finding = Finding("pattern", watch.n - N_PATTERN, change**0.5)
            squares = sum(_mean_square(one) for one in windows)
            return replace(
                watch, window_sum=torch.stack(windows).sum(0), window_power=squares, n_windows=N_PATTERN, recent=()
            ), [finding]
    oldest = windows[0]
    if watch.n_windows >= _MOST_EARLIER:
        return watch, []
    return replace(
        watch,
        window_sum=watch.window_sum + oldest if watch.n_windows else oldest.clone(),
        window_power=watch.window_power + _mean_square(oldest),
        n_windows=watch.n_windows + 1,
    ), []


def _look_at_lines_and_pixels(watch: Watch, shape: tuple[int, int]) -> tuple[Watch, list[Finding]]:
    latest = watch.recent[-1]
    if watch.n_profiles < _CONFIRMING:  # the first exposures say what is no news
        known = torch.cat([watch.known_odd, latest.odd_pixel]).unique()
        return _with_profiles(replace(watch, known_odd=known), latest), []
    findings: list[Finding] = []
    n_y, n_x = shape
    odd: dict[str, list[Tensor]] = {}
    for kind in ("column", "row"):
        odd[kind] = [_odd_lines_of(watch, one, kind) for one in watch.recent[-_CONFIRMING:]]
    new_pixels = _in_all([one.odd_pixel for one in watch.recent[-_CONFIRMING:]])
    new_pixels = new_pixels[~torch.isin(new_pixels, watch.known_odd)]
    watch_now = replace(watch, known_odd=torch.cat([watch.known_odd, new_pixels]).unique())
    column, row = _in_all(odd["column"]), _in_all(odd["row"])
    start = watch.n - _CONFIRMING
    for first, count in _runs(column.tolist()):
        change = float(_changes(watch, latest, "column")[first : first + count].mean())
        findings.append(Finding("column", start, change, (first, 0, count, n_y)))
    for first, count in _runs(row.tolist()):
        change = float(_changes(watch, latest, "row")[first : first + count].mean())
        findings.append(Finding("row", start, change, (0, first, n_x, count)))
    if len(column) or len(row):
        watch_now = _with_a_new_pattern(watch_now)
    alone = new_pixels[~torch.isin(new_pixels % n_x, column) & ~torch.isin(new_pixels // n_x, row)]
    for region in clusters(alone, n_x, LEAST_CLUSTER_PX):
        findings.append(Finding("pixels", start, float(region[2] * region[3]), region))
    if len(column) or len(row):  # what is new now is what later exposures are compared with
        watch_now = replace(
            watch_now,
            column_sum=_moved(watch_now.column_sum, watch.n_profiles, column, latest.column_profile),
            row_sum=_moved(watch_now.row_sum, watch.n_profiles, row, latest.row_profile),
        )
    if len(odd["column"][-1]) > len(column) or len(odd["row"][-1]) > len(row):  # odd, and not confirmed yet
        return watch_now, findings
    return _with_profiles(watch_now, latest), findings


def _odd_lines_of(watch: Watch, one: ExposureSummary, kind: str) -> Tensor:
    n_across = len(one.row_profile) if kind == "column" else len(one.column_profile)
    error = one.noise / max(1e-6, one.mean_counts * n_across) ** 0.5 * (1 + 1 / watch.n_profiles) ** 0.5
    return odd_lines(_changes(watch, one, kind), error)


def _changes(watch: Watch, one: ExposureSummary, kind: str) -> Tensor:
    if kind == "column":
        return one.column_profile - watch.column_sum / watch.n_profiles
    return one.row_profile - watch.row_sum / watch.n_profiles


def _with_profiles(watch: Watch, one: ExposureSummary) -> Watch:
    if watch.n_profiles >= _MOST_EARLIER:
        return watch
    is_first = not watch.n_profiles
    return replace(
        watch,
        column_sum=one.column_profile.clone() if is_first else watch.column_sum + one.column_profile,
        row_sum=one.row_profile.clone() if is_first else watch.row_sum + one.row_profile,
        n_profiles=watch.n_profiles + 1,
    )


def _moved(sums: Tensor, n: int, index: Tensor, profile: Tensor) -> Tensor:
    moved = sums.clone()
    moved[index] = n * profile[index]
    return moved


def _in_all(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) < _CONFIRMING:
        return parts[0][:0]
    found = parts[0]
    for part in parts[1:]:
        found = found[torch.isin(found, part)]
    return found


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First number and length of every run of neighbours."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
