"""How resolution grows with the number of particles, and what that says of particles that are not there yet.

N particles reach the frequency k = 1/d at which N exp(-B k² / 2) / k falls to a constant: the signal falls with the
B-factor, and a shell's coefficients are shared by fewer particles the further out it lies. So ln N - ln k is a line in
k² of slope B / 2.

Source: Rosenthal & Henderson 2003, J. Mol. Biol. 333:721, eq. 8 and figure 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.maps.fsc import crossing_shell

_SMALLEST_B, _LARGEST_B = 15.0, 2000.0
_N_DRAWS = 2000
_FEWEST_POINTS = 3
_SMALLEST_SPAN = 3.5
"""Of the numbers of particles: less than two doublings say nothing of a third."""
_LARGEST_B_RATIO = 10.0
"""Of the ends of the B-factor's interval: a wider one is no evidence."""
_LIMITED = 1.06
"""Resolutions within this factor of the limit are held up by it and say nothing of the particles."""


@dataclass(frozen=True)
class ResolutionPoint:
    """What some particles reached."""

    n_particles: int
    resolution_angstrom: float
    frequency_error_per_angstrom: float
    """Standard deviation of 1 / resolution."""


@dataclass(frozen=True)
class Interval:
    """A figure, and the ends between which it lies with a probability of 90 %."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class ResolutionForecast:
    """The curve of resolution against particles, as far as the points tell it."""

    offset: Tensor
    """(draw,) ln N - ln k at k = 0."""
    b_factor: Tensor
    """(draw,) Å²"""
    scatter: Tensor
    """(draw,) of 1/d about the curve, 1/Å."""
    limit_angstrom: float
    """The finest detail that the images can hold."""
    reason: str | None
    """Why there is not enough evidence for a forecast; None where there is."""

    @property
    def is_supported(self) -> bool:
        return self.reason is None

    @property
    def b_factor_angstrom2(self) -> Interval:
        return _interval(self.b_factor)

    def resolution_angstrom(self, n_particles: float) -> Interval:
        """What a number of particles will reach; no end of it is finer than the limit."""
        self._require()
        level = math.log(n_particles) - self.offset
        frequency = _frequency(level, self.b_factor) + self.scatter
        resolution = 1 / frequency.clamp(min=1e-4)
        return _interval(resolution.clamp(min=self.limit_angstrom))

    def n_particles(self, resolution_angstrom: float) -> Interval | None:
        """How many particles a resolution needs; None beyond the limit, where no number of them reaches it."""
        self._require()
        if resolution_angstrom < self.limit_angstrom:
            return None
        k = 1 / resolution_angstrom
        return _interval((self.offset + self.b_factor * k**2 / 2 + math.log(k)).exp())

    def _require(self) -> None:
        if self.reason is not None:
            raise ValueError(f"resolution forecast: {self.reason}; ask `is_supported` first")


def forecast(
    points: Sequence[ResolutionPoint], limit_angstrom: float, coarsest_angstrom: float = 15.0, seed: int = 0
) -> ResolutionForecast:
    """The curve through points, with what is left open by their number, their errors and their scatter.

    The B-factor may be anything between 15 and 2000 Å², each factor of two as likely as another, before the points are
    seen. Scatter beyond the points' own errors is found from them. Points coarser than ``coarsest_angstrom`` follow the
    shape of the particle, and those at the limit that of the detector: neither is used.

    Parameters
    ----------
    limit_angstrom
        Finest detail in the images: two pixels, or what they were cropped to.
    """
    used = [p for p in points if _LIMITED * limit_angstrom < p.resolution_angstrom <= coarsest_angstrom]
    reason = _reason_against(points, used, limit_angstrom, coarsest_angstrom)
    if len(used) < 2:
        nothing = torch.zeros(0, dtype=torch.float64)
        return ResolutionForecast(nothing, nothing, nothing, limit_angstrom, reason)
    k = torch.tensor([1 / p.resolution_angstrom for p in used], dtype=torch.float64)
    n = torch.tensor([float(p.n_particles) for p in used], dtype=torch.float64)
    error = torch.tensor([p.frequency_error_per_angstrom for p in used], dtype=torch.float64).clamp(min=1e-6)
    b, scatter, offset, offset_error, weight = _posterior(k, n, error)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(weight, _N_DRAWS, replacement=True, generator=generator)
    # within a cell of the grid any B-factor is as likely
    step = math.log(_LARGEST_B / _SMALLEST_B) / (len(b.unique()) - 1)
    b_drawn = b[drawn] * (step * (torch.rand(_N_DRAWS, generator=generator) - 0.5)).double().exp()
    # a line that is turned keeps its place at the middle of the points
    middle = (1 / error**2 * k**2).sum() / (1 / error**2).sum()
    turned = offset[drawn] - (b_drawn - b[drawn]) * middle / 2
    noise = torch.randn(2, _N_DRAWS, generator=generator).double()
    draws = (turned + offset_error[drawn] * noise[0], b_drawn, scatter[drawn] * noise[1])
    found = ResolutionForecast(draws[0], draws[1], draws[2], limit_angstrom, reason)
    if reason is None:
        width = found.b_factor_angstrom2
        if width.high > _LARGEST_B_RATIO * width.low:
            reason = f"the B-factor may be anything between {width.low:.0f} and {width.high:.0f} Å²"
            found = replace(found, reason=reason)
    return found


def point_of(
    curve: Tensor, n_particles: int, field_angstrom: float, n_operations: int, mask_fraction: float
) -> ResolutionPoint | None:
    """The point of an FSC curve (shell,) of particles; None where it never reaches 0.143.

    Around the crossing, from where the curve leaves 0.9, the logarithm of the signal-to-noise ratio is taken as a line
    in the squared frequency: the crossing of a single noisy curve would be where noise leads it. Its error is that of
    the fit, with the correlation of as many independent coefficients as symmetry and mask leave in each shell.

    Parameters
    ----------
    mask_fraction
        Share of the box that the mask fills.
    """
    curve = curve.double()
    padded = torch.cat([curve[:1], curve, curve[-1:]])
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    first_guess, last = crossing_shell(smooth, 0.143), len(curve) - 1
    if first_guess <= 1:
        return None
    if first_guess >= last - 1:
        return ResolutionPoint(n_particles, field_angstrom / first_guess, 0.5 / field_angstrom)
    high = (smooth[1 : math.ceil(first_guess)] >= 0.9).nonzero()
    start = int(high[-1]) + 1 if len(high) else 1
    end = min(last, math.ceil(first_guess) + max(3, round(0.25 * first_guess)))
    shells = torch.arange(start, end + 1, dtype=torch.float64)
    n_independent = (2 * math.pi * shells**2 * mask_fraction / n_operations).clamp(min=1)
    fitted = _fitted_crossing(curve[start : end + 1], shells, n_independent, first_guess)
    shell, error = fitted if fitted is not None else (first_guess, 2.0)
    return ResolutionPoint(n_particles, field_angstrom / shell, max(error, 0.2) / field_angstrom)


def _fitted_crossing(
    curve: Tensor, shells: Tensor, n_independent: Tensor, first_guess: float
) -> tuple[float, float] | None:
    """Shell where 1 / (1 + exp(b s² - a)) fitted to a curve is 0.143, and its error; None where nothing fits."""
    at_crossing = math.log(0.143 / 0.857)
    x = (shells / first_guess) ** 2
    # half of the crossing's frequency has a signal-to-noise ratio of ten
    parameters = torch.tensor([at_crossing + 5.0, 5.0], dtype=torch.float64)
    columns = torch.stack([torch.ones_like(x), -x], dim=1)
    normal = torch.eye(2, dtype=torch.float64)
    for _ in range(25):
        model = torch.sigmoid(columns @ parameters).clamp(1e-4, 1 - 1e-4)
        weight = n_independent / (1 - model**2).clamp(min=0.05) ** 2
        jacobian = columns * (model * (1 - model))[:, None]
        normal = jacobian.T @ (weight[:, None] * jacobian)
        normal = normal + 1e-9 * normal.trace() * torch.eye(2, dtype=torch.float64)
        step = torch.linalg.solve(normal, jacobian.T @ (weight * (curve - model)))
        parameters = parameters + step * min(1.0, 2.0 / float(step.abs().max().clamp(min=1e-9)))
    a, b = parameters.tolist()
    if not (b > 0 and 0.25 < (a - at_crossing) / b < 4):
        return None
    ratio = math.sqrt((a - at_crossing) / b)
    # ratio² = (a - at_crossing) / b
    slope = torch.tensor([1 / b, -(ratio**2) / b], dtype=torch.float64) / (2 * ratio)
    return first_guess * ratio, first_guess * math.sqrt(float(slope @ torch.linalg.inv(normal) @ slope))


def _reason_against(
    points: Sequence[ResolutionPoint], used: list[ResolutionPoint], limit_angstrom: float, coarsest_angstrom: float
) -> str | None:
    n_limited = sum(p.resolution_angstrom <= _LIMITED * limit_angstrom for p in points)
    n_coarse = sum(p.resolution_angstrom > coarsest_angstrom for p in points)
    if len(used) < _FEWEST_POINTS and n_limited:
        return f"the box's pixel size limits at {limit_angstrom:.1f} Å, which is reached"
    if len(used) < _FEWEST_POINTS:
        coarse = f", {n_coarse} more are coarser than {coarsest_angstrom:g} Å" if n_coarse else ""
        return f"{len(used)} numbers of particles with a resolution, expected at least {_FEWEST_POINTS}{coarse}"
    numbers = [p.n_particles for p in used]
    if max(numbers) < _SMALLEST_SPAN * min(numbers):
        return f"resolutions are known from {min(numbers)} to {max(numbers)} particles only"
    finest = min(p.resolution_angstrom for p in used)
    if max(p.resolution_angstrom for p in used) < 1.02 * finest:
        return f"the resolution stands at {finest:.1f} Å whatever the number of particles"
    return None


def _posterior(k: Tensor, n: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """B-factor, scatter, offset with its error, and probability, (cell,) each, on a grid of B-factors and scatters."""
    b = torch.logspace(math.log10(_SMALLEST_B), math.log10(_LARGEST_B), 120, dtype=torch.float64)
    typical = error.median()
    tau = typical * torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0], dtype=torch.float64)
    b, tau = (values.flatten() for values in torch.meshgrid(b, tau, indexing="ij"))
    deviation = (error**2 + tau[:, None] ** 2).sqrt()
    # an error of k is one of ln N - ln k - B k² / 2 by its slope
    of_line = deviation * (1 / k + b[:, None] * k)
    level = n.log() - k.log() - b[:, None] * k**2 / 2
    weight = of_line**-2
    offset = (weight * level).sum(1) / weight.sum(1)
    chi_squared = (weight * (level - offset[:, None]) ** 2).sum(1)
    # exponential prior on the scatter with the size of the errors; tau is not evenly spaced
    spacing = torch.tensor([0.125, 0.25, 0.375, 0.5, 0.5, 0.75, 1.0, 1.5, 2.0, 2.0], dtype=torch.float64)
    prior = spacing.log().repeat(len(b) // len(spacing)) - tau / typical
    logarithm = -deviation.log().sum(1) - chi_squared / 2 + prior
    return b, tau, offset, weight.sum(1).rsqrt(), torch.softmax(logarithm, dim=0)


def _frequency(level: Tensor, b_factor: Tensor) -> Tensor:
    """k with ln k + B k² / 2 = level, by Newton's method in ln k from above, where it cannot overshoot."""
    u = torch.minimum(level, 0.5 * (2 * (level.abs() + 30) / b_factor).log())
    for _ in range(30):
        squared = b_factor * (2 * u).exp()
        u = u - (u + squared / 2 - level) / (1 + squared)
    return u.exp()


def _interval(values: Tensor) -> Interval:
    low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
    return Interval(middle, low, high)
