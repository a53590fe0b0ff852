"""Particle images against a bank of references by matrix products: likelihoods, posteriors and weighted sums.

The common core of 2D classification and of the first map. Images are lists of Fourier coefficients within a disc,
each independent coefficient once, sorted by radius, so that a lower resolution is a prefix of the list.

Source: Scheres, J. Mol. Biol. 2012, 415:406 (the likelihood and the sums of expectation maximisation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.projection import gather, half_disc, scatter

_WORKING_ELEMENTS = 12_000_000
"""Floats that one chunk of particles may need at once: about 50 MB, whatever the number of particles."""


@dataclass(frozen=True)
class Disc:
    """Independent Fourier coefficients of an (n, n) image within a radius, sorted by it; zero frequency left out."""

    n: int
    points: Tensor
    """(m, 2) int64 coefficient numbers (y, x), as `projection.half_disc` gives them."""
    shell: Tensor
    """(m,) int64 Fourier radius, rounded."""

    @property
    def frequency_per_px(self) -> Tensor:
        """(m, 2) frequency vectors (y, x) in cycles per pixel."""
        return self.points.float() / self.n

    @property
    def n_shells(self) -> int:
        return int(self.shell[-1]) + 1

    def within(self, radius: float) -> Disc:
        """The disc of a smaller radius: a prefix of this one."""
        m = int((self.points.float().norm(dim=1) <= radius).sum())
        return Disc(self.n, self.points[:m], self.shell[:m])

    def to(self, device: torch.device | str) -> Disc:
        """The same disc on another device."""
        return Disc(self.n, self.points.to(device), self.shell.to(device))


def disc(n: int, radius: float, device: torch.device | str = "cpu") -> Disc:
    """The disc of an (n, n) image out to a Fourier radius in pixels, below Nyquist."""
    points = half_disc(min(radius, (n - 1) // 2), device=device)
    return Disc(n, points, points.float().norm(dim=1).round().long())


def pack(half_transform: Tensor, coefficients: Disc) -> Tensor:
    """(..., m) coefficients of (..., n, n // 2 + 1) half-transforms."""
    return gather(half_transform, coefficients.points)


def unpack(values: Tensor, coefficients: Disc) -> Tensor:
    """(..., n, n // 2 + 1) half-transforms from (..., m) complex coefficients; zero outside the disc."""
    origin = torch.zeros_like(values[..., :1])
    return scatter(torch.cat([origin, values], dim=-1), coefficients.points, coefficients.n)


def shift_grid(radius_px: float, step_px: float, device: torch.device | str = "cpu") -> Tensor:
    """(t, 2) shifts (y, x) on a square grid within a circle; the first is no shift."""
    n = math.floor(radius_px / step_px + 1e-6)
    axis = torch.arange(-n, n + 1, device=device) * step_px
    grid = torch.cartesian_prod(axis, axis)
    length = grid.norm(dim=1)
    order = torch.argsort(length, stable=True)
    return grid[order[length[order] <= radius_px + 1e-6]]


def shell_means(values: Tensor, coefficients: Disc) -> Tensor:
    """(..., shell) means of (..., m) values over shells; shell 0 takes the value of shell 1."""
    sums = fourier.shell_sums(values, coefficients.shell, coefficients.n_shells)
    counts = fourier.shell_sums(torch.ones_like(values[..., :1, :]) if values.ndim > 1 else torch.ones_like(values),
                                coefficients.shell, coefficients.n_shells)  # fmt: skip
    means = sums / counts.clamp_min(1)
    return torch.cat([means[..., 1:2], means[..., 1:]], dim=-1)


@dataclass(frozen=True)
class Sums:
    """What the particles of a block add up to; the sums of two blocks are the field-wise sums."""

    numerator: Tensor
    """(reference, m) complex: CTF × image, moved back and weighted by the posterior."""
    denominator: Tensor
    """(reference, m) CTF² weighted by the posterior."""
    power: Tensor
    """(m,) sum of |image|²."""
    occupancy: Tensor
    """(reference,) sum of posteriors."""
    squared_shift_px2: Tensor
    """() posterior mean of the squared length of the shifts, summed."""


@dataclass(frozen=True)
class Assignment:
    """What is known of each particle after an expectation step."""

    evidence: Tensor
    """(particle,) log of the likelihood, summed over references and shifts, relative to an image of noise alone."""
    reference: Tensor
    """(particle,) int64 the most likely reference."""
    shift: Tensor
    """(particle,) int64 its most likely shift."""
    group_posterior: Tensor
    """(particle, group) posterior of each group of references."""


def log_likelihoods(
    images: Tensor, transfer: Tensor, references: Tensor, noise_variance: Tensor, ramps: Tensor
) -> Tensor:
    """(particle, shift, reference) log-likelihoods relative to that of noise alone.

    Parameters
    ----------
    images
        (particle, m) complex coefficients.
    transfer
        (particle, m) CTFs.
    references
        (reference, m) complex coefficients.
    noise_variance
        (m,) mean of |noise|² per coefficient.
    ramps
        (shift, m) factors of `fourier.phase_ramp` at these coefficients.
    """
    moved_back = (images * (transfer / noise_variance))[:, None] * ramps.conj()
    left = torch.view_as_real(moved_back).flatten(-2)
    right = torch.view_as_real(references.resolve_conj()).flatten(-2)
    cross = left @ right.T
    norm = (transfer.square() / noise_variance) @ references.abs().square().T
    return 2 * cross - norm[:, None]


def shift_ramps(coefficients: Disc, shifts_px: Tensor) -> Tensor:
    """(t, m) complex factors that move an image by each of (t, 2) shifts."""
    angle = -2 * math.pi * shifts_px.to(coefficients.frequency_per_px) @ coefficients.frequency_per_px.T
    return torch.polar(torch.ones_like(angle), angle)


def expectation(
    images: Tensor,
    transfer: Tensor,
    references: Tensor,
    noise_variance: Tensor,
    coefficients: Disc,
    shifts_px: Tensor,
    log_prior: Tensor,
    groups: int = 1,
    temperature: float = 1.0,
) -> tuple[Sums, Assignment]:
    """Posteriors of references and shifts for every particle, and the sums that new references are made of.

    Works through the particles in chunks; memory beyond inputs and sums stays near 100 MB.

    Parameters
    ----------
    log_prior
        (shift, reference) log of the prior, summing to one.
    groups
        The references are this many groups of equal length, one after the other (classes × rotations).
    temperature
        Log-likelihoods are divided by it before they become posteriors; 1 is expectation maximisation.
    """
    n_particles, m = images.shape
    n_references, n_shifts = len(references), len(shifts_px)
    ramps = shift_ramps(coefficients, shifts_px)
    numerator = torch.zeros(n_references, 2 * m, device=images.device)
    denominator = torch.zeros(n_references, m, device=images.device)
    occupancy = torch.zeros(n_references, device=images.device)
    power = torch.zeros(m, device=images.device)
    squared_shift = torch.zeros((), device=images.device)
    evidence, best_reference, best_shift, group_posterior = [], [], [], []
    chunk = max(1, _WORKING_ELEMENTS // (n_shifts * (2 * n_references + 4 * m)))
    for start in range(0, n_particles, chunk):
        part, ctf = images[start : start + chunk], transfer[start : start + chunk]
        logits = log_likelihoods(part, ctf, references, noise_variance, ramps).add_(log_prior).flatten(1)
        evidence.append(torch.logsumexp(logits, dim=1))
        best = logits.argmax(dim=1)
        best_reference.append(best % n_references)
        best_shift.append(best // n_references)
        posterior = torch.softmax(logits / temperature if temperature != 1 else logits, dim=1)
        posterior = posterior.view(len(part), n_shifts, n_references)
        of_reference = posterior.sum(1)
        group_posterior.append(of_reference.view(len(part), groups, -1).sum(-1))
        occupancy += of_reference.sum(0)
        denominator += of_reference.T @ ctf.square()
        weighted = torch.view_as_real((part * ctf)[:, None] * ramps.conj()).flatten(-2)
        numerator += posterior.flatten(0, 1).T @ weighted.flatten(0, 1)
        power += part.abs().square().sum(0)
        squared_shift += (posterior.sum(2) @ shifts_px.to(posterior).square().sum(1)).sum()
    sums = Sums(
        torch.view_as_complex(numerator.unflatten(-1, (m, 2))), denominator, power, occupancy, squared_shift
    )  # fmt: skip
    assignment = Assignment(
        torch.cat(evidence), torch.cat(best_reference), torch.cat(best_shift), torch.cat(group_posterior)
    )
    return sums, assignment


def expectation_memory_bytes(n_references: int, n_coefficients: int) -> int:
    """Peak of `expectation`: what is there once for each coefficient of each reference, and the chunk at work."""
    return 36 * n_references * n_coefficients + 150_000_000


def residual_power(sums: Sums, references: Tensor) -> Tensor:
    """(m,) sum over particles of the posterior mean of |image - CTF × reference|²."""
    cross = (sums.numerator * references.conj()).real.sum(0)
    signal = (sums.denominator * references.abs().square()).sum(0)
    return sums.power - 2 * cross + signal
