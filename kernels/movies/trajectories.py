"""The most probable trajectories: all frames placed against each other at once, under priors that the movie sets.

The motion of a patch is a whole shift a frame plus a spline of local motion, averaged under the patch's window. Each
round takes the gradient of the log-likelihood of all pairs of frames (`persistence.py`), and solves for all
shifts and control points with the expected information of the same pairs. So frames that hold on to their neighbours
only, and these to theirs, are moved together, and the posterior is as wide as the errors are. That makes its evidence
usable: the strengths of the priors are those under which the movie is most probable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels import fourier
from kernels.interpolation import spline_basis
from kernels.movies.patches import Patches
from kernels.movies.persistence import Persistence, fit_persistence

_ANYWHERE_ANGSTROM = 100.0
"""Whole shifts and their even motion are free."""

_LEAST_JITTER_ANGSTROM = 0.03
"""Keeps the equations well conditioned."""

_MOST_STEPS = 5
"""By which a prior's strength is doubled or halved in search of the movie's own."""


@dataclass(frozen=True)
class MotionPrior:
    """How much motion is expected; standard deviations over the time axis [0, 1] of `frame_times`."""

    drift_bend_angstrom: float = 10.0
    """Departure of the whole field's way from an even motion."""
    jitter_angstrom: float = 0.3
    """Departure of a single frame from its neighbours'."""
    local_angstrom: float = 4.0
    """Local motion, were it even."""
    local_bend_angstrom: float = 4.0
    """Departure of local motion from an even one."""
    local_range: float = 0.75
    """Share of the field over which local motion is alike."""

    def precision(self, times: Tensor, n_control: tuple[int, int, int]) -> Tensor:
        """(unknown, unknown) inverse covariance in 1/Å² of frames' whole shifts and the control points."""
        time = times.double()
        frames = self.drift_bend_angstrom**2 * _integrated_walk(time)
        frames += _ANYWHERE_ANGSTROM**2 * (1 + torch.outer(time, time))
        frames += (self.jitter_angstrom**2 + _LEAST_JITTER_ANGSTROM**2) * torch.eye(
            len(time), dtype=torch.float64, device=time.device
        )
        knot = _knots(n_control[0], time.device)
        knot = knot - knot[0]
        local = self.local_bend_angstrom**2 * _integrated_walk(knot)
        local += self.local_angstrom**2 * (1 + torch.outer(knot, knot))
        local += 1e-4 * self.local_angstrom**2 * torch.eye(len(knot), dtype=torch.float64, device=time.device)
        space = [_inverse(self._alike(_knots(n, time.device))) for n in n_control[1:]]
        return torch.block_diag(_inverse(frames), torch.kron(_inverse(local), torch.kron(*space)))

    def _alike(self, knot: Tensor) -> Tensor:
        distance = math.sqrt(3) * (knot[:, None] - knot).abs() / self.local_range
        alike = (1 + distance) * torch.exp(-distance)  # Matérn: smooth, but not stiff
        return alike + 1e-4 * torch.eye(len(knot), dtype=torch.float64, device=knot.device)


def _inverse(covariance: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(covariance))


def _integrated_walk(time: Tensor) -> Tensor:
    """(t, t) covariance of an integrated random walk from time 0, one at time 1."""
    first, second = torch.minimum(time[:, None], time), torch.maximum(time[:, None], time)
    return first.square() * (3 * second - first) / 2


def _knots(n: int, device: torch.device) -> Tensor:
    """(n,) where the control points of `spline_basis` have most weight."""
    degree = min(3, n - 1)
    return (torch.arange(n, dtype=torch.float64, device=device) - (degree - 1) / 2) / max(1, n - degree)


