"""Motion of the specimen during an exposure: estimated from the frames, evaluated anywhere, undone.

What is at position p in the reference frame is at p + motion(frame, p) in another one, in pixels (y, x). The motion
is one free shift a frame plus a cubic B-spline in time and both axes of the field, searched for by comparing every
frame with the sum of the others, and then found as the most probable one (`trajectories.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from kernels import fourier
from kernels.interpolation import sample_displaced, spline_basis, spline_response
from kernels.movies.patches import Patches
from kernels.movies.trajectories import refine_trajectories

_COARSE_ANGSTROM = 12.0
"""Resolution of the first alignment of whole frames."""

_LOWEST_ANGSTROM = 500.0
"""Longer waves are illumination and thickness, which do not show motion."""

_STEP_ANGSTROM = 15.0
"""Expected size of a whole frame's shift from the one before it."""

_LEAST_SIGNIFICANCE = 4.6
"""Root mean square height of the frames' correlation peaks, in standard deviations of the correlation around, below
which there is nothing to align: noise alone, searched and aligned to itself, reaches 4.2."""

_KEPT_INFORMATION = 0.98

_EARLY_STRETCH = 8.0
"""Time runs this many times slower, less one, at the movie's start than at its end; see `frame_times`."""

_SEARCH_ROUNDS = 1

_WINDOW = 10
"""Pixels (of the reduced frames) around the expected motion in which a patch's correlation is known."""


@dataclass(frozen=True)
class Motion:
    """Motion of the specimen since the reference frame, zero there."""

    global_shift_px: Tensor
    """(frame, 2)"""
    local_control_px: Tensor
    """(k_t, k_y, k_x, 2) control points over the movie's length and the field's height and width."""
    shape: tuple[int, int]
    """(y, x) of the frames."""
    reference_frame: int

    def at(self, position_px: Tensor) -> Tensor:
        """(frame, point, 2) motion in px of points (point, 2) given in px of the reference frame."""
        extent = torch.tensor(self.shape, device=position_px.device, dtype=position_px.dtype)
        fraction = (position_px + 0.5) / extent
        control = self.local_control_px
        basis_y = spline_basis(fraction[:, 0], control.shape[1])
        basis_x = spline_basis(fraction[:, 1], control.shape[2])
        local = torch.einsum("tabc,pa,pb->tpc", self._control_of_frames(), basis_y, basis_x)
        return self.global_shift_px[:, None] + local

    def control_at(self, frame: int) -> Tensor:
        """(k_y, k_x, 2) control points of the local motion in one frame."""
        return self._control_of_frames()[frame]

    def _control_of_frames(self) -> Tensor:
        times = frame_times(len(self.global_shift_px), device=self.global_shift_px.device)
        basis = spline_basis(times, self.local_control_px.shape[0])
        return torch.einsum("tk,kabc->tabc", basis, self.local_control_px)

    def referred_to(self, frame: int) -> Motion:
        """The same motion, told relative to another frame."""
        return Motion(
            self.global_shift_px - self.global_shift_px[frame],
            self.local_control_px - self.control_at(frame),  # B-splines add up to one
            self.shape,
            frame,
        )


def frame_times(n_frames: int, *, device: torch.device | str = "cpu") -> Tensor:
    """(frame,) middle of each frame on the local spline's time axis, [0, 1], which is stretched early in the movie.

    The specimen moves most, and changes its motion fastest, in the first few e⁻/Å²: a logarithmic axis gives its
    control points, and a prior that is even along it, where they are needed.
    """
    fraction = (torch.arange(n_frames, device=device) + 0.5) / n_frames
    return torch.log1p(_EARLY_STRETCH * fraction) / math.log1p(_EARLY_STRETCH)


def reduced_shape(shape: tuple[int, int], pixel_size_angstrom: float, resolution_angstrom: float) -> tuple[int, int]:
    """Shape of the frames when they are cut off at a resolution, quick to transform."""
    share = min(1.0, 2 * pixel_size_angstrom / resolution_angstrom)
    y, x = (min(fourier.fast_size(math.ceil(n * share)), n) for n in shape)
    return y, x


