"""Fourier shell correlation between half maps, its correction for the mask, and the resolution it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier

_WORKING_ELEMENTS = 1_000_000
"""Coefficients that are compared at once."""


@dataclass(frozen=True)
class CorrectedFsc:
    """Shell correlations of two half maps, (shell,) each; shell s lies at s / (box · pixel size)."""

    unmasked: Tensor
    masked: Tensor
    randomised: Tensor
    """Masked, after the phases beyond ``first_random_shell`` were made random: what the mask alone correlates."""
    corrected: Tensor
    """The masked one without the mask's share; equal to it before ``first_random_shell + 2``."""
    first_random_shell: int


def fsc(a: Tensor, b: Tensor) -> Tensor:
    """(shell,) correlation of two maps (z, y, x), or images (y, x), on each shell up to Nyquist."""
    ndim = a.ndim
    return fsc_of_transforms(fourier.transform(a, ndim), fourier.transform(b, ndim), a.shape)


def fsc_of_transforms(a: Tensor, b: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """(shell,) shell correlation of two half-transforms of maps or images of ``shape``.

    Memory: 8 bytes a coefficient beside the transforms.
    """
    index = fourier.shell_index(shape, device=a.device)
    weights = fourier.hermitian_weights(shape, device=a.device)
    n_shells = max(shape) // 2 + 1
    cross, power_a, power_b = torch.zeros(3, n_shells, dtype=weights.dtype, device=a.device)
    n_rows = max(1, _WORKING_ELEMENTS // a[0].numel())
    for i, first, second in zip(index.split(n_rows), a.split(n_rows), b.split(n_rows)):
        cross += fourier.shell_sums((first * second.conj()).real * weights, i, n_shells)
        power_a += fourier.shell_sums(first.abs() ** 2 * weights, i, n_shells)
        power_b += fourier.shell_sums(second.abs() ** 2 * weights, i, n_shells)
    return cross / (power_a * power_b).sqrt().clamp(min=1e-30)


def masked_fsc(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """(shell,) correlation of two maps (z, y, x) inside of a mask."""
    return fsc_of_transforms(fourier.transform(a * mask, 3), fourier.transform(b * mask, 3), a.shape)


def corrected_fsc(half_1: Tensor, half_2: Tensor, mask: Tensor, generator: torch.Generator) -> CorrectedFsc:
    """Shell correlations of half maps inside a soft mask, with the mask's own correlation taken off.

    Phases are made random beyond the last shell where the unmasked correlation reaches 0.8; what lies below keeps
    its phases, so that what the mask spreads from there to higher shells is taken off too.

    Source
    ------
    Chen et al. 2013, Ultramicroscopy 135:24, eq. 4.

    Memory: about 28 bytes a voxel beside the maps.
    """
    shape = half_1.shape
    masked = masked_fsc(half_1, half_2, mask)
    transforms = [fourier.transform(half_1, 3), fourier.transform(half_2, 3)]
    unmasked = fsc_of_transforms(transforms[0], transforms[1], shape)
    strong = (unmasked[1:] >= 0.8).nonzero()
    start = int(strong[-1]) + 2 if len(strong) else 1
    # each takes the place of the one that it is made from
    for i in range(2):
        transforms[i] = randomise_phases(transforms[i], shape, start, generator)
        transforms[i] = fourier.transform(fourier.inverse(transforms[i], shape) * mask, 3)
    randomised = fsc_of_transforms(transforms[0], transforms[1], shape)
    corrected = (masked - randomised) / (1 - randomised).clamp(min=1e-6)
    shells = torch.arange(len(masked), device=masked.device)
    corrected = torch.where(shells < start + 2, masked, corrected)
    return CorrectedFsc(unmasked, masked, randomised, corrected, start)


def randomise_phases(
    half_transform: Tensor, shape: tuple[int, ...] | torch.Size, first_shell: int, generator: torch.Generator
) -> Tensor:
    """Half-transform with its amplitudes, and from ``first_shell`` on with phases of noise, Friedel pairs kept."""
    index = fourier.shell_index(shape, device=half_transform.device)
    # phases of a real noise image are random and keep the Friedel symmetry
    noise = torch.randn(*shape, generator=generator, device=generator.device).to(half_transform.device)
    phases = fourier.transform(noise, len(shape))
    del noise
    phases /= phases.abs().clamp(min=1e-20)
    phases *= half_transform.abs()
    return torch.where(index >= first_shell, phases, half_transform)


def significant_correlation(
    n_shells: int, n_operations: int = 1, threshold: float = 0.143, n_deviations: float = 3.0
) -> Tensor:
    """(shell,) threshold, raised on low shells to some standard deviations of the correlation of noise.

    Symmetry leaves a shell of radius s about 2 π s² / n_operations independent coefficients; in octahedral symmetry
    three deviations are above 0.143 up to shell 28.
    """
    shell = torch.arange(n_shells, dtype=torch.float32).clamp(min=1)
    deviation = (4 * math.pi * shell**2 / n_operations).rsqrt()
    return (n_deviations * deviation).clamp(min=threshold, max=0.9)


def crossing_shell(curve: Tensor, threshold: float | Tensor) -> float:
    """Shell, with fraction, where a curve first falls below a threshold and stays there for two shells.

    The threshold may differ from shell to shell. The last shell where the curve never falls below; 0 where it starts
    below.
    """
    excess = curve - torch.as_tensor(threshold, device=curve.device, dtype=curve.dtype)
    below = excess[1:] < 0
    lasting = below & torch.cat([below[1:], below.new_ones(1)])
    found = lasting.nonzero()
    if not len(found):
        return float(len(curve) - 1)
    s = int(found[0]) + 1
    if s == 1:
        return 0.0
    before, after = float(excess[s - 1]), float(excess[s])
    return s - 1 + max(before, 0.0) / max(before - after, 1e-12)


def resolution_angstrom(
    curve: Tensor, box: int, pixel_size_angstrom: float, threshold: float | Tensor = 0.143
) -> float:
    """Resolution in Å where a shell correlation crosses a threshold; infinite where it starts below."""
    shell = crossing_shell(curve, threshold)
    return box * pixel_size_angstrom / shell if shell > 0 else float("inf")


def signal_to_noise(curve: Tensor, last_shell: float | None = None) -> Tensor:
    """(shell,) spectral signal-to-noise ratio of one half map: FSC / (1 - FSC), zero past the last signal.

    ``last_shell`` is where that lies; where the curve crosses 0.143 when None.
    """
    last = crossing_shell(curve, 0.143) if last_shell is None else last_shell
    kept = torch.arange(len(curve), device=curve.device) <= last
    return torch.where(kept, curve.clamp(0.0, 0.9999) / (1 - curve.clamp(0.0, 0.9999)), torch.zeros_like(curve))