def refine_trajectories(
    patches: Patches,
    pixel_size_angstrom: float,
    undone_shift: Tensor,
    control: Tensor,
    jitter: Tensor,
    times: Tensor,
    *,
    n_rounds: int = 2,
) -> tuple[Tensor, Tensor]:
    """Most probable whole shifts and control points, from ones that are right to about the resolution of the frames.

    Memory: beside the patches, one real (frame, y, x_half) array of the shape of a patch.

    Parameters
    ----------
    patches
        Of frames from which ``undone_shift`` (frame, 2) has been undone.
    control
        (k_t, k_y, k_x, 2) control points of local motion, in pixels.
    jitter
        (frame, 2) what is to be added to ``undone_shift``.
    times
        (frame,) from `kernels.movies.motion.frame_times`.

    Returns
    -------
    ``jitter`` and ``control``, better.
    """
    n_frames, n_control = len(jitter), (control.shape[0], control.shape[1], control.shape[2])
    in_time = spline_basis(times, n_control[0]).double()
    in_space = patches.spline_weights(n_control[1:]).double()
    undone = (undone_shift - undone_shift.mean(0)).double()

    def motion_of(unknowns: Tensor) -> Tensor:
        by_time = unknowns[n_frames:].unflatten(0, (n_control[0], -1))
        local = torch.einsum("tk,pa,kac->ptc", in_time, in_space, by_time)
        return (unknowns[:n_frames] - undone + local).float()

    unknowns = torch.cat([undone + jitter.double(), control.flatten(0, 2).double()])
    persistence = _measured_persistence(patches, motion_of(unknowns), pixel_size_angstrom)
    information = _information(persistence, patches.shape, n_frames)
    hessian = _hessian(information, patches.area_px.double(), in_time, in_space)
    precision, best, highest = None, unknowns, -math.inf
    for _ in range(n_rounds):
        value, slope = _slopes(patches, motion_of(unknowns), persistence)
        by_time = torch.einsum("tk,pa,ptc->kac", in_time, in_space, slope).flatten(0, 1)
        target = torch.cat([slope.sum(0), by_time]) + hessian @ unknowns
        if precision is None:
            prior = _most_evident(MotionPrior(), hessian, target, times, n_control, pixel_size_angstrom)
            precision = prior.precision(times, n_control) * pixel_size_angstrom**2
        value -= float((unknowns * (precision @ unknowns)).sum()) / 2
        if value < highest:  # the search had not come near enough
            unknowns = best
            break
        best, highest = unknowns, value
        unknowns = torch.cholesky_solve(target, torch.linalg.cholesky(hessian + precision))
    return (unknowns[:n_frames] - undone).float(), unknowns[n_frames:].float().reshape(*n_control, 2)


