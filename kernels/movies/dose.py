"""Radiation damage: how the signal fades with dose, and frames summed with that in mind."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.optics import electron_wavelength_angstrom


def critical_dose(frequency_per_angstrom: Tensor, voltage_kv: float = 300.0) -> Tensor:
    """Dose in e⁻/Å² after which the signal's power at a frequency has fallen to 1/e; infinite at zero frequency.

    Source
    ------
    Fit of Grant & Grigorieff, eLife 2015, 4:e06980, measured at 300 kV. Damage per electron goes with the inverse
    square of its speed, which gives their factor 0.8 at 200 kV, and 0.57 at 120 kV.
    """
    return (0.245 * frequency_per_angstrom**-1.665 + 2.81) * (_squared_speed(voltage_kv) / _squared_speed(300.0))


def _squared_speed(voltage_kv: float) -> float:
    """(v / c)² = 1 - 1 / gamma², from the electron's wavelength: lambda = h / (gamma m v)."""
    compton_wavelength_angstrom = 0.0242631
    gamma_beta = compton_wavelength_angstrom / electron_wavelength_angstrom(voltage_kv)
    return gamma_beta**2 / (1 + gamma_beta**2)


def dose_weights(
    frequency_per_angstrom: Tensor, dose_electrons_per_angstrom2: Tensor, voltage_kv: float = 300.0
) -> Tensor:
    """Share of the signal amplitude that survives a dose.

    Parameters
    ----------
    frequency_per_angstrom
        (\\*half_shape) length of the spatial frequency.
    dose_electrons_per_angstrom2
        (frame,) dose received by the end of each frame.

    Returns
    -------
    (frame, \\*half_shape) weights in [0, 1], equal to 1 at zero frequency.

    Source
    ------
    Grant & Grigorieff, eLife 2015, 4:e06980: exp(-N / 2 Nc).
    """
    rate = -0.5 / critical_dose(frequency_per_angstrom, voltage_kv)
    dose = dose_electrons_per_angstrom2.to(rate).reshape(-1, *[1] * rate.ndim)
    return torch.exp(dose * rate)


def restored(weighted_sum: Tensor, sum_of_squared_weights: Tensor, n_frames: int) -> Tensor:
    """Sum of weighted frame transforms with its noise brought back to that of the plain sum of ``n_frames``."""
    return weighted_sum * torch.sqrt(n_frames / sum_of_squared_weights.clamp(min=1e-12))