# --- likelihood ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spectra:
    """Power per pixel of signal and noise in one frame, as radial curves."""

    signal: Tensor
    """(shell,)"""
    noise: Tensor
    """(shell,)"""
    shell_width: float
    """In cycles per reduced pixel."""

    def weight(self, shape: tuple[int, int], n_others: int) -> Tensor:
        """(y, x_half) factors that turn frame × conj(sum of the others) into a log-likelihood after `irfft2`."""
        curve = self.signal / (n_others * self.signal + self.noise) / self.noise
        position = fourier.frequency_length(shape, device=str(curve.device)) / self.shell_width
        below = position.floor().clamp(max=len(curve) - 2).long()
        share = (position - below).clamp(0, 1)
        return curve[below] * (1 - share) + curve[below + 1] * share

    def informative_shape(self, shape: tuple[int, int], n_others: int) -> tuple[int, int]:
        """Smallest shape whose frequencies hold 98 % of what the frames of ``shape`` tell about their motion."""
        shell = torch.arange(len(self.signal), device=self.signal.device)
        weight = self.signal / (n_others * self.signal + self.noise) / self.noise
        known = (shell**3 * n_others * self.signal * weight).cumsum(0)
        needed = int((known < _KEPT_INFORMATION * known[-1]).sum()) + 1
        share = min(1.0, 2 * needed * self.shell_width)
        y, x = (min(n, fourier.fast_size(math.ceil(share * n))) for n in shape)
        return y, x

    def cropped(self, shape: tuple[int, int], new_shape: tuple[int, int]) -> Spectra:
        """For frames Fourier cropped from ``shape`` to ``new_shape``, grey values kept."""
        share = new_shape[0] * new_shape[1] / (shape[0] * shape[1])
        return Spectra(self.signal * share, self.noise * share, self.shell_width * shape[0] / new_shape[0])


def spectra_of(aligned: Tensor, shape: tuple[int, int], pixel_size_angstrom: float, b_factor: float | None) -> Spectra:
    """Signal and noise of aligned frames (frame, y, x_half): the signal is what the frames share.

    With ``b_factor`` (Å²) the signal's shape is assumed instead of measured, for frames that are not aligned yet.
    """
    n_frames, n_shells = len(aligned), max(shape) // 2 + 1
    index = fourier.shell_index(shape, device=aligned.device)
    hermitian = fourier.hermitian_weights(shape, device=aligned.device).expand(index.shape)
    counts = fourier.shell_sums(hermitian.contiguous(), index, n_shells).clamp(min=1)

    def radial(power: Tensor) -> Tensor:
        return fourier.shell_sums(power * hermitian, index, n_shells) / counts

    n_px = shape[0] * shape[1]
    power = torch.zeros(index.shape, device=aligned.device)
    for frame in aligned:
        power += frame.real.square() + frame.imag.square()
    frame_power = radial(power) / n_px
    sum_power = radial(aligned.sum(0).abs().square()) / n_px
    frequency = torch.arange(n_shells, device=aligned.device) / max(shape)
    noise = _smooth(frame_power / n_frames)
    if b_factor is None:
        signal = _smooth((sum_power - frame_power) / (n_frames * (n_frames - 1)))
        doubt = noise / torch.sqrt(5 * counts * n_frames * (n_frames - 1) / 2)
        signal = torch.where(signal > doubt, signal, torch.zeros_like(signal))
        noise = (noise - signal).clamp(min=1e-3 * noise.max())
    else:
        signal = 0.01 * noise * torch.exp(-b_factor / 4 * (frequency / pixel_size_angstrom) ** 2)
    signal = signal * (frequency > pixel_size_angstrom / _LOWEST_ANGSTROM) * (frequency < 0.5)
    return Spectra(signal, noise.clamp(min=1e-12 * float(noise.max()) + 1e-30), 1.0 / max(shape))


def _smooth(curve: Tensor, width: int = 5) -> Tensor:
    half = width // 2
    return torch.nn.functional.avg_pool1d(pad(curve[None, None], (half, half), mode="replicate"), width, 1)[0, 0]


# --- whole frames ----------------------------------------------------------------------------------------------