def _measured_persistence(patches: Patches, motion: Tensor, pixel_size: float) -> Persistence:
    """What patches share once their ``motion`` (patch, frame, 2) is undone."""
    shape, n_frames = patches.shape, motion.shape[1]
    shared = torch.zeros(n_frames, shape[0], shape[1] // 2 + 1, device=motion.device)
    for transforms, shift in zip(patches, motion):
        parts = torch.view_as_real(transforms * fourier.phase_ramp(shape, -shift))
        for lag in range(n_frames):
            shared[lag] += (parts[: n_frames - lag] * parts[lag:]).sum(0).sum(-1)
    shared /= torch.arange(n_frames, 0, -1, device=motion.device)[:, None, None]
    hermitian = fourier.hermitian_weights(shape, device=motion.device).expand(shared.shape[1:]).contiguous()
    index = fourier.shell_index(shape, device=motion.device)
    n_shells = max(shape) // 2
    counts = fourier.shell_sums(hermitian, index, n_shells)
    area = float(patches.area_px.sum())
    covariance = fourier.shell_sums(shared * hermitian, index, n_shells) / counts.clamp(min=1) / area
    frequency = torch.arange(n_shells, device=motion.device) / max(shape) / pixel_size
    return fit_persistence(covariance, counts * area / (shape[0] * shape[1]), frequency)


def _information(persistence: Persistence, shape: tuple[int, int], n_frames: int) -> Tensor:
    """(frame, frame) expected negative curvature of a pixel's log-likelihood, along either axis, in 1/px²."""
    constant, fading, decay = persistence.pair_weights(n_frames)
    lag = torch.arange(n_frames, device=decay.device)
    weight = constant + fading * decay ** lag[:, None]
    n_shells = decay.shape[0]
    hermitian = fourier.hermitian_weights(shape, device=decay.device)
    length = fourier.frequency_length(shape, device=str(decay.device))
    squares = fourier.shell_sums(
        (2 * math.pi * length).square() / 2 * hermitian, fourier.shell_index(shape, device=decay.device), n_shells
    )
    of_lag = (weight * persistence.covariance(n_frames)) @ (squares / (shape[0] * shape[1]))
    of_lag = of_lag.double().clamp(min=0)  # where noise hardly matters, approximate weights may be negative
    pairs = of_lag[(lag[:, None] - lag).abs()].fill_diagonal_(0)
    return torch.diag(pairs.sum(1)) - pairs


def _hessian(information: Tensor, area: Tensor, in_time: Tensor, in_space: Tensor) -> Tensor:
    """(unknown, unknown) of whole shifts and control points, for patches of an ``area`` (patch,)."""
    weighted = in_space * area[:, None]
    across = torch.kron((information @ in_time).contiguous(), weighted.sum(0)[None])
    local = torch.kron((in_time.T @ information @ in_time).contiguous(), (in_space.T @ weighted).contiguous())
    return torch.cat([torch.cat([information * area.sum(), across], dim=1), torch.cat([across.T, local], dim=1)])


def _slopes(patches: Patches, motion: Tensor, persistence: Persistence) -> tuple[float, Tensor]:
    """Log-likelihood but for a constant, and its gradient (patch, frame, 2), of patches' ``motion`` (patch, frame, 2).

    What a frame is compared with is a weighted sum of the others; as weights fall off exponentially, running sums
    from both ends make it.
    """
    shape, n_frames = patches.shape, motion.shape[1]
    index = fourier.shell_index(shape, device=motion.device)
    n_shells = len(persistence.noise)
    is_known = index < n_shells
    hermitian = fourier.hermitian_weights(shape, device=motion.device) / (shape[0] * shape[1])
    constant, fading, decay = (
        curve[index.clamp(max=n_shells - 1)] * is_known for curve in persistence.pair_weights(n_frames)
    )
    constant, fading = constant * hermitian, fading * hermitian
    angular = 2 * math.pi * fourier.frequencies(shape, device=motion.device)
    along_y, along_x = angular[:, 0, 0], angular[0, :, 1]
    slopes = torch.empty_like(motion, dtype=torch.float64)
    value = 0.0
    for row, (transforms, shift) in enumerate(zip(patches, motion)):
        aligned = transforms * fourier.phase_ramp(shape, -shift)
        near = torch.zeros_like(aligned)
        for frame in range(1, n_frames):
            torch.mul(near[frame - 1] + aligned[frame - 1], decay, out=near[frame])
        after = torch.zeros_like(aligned[0])
        for frame in range(n_frames - 2, -1, -1):
            after = (after + aligned[frame + 1]).mul_(decay)
            near[frame] += after
        others = near.mul_(fading).add_((aligned.sum(0) - aligned).mul_(constant))
        product = others.mul_(aligned.conj())
        value += float(product.real.sum()) / 2
        slopes[row, :, 0] = product.imag.sum(2) @ along_y
        slopes[row, :, 1] = product.imag.sum(1) @ along_x
    return value, slopes


def _most_evident(
    prior: MotionPrior, hessian: Tensor, target: Tensor, times: Tensor, n_control: tuple[int, int, int], pixel: float
) -> MotionPrior:
    """Strengths of the prior under which what was seen is most probable, one after the other by factors."""

    def evidence(trial: MotionPrior) -> float:
        precision = trial.precision(times, n_control) * pixel**2
        known = torch.linalg.cholesky(hessian + precision)
        explained = torch.linalg.solve_triangular(known, target, upper=False).square().sum() / 2
        # the determinants count once for each axis
        return float(torch.logdet(precision) - 2 * known.diagonal().log().sum() + explained)

    highest = evidence(prior)
    for factor in (2.0, 1.4):
        for name in MotionPrior.__dataclass_fields__:
            for step in (factor, 1 / factor):
                for _ in range(_MOST_STEPS):
                    trial = replace(prior, **{name: getattr(prior, name) * step})
                    found = evidence(trial)
                    if found <= highest:
                        break
                    prior, highest = trial, found
    return prior
