"""Sharpening of maps: B-factor of the Guinier plot, weighting by FSC, and resolution from place to place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier

_WORKING_ELEMENTS = 4_000_000
"""Voxels of all windows that are transformed at once; each takes some 22 bytes."""


@dataclass(frozen=True)
class GuinierFit:
    """Straight line through the logarithm of amplitudes against squared frequency."""

    b_factor_angstrom2: float
    """Slope times four; negative where amplitudes fall, so that sharpening with it restores them."""
    frequency_squared: Tensor
    """(shell,) 1/Å²"""
    log_amplitude: Tensor
    """(shell,) of the signal: root mean square amplitude times the FSC weight."""
    n_shells: int
    """Shells that the line was fitted to."""


def radial_amplitude(density_map: Tensor) -> Tensor:
    """(shell,) root mean square of the transform's amplitude on each shell up to Nyquist."""
    shape = density_map.shape
    index = fourier.shell_index(shape, device=density_map.device)
    weights = fourier.hermitian_weights(shape, device=density_map.device).expand(index.shape)
    power = fourier.transform(density_map, 3).abs().square() * weights
    n_shells = shape[-1] // 2 + 1
    return (fourier.shell_sums(power, index, n_shells) / fourier.shell_sums(weights, index, n_shells)).sqrt()


def fsc_weight(curve: Tensor) -> Tensor:
    """(shell,) expected correlation of the mean of both halves with the truth, C_ref = sqrt(2 FSC / (1 + FSC)).

    Source
    ------
    Rosenthal & Henderson 2003, J. Mol. Biol. 333:721, eq. 15.
    """
    correlation = curve.clamp(0, 1)
    return (2 * correlation / (1 + correlation)).sqrt()


def guinier_fit(
    density_map: Tensor,
    curve: Tensor,
    pixel_size_angstrom: float,
    resolution_angstrom: float,
    low_resolution_angstrom: float = 10.0,
) -> GuinierFit:
    """B-factor of the mean of both halves, between ``low_resolution_angstrom`` and the resolution.

    The shells of a protein's transform follow its B-factor only where its fold no longer shows, from about 10 Å on.

    Parameters
    ----------
    density_map
        (z, y, x) unfiltered mean of the halves, inside its mask.
    curve
        (shell,) half-map FSC.
    """
    amplitude = radial_amplitude(density_map) * fsc_weight(curve)
    field = density_map.shape[-1] * pixel_size_angstrom
    frequency = torch.arange(len(amplitude), device=amplitude.device) / field
    fitted = (frequency >= 1 / low_resolution_angstrom) & (frequency <= 1 / resolution_angstrom) & (amplitude > 0)
    n_fitted = int(fitted.sum())
    if n_fitted < 4:
        raise ValueError(
            f"B-factor: found {n_fitted} shells between {low_resolution_angstrom:g} and {resolution_angstrom:.2f} Å, "
            "expected at least 4; give a B-factor, or a larger box"
        )
    squared = frequency.double() ** 2
    logarithm = torch.where(amplitude > 0, amplitude.double().log(), torch.nan)  # nothing to show where FSC ≤ 0
    x, y = squared[fitted] - squared[fitted].mean(), logarithm[fitted] - logarithm[fitted].mean()
    slope = float((x * y).sum() / (x * x).sum())
    return GuinierFit(4 * slope, squared.float(), logarithm.float(), n_fitted)


def sharpened(
    density_map: Tensor,
    pixel_size_angstrom: float,
    b_factor_angstrom2: float,
    curve: Tensor,
    resolution_angstrom: float,
) -> Tensor:
    """(z, y, x) map times exp(-B k² / 4), weighted by FSC, with a smooth end at the resolution.

    A negative B-factor sharpens. The end falls as a cosine over one tenth of the resolution's frequency beyond it.
    """
    shape = density_map.shape
    frequency = fourier.frequency_length(shape, pixel_size_angstrom, device=density_map.device)
    index = fourier.shell_index(shape, device=density_map.device).clamp(max=len(curve) - 1)
    beyond = ((frequency * resolution_angstrom - 1) / 0.1).clamp(0, 1)
    gain = torch.exp(-b_factor_angstrom2 * frequency.clamp(max=1.1 / resolution_angstrom) ** 2 / 4)
    gain = gain * fsc_weight(curve)[index] * 0.5 * (1 + torch.cos(math.pi * beyond))
    return fourier.inverse(fourier.transform(density_map, 3) * gain, shape)