def align_frames(
    transforms: Tensor,
    shape: tuple[int, int],
    pixel_size_angstrom: float,
    *,
    largest_shift_px: float,
) -> Tensor:
    """Shift of each whole frame relative to the mean position.

    Parameters
    ----------
    transforms
        (frame, y, x_half) `rfft2` of the reduced frames, their mean subtracted.
    shape
        (y, x) of the reduced frames.
    pixel_size_angstrom
        Of the reduced frames.
    largest_shift_px
        Reach of the search.

    Returns
    -------
    (frame, 2) shifts in reduced pixels, positive where the specimen moved to larger indices.
    """
    n_frames = len(transforms)
    shift = torch.zeros(n_frames, 2, device=transforms.device)
    if n_frames == 1:
        return shift
    coarse = reduced_shape(shape, pixel_size_angstrom, _COARSE_ANGSTROM)
    coarse = (min(coarse[0], shape[0]), min(coarse[1], shape[1]))
    scale = torch.tensor([n / m for n, m in zip(shape, coarse)], device=shift.device)
    small = fourier.crop_transform(transforms, shape, coarse)
    coarse_pixel = pixel_size_angstrom * float(scale.max())
    starts = [shift, _chained_shifts(small, coarse, coarse_pixel, largest_shift_px / float(scale.max()))]
    results = []
    for start in starts:
        for b_factor in (4000.0, 2000.0, 1000.0, None, None):
            start, score = _aligned_to_others(
                small, coarse, coarse_pixel, start, b_factor, largest_shift_px / float(scale.max())
            )
        steps = start.diff(dim=0).square().sum() * (coarse_pixel / _STEP_ANGSTROM) ** 2
        results.append((float(score.square().sum() - steps), start))
    shift = max(results, key=lambda result: result[0])[1] * scale
    for _ in range(2):
        shift, score = _aligned_to_others(transforms, shape, pixel_size_angstrom, shift, None, 8.0)
    if float(score.square().mean()) < _LEAST_SIGNIFICANCE**2:
        return torch.zeros_like(shift)
    return shift - shift.mean(0)


def _chained_shifts(transforms: Tensor, shape: tuple[int, int], pixel_size: float, reach: float) -> Tensor:
    """Sum of the shifts between neighbouring frames: rough, but never lost in a long drift."""
    weight = spectra_of(transforms, shape, pixel_size, 2000.0).weight(shape, 1)
    cross = transforms[1:] * transforms[:-1].conj() * weight
    steps = _peaks(cross, shape, reach, _STEP_ANGSTROM / pixel_size)[0]
    return torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])


def _aligned_to_others(
    transforms: Tensor, shape: tuple[int, int], pixel_size: float, shift: Tensor, b_factor: float | None, reach: float
) -> tuple[Tensor, Tensor]:
    """Shifts after one more alignment of every frame to the sum of the others, and the significance of each."""
    aligned = transforms * fourier.phase_ramp(shape, -shift)
    weight = spectra_of(aligned, shape, pixel_size, b_factor).weight(shape, len(shift) - 1)
    total = aligned.sum(0)
    found = [
        _peaks((frame * (total - frame).conj() * weight)[None], shape, reach, 2 * _STEP_ANGSTROM / pixel_size)
        for frame in aligned
    ]
    step, score = (torch.cat(parts) for parts in zip(*found))
    return shift + step, score


