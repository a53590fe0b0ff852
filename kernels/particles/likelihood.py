"""Likelihood of poses: search over a grid of orientations and shifts, and refinement of the best by least squares.

An image is X = CTF · slice(R) · shift + noise, with independent complex Gaussian noise of power σ² on every
coefficient. Log-likelihoods are relative to an image of noise alone: 2 Re<X, M>/σ² - |M|²/σ².

Source: Scheres 2012, J. Mol. Biol. 415:406; the least-squares step is that of Levenberg and Marquardt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.maps.projection import FourierVolume, slices, slices_and_slopes
from kernels.particles.expectation import Disc
from kernels.particles.pose_prior import PosePrior
from kernels.rotations import from_rotation_vector

_WORKING_ELEMENTS = 12_000_000
"""Floats that one chunk may need at once, about 50 MB, whatever the number of particles."""


@dataclass(frozen=True)
class Observation:
    """Images of a block as coefficients of one disc."""

    image: Tensor
    """(particle, m) complex."""
    transfer: Tensor
    """(particle, m) CTF, times the amplitude of the exposure where that is known."""
    noise_variance: Tensor
    """(m,) or (particle, m) mean of |noise|²."""

    def within(self, n_coefficients: int) -> Observation:
        """The same images with fewer coefficients, those of lowest frequency."""
        return Observation(
            self.image[:, :n_coefficients], self.transfer[:, :n_coefficients], self.noise_variance[..., :n_coefficients]
        )

    def select(self, index: Tensor | slice) -> Observation:
        """Some of the particles, repeated where the index repeats them."""
        variance = self.noise_variance if self.noise_variance.ndim == 1 else self.noise_variance[index]
        return Observation(self.image[index], self.transfer[index], variance)


@dataclass(frozen=True)
class Candidates:
    """The best poses of each particle on a grid, best first; all of shape (particle, candidate)."""

    orientation: Tensor
    """int64 number of the orientation."""
    shift: Tensor
    """int64 number of the shift."""
    score: Tensor


@dataclass(frozen=True)
class PoseFit:
    """Refined poses, of shape (pose, …)."""

    rotation: Tensor
    """(pose, 3, 3)"""
    shift_px: Tensor
    """(pose, 2)"""
    log_likelihood: Tensor
    """With a prior, less what that takes off."""
    cross: Tensor
    """Re<X, M>/σ²; with `power`, the amplitude that fits best is cross / power."""
    power: Tensor
    """|M|²/σ²"""


def search_poses(
    observation: Observation, references: Tensor, ramps: Tensor, n_best: int, *, is_amplitude_known: bool = True
) -> Candidates:
    """The best orientations of each particle, each at its best shift.

    Memory beyond the inputs stays near 100 MB: particles are taken in chunks, references in turn.

    Parameters
    ----------
    references
        (orientation, m) slices of the map.
    ramps
        (shift, m) factors of `expectation.shift_ramps`.
    is_amplitude_known
        Score by the log-likelihood; else by that with the best positive amplitude for each pose, which a reference of
        unknown scale needs.
    """
    n_particles, m = observation.image.shape
    n_shifts, n_best = len(ramps), min(n_best, len(references))
    right = torch.view_as_real(references).flatten(-2).T.contiguous()
    squared = references.abs().square().T.contiguous()
    conjugate = ramps.conj().resolve_conj()
    found = []
    chunk = max(1, _WORKING_ELEMENTS // (n_shifts * (len(references) + 2 * m)))
    for start in range(0, n_particles, chunk):
        part = observation.select(slice(start, start + chunk))
        weighted = part.image * (part.transfer / part.noise_variance)
        left = torch.view_as_real(weighted[:, None] * conjugate).reshape(-1, 2 * m)
        cross = (left @ right).view(len(weighted), n_shifts, -1)
        best_cross, best_shift = cross.max(dim=1)
        power = (part.transfer.square() / part.noise_variance) @ squared
        if is_amplitude_known:
            score = 2 * best_cross - power
        else:
            score = best_cross.clamp(min=0).square() / power.clamp(min=1e-30)
        values, orientation = score.topk(n_best, dim=1)
        found.append((orientation, best_shift.gather(1, orientation), values))
    return Candidates(*(torch.cat(parts) for parts in zip(*found)))


def refine_poses(
    observation: Observation,
    volume: FourierVolume,
    coefficients: Disc,
    rotation: Tensor,
    shift_px: Tensor,
    n_steps: int = 5,
    max_turn_rad: float = 0.1,
    max_move_px: float = 2.0,
    prior: PosePrior | None = None,
) -> PoseFit:
    """Poses of highest likelihood near the given ones, by damped least squares over rotation and shift.

    With a prior, of one known pose for each of them, those of highest posterior.

    Memory: 12 complex numbers per coefficient and pose of a chunk, about 100 MB.

    Parameters
    ----------
    observation
        One image per pose, with the coefficients of ``coefficients``.
    volume
        Prepared with slopes.
    rotation, shift_px
        (pose, 3, 3) and (pose, 2), where to start.
    max_turn_rad, max_move_px
        Longest single step.
    """
    chunk = max(1, _WORKING_ELEMENTS // (16 * len(coefficients.shell)))
    fits = [
        _refine_chunk(
            observation.select(slice(start, start + chunk)),
            volume,
            coefficients,
            rotation[start : start + chunk],
            shift_px[start : start + chunk],
            n_steps,
            max_turn_rad,
            max_move_px,
            None if prior is None else prior.select(slice(start, start + chunk)),
        )
        for start in range(0, len(rotation), chunk)
    ]
    names = ("rotation", "shift_px", "log_likelihood", "cross", "power")
    return PoseFit(*(torch.cat([getattr(fit, name) for fit in fits]) for name in names))


def model(
    observation: Observation, volume: FourierVolume, coefficients: Disc, rotation: Tensor, shift_px: Tensor
) -> Tensor:
    """(pose, m) what the images would be without noise."""
    ramp = _ramps(coefficients, shift_px)
    return slices(volume, rotation, coefficients.points) * ramp * observation.transfer


def pose_precision(
    observation: Observation, volume: FourierVolume, coefficients: Disc, rotation: Tensor, shift_px: Tensor
) -> Tensor:
    """(pose, 5, 5) one over the covariance that images alone leave to turns (z, y, x), rad, and shifts (y, x), px.

    The arguments are those of `refine_poses`; memory too.
    """
    chunk = max(1, _WORKING_ELEMENTS // (16 * len(coefficients.shell)))
    parts = []
    for start in range(0, len(rotation), chunk):
        rows = slice(start, start + chunk)
        terms = _linearised(_whitened(observation.select(rows)), volume, coefficients, rotation[rows], shift_px[rows])
        parts.append(2 * terms.normal)
    return torch.cat(parts)


def _whitened(observation: Observation) -> Observation:
    """Images whose noise has variance 1."""
    sigma = observation.noise_variance.sqrt()
    return Observation(observation.image / sigma, observation.transfer / sigma, torch.ones_like(sigma))


class _Terms(NamedTuple):
    """Of the posterior at a pose."""

    cross: Tensor
    power: Tensor
    gradient: Tensor
    """(pose, 5)"""
    normal: Tensor
    """(pose, 5, 5)"""
    penalty: Tensor | float

    @property
    def log_posterior(self) -> Tensor:
        return 2 * self.cross - self.power - self.penalty


def _linearised(
    whitened: Observation,
    volume: FourierVolume,
    coefficients: Disc,
    rotation: Tensor,
    shift_px: Tensor,
    prior: PosePrior | None = None,
) -> _Terms:
    image = whitened.image
    factor = whitened.transfer * _ramps(coefficients, shift_px)
    reference, slopes = slices_and_slopes(volume, rotation, coefficients.points)
    expected = reference * factor
    shift_slope = -2j * math.pi * coefficients.frequency_per_px
    jacobian = torch.cat([slopes * factor[..., None], expected[..., None] * shift_slope], dim=-1)
    rows = torch.view_as_real(jacobian.mT.contiguous()).flatten(-2)
    residual = torch.view_as_real(image - expected).flatten(-2)
    cross = (image.conj() * expected).real.sum(-1)
    power = expected.abs().square().sum(-1)
    gradient, normal = (rows @ residual[..., None]).squeeze(-1), rows @ rows.mT
    if prior is None:
        return _Terms(cross, power, gradient, normal, 0.0)
    gradient = gradient - prior.deviation(rotation, shift_px) * prior.precision / 2
    return _Terms(cross, power, gradient, normal + torch.diag(prior.precision / 2), prior.penalty(rotation, shift_px))


def _refine_chunk(
    observation: Observation,
    volume: FourierVolume,
    coefficients: Disc,
    rotation: Tensor,
    shift_px: Tensor,
    n_steps: int,
    max_turn_rad: float,
    max_move_px: float,
    prior: PosePrior | None,
) -> PoseFit:
    whitened = _whitened(observation)
    here = _linearised(whitened, volume, coefficients, rotation, shift_px, prior)
    cross, power, gradient, normal = here[:4]
    posterior = here.log_posterior
    damping = torch.full_like(cross, 1e-2)
    for _ in range(n_steps):
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        damped = normal + torch.diag_embed(damping[:, None] * diagonal + 1e-6 * diagonal.amax(-1, keepdim=True) + 1e-20)
        step = torch.linalg.solve(damped, gradient)
        turn, move = step[:, :3], step[:, 3:]
        turn = turn * (max_turn_rad / turn.norm(dim=-1, keepdim=True).clamp(min=max_turn_rad))
        move = move * (max_move_px / move.norm(dim=-1, keepdim=True).clamp(min=max_move_px))
        tried = from_rotation_vector(turn) @ rotation, shift_px + move
        terms = _linearised(whitened, volume, coefficients, *tried, prior)
        is_better = terms.log_posterior > posterior

        def kept(new: Tensor, old: Tensor, is_better: Tensor = is_better) -> Tensor:
            return torch.where(is_better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        rotation, shift_px = kept(tried[0], rotation), kept(tried[1], shift_px)
        cross, power = kept(terms.cross, cross), kept(terms.power, power)
        gradient, normal = kept(terms.gradient, gradient), kept(terms.normal, normal)
        posterior = kept(terms.log_posterior, posterior)
        damping = torch.where(is_better, damping / 4, damping * 10).clamp(1e-4, 1e4)
    return PoseFit(rotation, shift_px, posterior, cross, power)


def _ramps(coefficients: Disc, shift_px: Tensor) -> Tensor:
    """(pose, m) complex factors that move an image."""
    angle = -2 * math.pi * shift_px @ coefficients.frequency_per_px.T
    return torch.polar(torch.ones_like(angle), angle)