def local_resolution(
    half_1: Tensor,
    half_2: Tensor,
    mask: Tensor,
    pixel_size_angstrom: float,
    window_px: int,
    step_px: int,
    threshold: float = 0.5,
) -> Tensor:
    """(z, y, x) resolution in Å from the correlation of both halves in windows; 0 outside the mask.

    Windows of ``window_px`` voxels a side, with cosine edges, stand ``step_px`` apart where the mask is above one
    half; between them the resolution's frequency is interpolated. Memory: `local_resolution_memory_bytes`.

    Source
    ------
    Cardone, Heymann & Steven 2013, J. Struct. Biol. 184:226 (blocres).
    """
    n = half_1.shape[-1]
    coarse = torch.arange((n // 2) % step_px, n, step_px, device=half_1.device)
    grid_mask = mask[coarse][:, coarse][:, :, coarse] > 0.5
    places = grid_mask.nonzero()
    if not len(places):
        raise ValueError("local resolution: the mask is empty, expected voxels above 0.5; look at the mask")
    before = window_px // 2
    padded = [torch.nn.functional.pad(half, (before, window_px) * 3) for half in (half_1, half_2)]
    taper = _taper(window_px, half_1.device)
    index = fourier.shell_index((window_px,) * 3, device=half_1.device)
    n_shells = window_px // 2 + 1
    weights = fourier.hermitian_weights((window_px,) * 3, device=half_1.device)
    frequencies = torch.zeros(grid_mask.shape, device=half_1.device)
    chunk = max(1, _WORKING_ELEMENTS // (2 * window_px**3))
    for start in range(0, len(places), chunk):
        some = places[start : start + chunk]
        corners = coarse[some]
        windows = [_windows(half, corners, window_px) * taper for half in padded]
        a, b = (torch.fft.rfftn(w, dim=(-3, -2, -1)) for w in windows)
        cross, power_a, power_b = (
            fourier.shell_sums(values * weights, index, n_shells)
            for values in ((a * b.conj()).real, a.abs().square(), b.abs().square())
        )
        curves = cross / (power_a * power_b).sqrt().clamp(min=1e-30)
        shells = _first_crossings(curves, threshold)
        frequencies[tuple(some.T)] = shells / (window_px * pixel_size_angstrom)
    return _spread(frequencies, grid_mask, coarse, mask)


def local_resolution_memory_bytes(n: int, window_px: int, step_px: int) -> int:
    """Peak of `local_resolution` and of what is done with the same maps of ``n`` voxels a side: measured, 48 to 192."""
    at_work = min(_WORKING_ELEMENTS, 2 * n_windows(n, step_px) * window_px**3)
    return int(1.05 * (22 * at_work + 75 * n**3 + 55 * (n + 1.5 * window_px) ** 3)) + 10_000_000


def n_windows(n: int, step_px: int) -> int:
    """About as many as stand in the mask of a map whose specimen fills a quarter of it."""
    return math.ceil(0.25 * (n / step_px) ** 3)


def _windows(padded: Tensor, corners: Tensor, size: int) -> Tensor:
    """(window, size, size, size) cut from a padded map; a corner of the padded map is the window's centre less half."""
    offset = torch.arange(size, device=padded.device)
    z, y, x = (corners[:, axis, None] + offset for axis in range(3))
    return padded[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]


def _taper(size: int, device: torch.device) -> Tensor:
    profile = torch.sin(math.pi * (torch.arange(size, device=device) + 0.5) / size) ** 2
    return profile[:, None, None] * profile[:, None] * profile


def _first_crossings(curves: Tensor, threshold: float) -> Tensor:
    """(window,) shell with fraction where each curve (window, shell) first falls below the threshold, at least 1."""
    below = curves < threshold
    below[:, :2] = False
    first = torch.where(below.any(1), below.int().argmax(1), curves.shape[1] - 1)
    after = curves.gather(1, first[:, None])[:, 0]
    before = curves.gather(1, first[:, None] - 1)[:, 0]
    fraction = ((before - threshold) / (before - after).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(below.any(1), first - 1 + fraction, first.to(fraction))


def _spread(frequencies: Tensor, grid_mask: Tensor, coarse: Tensor, mask: Tensor) -> Tensor:
    """Resolution at every voxel of the mask, from frequencies on the coarse grid, by linear interpolation."""
    n, step = mask.shape[-1], float(coarse[1] - coarse[0]) if len(coarse) > 1 else 1.0
    axis = (torch.arange(n, device=mask.device) - coarse[0]) / step
    axis = 2 * axis / max(len(coarse) - 1, 1) - 1
    known = torch.stack([frequencies * grid_mask, grid_mask.to(frequencies)])[None]
    # nearest known value where all neighbours are unknown: widen what is known by one cell twice
    for _ in range(2):
        total = torch.nn.functional.avg_pool3d(known, 3, 1, 1)
        filled = torch.cat([total[:, :1] / total[:, 1:].clamp(min=1e-9), (total[:, 1:] > 1e-6).to(total)], dim=1)
        known = torch.where(known[:, 1:] > 0, known, filled)
    out = torch.zeros_like(mask)
    for z in range(n):
        plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
        grid = torch.cat([plane, torch.full_like(plane[..., :1], float(axis[z]))], dim=-1)[None, None]
        value, weight = torch.nn.functional.grid_sample(
            known, grid, align_corners=True, padding_mode="border"
        )[0, :, 0]  # fmt: skip
        out[z] = torch.where((mask[z] > 0.5) & (value > 0), weight / value.clamp(min=1e-9), torch.zeros_like(value))
    return out