def _peaks(cross: Tensor, shape: tuple[int, int], reach: float, expected: float) -> tuple[Tensor, Tensor]:
    """Most probable shift (frame, 2) within ``reach`` of zero, to a fraction of a pixel, and its height (frame,).

    Heights are in standard deviations of the correlation: half their square is the log-likelihood where the
    signal's strength is unknown. ``expected`` is the standard deviation of the shift before the frames are seen.
    """
    correlation = torch.fft.irfft2(cross, s=shape)
    half_y, half_x = (max(1, min(int(reach), (n - 4) // 2)) for n in shape)
    window = _around_zero(correlation, half_y + 1, half_x + 1)
    inner = window[:, 1:-1, 1:-1]
    squares = [torch.arange(-half, half + 1, device=window.device).square() for half in (half_y, half_x)]
    distance = (squares[0][:, None] + squares[1]) / expected**2
    height = inner.clamp(min=0) / correlation[:, ::2, ::3].std(dim=(1, 2), keepdim=True).clamp(min=1e-30)
    best = (height.square() - distance).flatten(1).argmax(1)
    significance = height.flatten(1).gather(1, best[:, None])[:, 0]
    y, x = best // inner.shape[2], best % inner.shape[2]
    frame = torch.arange(len(window), device=window.device)

    def value(dy: int, dx: int) -> Tensor:
        return window[frame, y + 1 + dy, x + 1 + dx]

    fraction_y = _parabola_top(value(-1, 0), value(0, 0), value(1, 0))
    fraction_x = _parabola_top(value(0, -1), value(0, 0), value(0, 1))
    return torch.stack([y - half_y + fraction_y, x - half_x + fraction_x], dim=-1), significance


def _around_zero(correlation: Tensor, half_y: int, half_x: int) -> Tensor:
    """(..., 2 half_y + 1, 2 half_x + 1) part of a periodic map whose zero is its first element, centred there."""
    rows = torch.cat([correlation[..., -half_y:, :], correlation[..., : half_y + 1, :]], dim=-2)
    return torch.cat([rows[..., -half_x:], rows[..., : half_x + 1]], dim=-1)


def _parabola_top(below: Tensor, middle: Tensor, above: Tensor) -> Tensor:
    curvature = (2 * middle - below - above).clamp(min=1e-30)
    return (0.5 * (above - below) / curvature).clamp(-0.5, 0.5)


# --- local motion ----------------------------------------------------------------------------------------------


_ROUGH_LOCAL_ANGSTROM = 10.0
_ROUGH_ACCELERATION_ANGSTROM = 1.0
"""Change of the local motion's step from one control point in time to the next."""
_ROUGH_BENDING_ANGSTROM = 6.0
"""Second difference of the local motion between neighbouring control points in space."""
_ROUGH_JITTER_ANGSTROM = 0.5
"""Correction of a whole frame's shift after `align_frames`."""


def fit_local_motion(
    transforms: Tensor,
    shape: tuple[int, int],
    pixel_size_angstrom: float,
    global_shift: Tensor,
    times: Tensor,
    *,
    n_patches: tuple[int, int],
    n_control: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """Global shifts and spline of the local motion that make the frames most probable.

    A search within 10 pixels at the resolution that tells most comes first, then `refine_trajectories` at the full
    one. Memory: about three times the reduced frames.

    Parameters
    ----------
    transforms, shape, pixel_size_angstrom
        As in `align_frames`.
    global_shift
        (frame, 2) from `align_frames`, in reduced pixels.
    times
        (frame,) from `frame_times`.

    Returns
    -------
    (frame, 2) global shifts and (k_t, k_y, k_x, 2) control points, both in reduced pixels.
    """
    aligned = transforms * fourier.phase_ramp(shape, -global_shift)
    jitter, control = _searched(aligned, shape, pixel_size_angstrom, times, n_patches, n_control)
    patches = Patches(torch.fft.irfft2(aligned, s=shape), n_patches)
    del aligned
    jitter, control = refine_trajectories(patches, pixel_size_angstrom, global_shift, control, jitter, times)
    return global_shift + jitter, control


def _searched(
    aligned: Tensor,
    field: tuple[int, int],
    pixel_size: float,
    times: Tensor,
    n_patches: tuple[int, int],
    n_control: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """Jitter and local motion, each frame compared with the plain sum of the others."""
    n_frames = len(aligned)
    spectra = spectra_of(aligned, field, pixel_size, None)
    shape = spectra.informative_shape(field, n_frames - 1)
    small = fourier.crop_transform(aligned, field, shape) * (shape[0] * shape[1] / (field[0] * field[1]))
    patches = Patches(torch.fft.irfft2(small, s=shape), n_patches)
    del small
    weight = spectra.cropped(field, shape).weight(patches.shape, n_frames - 1)
    response = [spline_response(f) for f in fourier.frequencies(patches.shape, device=aligned.device).unbind(-1)]
    weight = weight / (response[0] * response[1])

    n_points = len(patches.area_px)
    in_time = spline_basis(times, n_control[0])
    local_design = torch.einsum("tk,pa->ptka", in_time, patches.spline_weights(n_control[1:])).flatten(2)
    frame_design = torch.eye(n_frames, device=aligned.device).expand(n_points, -1, -1)
    design = torch.cat([frame_design, local_design], dim=-1).flatten(0, 1).double()  # (patch frame, unknown)
    precision = _rough_precision(n_frames, n_control, pixel_size * field[0] / shape[0]).to(design)
    unknowns = torch.zeros(design.shape[1], 2, dtype=torch.float64, device=design.device)
    for _ in range(_SEARCH_ROUNDS):
        expected = (design @ unknowns).float().reshape(n_points, n_frames, 2)
        windows = _correlation_windows(patches, expected, weight).flatten(0, 1)
        unknowns = _most_probable(windows, design, precision, unknowns, expected.flatten(0, 1).double())
    finer = torch.tensor([n / m for n, m in zip(field, shape)], device=aligned.device)
    jitter, control = unknowns[:n_frames].float() * finer, unknowns[n_frames:].float() * finer
    return jitter, control.reshape(*n_control, 2)


def _correlation_windows(patches: Patches, expected: Tensor, weight: Tensor) -> Tensor:
    """(patch, frame, w, w) spline coefficients of each patch's log-likelihood around the ``expected`` motion."""
    windows = []
    for transforms, shift in zip(patches, expected):
        aligned = transforms * fourier.phase_ramp(patches.shape, -shift)
        cross = (aligned.sum(0) - aligned).conj_physical_().mul_(aligned).mul_(weight)
        correlation = torch.fft.irfft2(cross, s=patches.shape)
        windows.append(_around_zero(correlation, _WINDOW, _WINDOW))
    return torch.stack(windows)


def _most_probable(windows: Tensor, design: Tensor, precision: Tensor, unknowns: Tensor, expected: Tensor) -> Tensor:
    """Newton steps, each halved until the posterior rises; ``unknowns`` (u, 2) of motion = design @ unknowns."""
    size = design.shape[1]
    value, slope, curvature = _sampled(windows, design @ unknowns - expected)
    posterior = value.sum() - 0.5 * (unknowns * (precision @ unknowns)).sum()
    for _ in range(8):
        gradient = (design.T @ slope - precision @ unknowns).T.reshape(-1)
        hessian = design.new_empty(2, size, 2, size)
        for i in range(2):
            for j in range(2):
                hessian[i, :, j] = design.T @ (curvature[:, i, j, None] * design)
            hessian[i, :, i] += precision
        factor = torch.linalg.cholesky(hessian.reshape(2 * size, 2 * size))
        step = torch.cholesky_solve(gradient[:, None], factor).reshape(2, size).T
        for _ in range(6):
            trial = unknowns + step
            new_value, new_slope, new_curvature = _sampled(windows, design @ trial - expected)
            new_posterior = new_value.sum() - 0.5 * (trial * (precision @ trial)).sum()
            if new_posterior > posterior:
                break
            step = step / 2
        else:
            break
        moved = (design @ step).abs().max()
        unknowns, slope, curvature, posterior = trial, new_slope, new_curvature, new_posterior
        if moved < 2e-3:
            break
    return unknowns


def _sampled(windows: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value (n,), gradient (n, 2) and negative curvature (n, 2, 2), made positive, at offsets from the centres."""
    n = windows.shape[-1]
    position = (offset + _WINDOW).clamp(1.0, n - 2.001)
    corner = position.floor()
    rest = position - corner
    index = corner.long()[..., None] + torch.arange(-1, 3, device=windows.device)  # (n, 2, 4)
    rows = torch.arange(len(windows), device=windows.device)[:, None, None]
    taps = windows[rows, index[:, 0, :, None], index[:, 1, None, :]].to(offset)
    y = [spline_basis(rest[:, 0], 4, derivative) for derivative in range(3)]
    x = [spline_basis(rest[:, 1], 4, derivative) for derivative in range(3)]

    def term(dy: int, dx: int) -> Tensor:
        return torch.einsum("nab,na,nb->n", taps, y[dy], x[dx])

    slope = torch.stack([term(1, 0), term(0, 1)], dim=-1)
    cross = -term(1, 1)
    curvature = torch.stack([-term(2, 0), cross, cross, -term(0, 2)], dim=-1).reshape(-1, 2, 2)
    values, vectors = torch.linalg.eigh(curvature)
    curvature = (vectors * values.clamp(min=0)[:, None, :]) @ vectors.transpose(1, 2)
    return term(0, 0), slope, curvature


def _rough_precision(n_frames: int, n_control: tuple[int, int, int], pixel_size: float) -> Tensor:
    """(unknown, unknown) inverse covariance of the frames' jitter and the control points, in 1/px²."""
    frames = torch.eye(n_frames, dtype=torch.float64) / _ROUGH_JITTER_ANGSTROM**2
    time, y, x = (torch.eye(n, dtype=torch.float64) for n in n_control)
    roughness = [_second_differences(n) for n in n_control]
    local = torch.kron(time, torch.kron(y, x)) / _ROUGH_LOCAL_ANGSTROM**2
    local += torch.kron(roughness[0], torch.kron(y, x)) / _ROUGH_ACCELERATION_ANGSTROM**2
    bending = torch.kron(roughness[1], x) + torch.kron(y, roughness[2])
    local += torch.kron(time, bending) / _ROUGH_BENDING_ANGSTROM**2
    return torch.block_diag(frames, local) * pixel_size**2


def _second_differences(n: int) -> Tensor:
    if n < 3:
        return torch.zeros(n, n, dtype=torch.float64)
    rows = torch.zeros(n - 2, n, dtype=torch.float64)
    for i in range(n - 2):
        rows[i, i : i + 3] = torch.tensor([1.0, -2.0, 1.0])
    return rows.T @ rows


# --- from frames to motion, and back ---------------------------------------------------------------------------


def estimate_motion(
    transforms: Tensor,
    shape: tuple[int, int],
    frame_shape: tuple[int, int],
    pixel_size_angstrom: float,
    *,
    n_patches: tuple[int, int],
    n_control: tuple[int, int, int],
    frame_index: Tensor | None = None,
    n_frames: int | None = None,
    largest_shift_fraction: float = 0.25,
) -> Motion:
    """Motion relative to the middle frame.

    Parameters
    ----------
    transforms
        (frame, y, x_half) `rfft2` of frames reduced to ``shape`` by cutting off high frequencies.
    frame_shape, pixel_size_angstrom
        Of the frames as recorded.
    n_patches
        Patches along y and x; (1, 1) or less finds global motion only.
    n_control
        Control points of the local motion in time, y and x.
    frame_index, n_frames
        Which frames of a movie of ``n_frames`` are given, where some are left out; these get the spline's local
        motion, and a whole shift between those of their neighbours.
    """
    reduced_pixel = pixel_size_angstrom * frame_shape[0] / shape[0]
    n_frames = n_frames or len(transforms)
    index = torch.arange(n_frames) if frame_index is None else frame_index.cpu()
    device = transforms.device
    shift = align_frames(transforms, shape, reduced_pixel, largest_shift_px=largest_shift_fraction * min(shape))
    control = torch.zeros(1, 1, 1, 2, device=device)
    if bool(shift.any()) and min(n_patches) > 1:
        times = frame_times(n_frames)[index].to(device)
        shift, control = fit_local_motion(
            transforms,
            shape,
            reduced_pixel,
            shift,
            times,
            n_patches=n_patches,
            n_control=n_control,
        )
    known, every = index.numpy(), np.arange(n_frames)
    whole = np.stack([np.interp(every, known, component) for component in shift.cpu().numpy().T], axis=1)
    scale = torch.tensor([n / m for n, m in zip(frame_shape, shape)], device=device)
    motion = Motion(torch.from_numpy(whole).to(shift) * scale, control * scale, frame_shape, 0)
    return motion.referred_to(n_frames // 2)


def estimation_memory_bytes(n_frames: int, shape: tuple[int, int]) -> int:
    """Peak of `estimate_motion` with its transforms, for frames reduced to ``shape``; measured from 0.3 to 4.2 Mpx."""
    return int(7.3 * n_frames * shape[0] * (shape[1] // 2 + 1) * 8)


def corrected_frame(transform: Tensor, motion: Motion, frame: int) -> Tensor:
    """(y, x) frame put back to where the specimen was in the reference frame, zero where it did not look.

    Parameters
    ----------
    transform
        (y, x_half) `rfft2` of the frame, its mean subtracted.
    """
    shape = motion.shape
    shift = motion.global_shift_px[frame]
    image = torch.fft.irfft2(transform * fourier.phase_ramp(shape, -shift), s=shape)
    for axis, (n, moved) in enumerate(zip(shape, shift.tolist())):
        lost = min(n, math.ceil(abs(moved)))
        outside = image.narrow(axis, n - lost, lost) if moved > 0 else image.narrow(axis, 0, lost)
        outside.zero_()
    control = motion.control_at(frame)
    if float(control.abs().max()) < 0.01:
        return image
    return sample_displaced(image, control)
