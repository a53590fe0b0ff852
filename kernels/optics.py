"""Optics of the microscope and the electron wavelength."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Optics:
    """What one optics group has in common."""

    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float
    pixel_size_angstrom: float

    def __post_init__(self) -> None:
        for name, low, high, unit in (
            ("voltage_kv", 20, 1500, "kV"),
            ("spherical_aberration_mm", 0, 20, "mm"),
            ("amplitude_contrast", 0, 1, ""),
            ("pixel_size_angstrom", 0.05, 100, "Å"),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}, expected {low} to {high} {unit}".rstrip())

    @property
    def wavelength_angstrom(self) -> float:
        return electron_wavelength_angstrom(self.voltage_kv)


def electron_wavelength_angstrom(voltage_kv: float) -> float:
    """Relativistic electron wavelength: 0.0251 Å at 200 kV, 0.0197 Å at 300 kV.

    Source
    ------
    h / sqrt(2 m e V (1 + e V / 2 m c²)) with the CODATA 2018 constants.
    """
    volts = voltage_kv * 1e3
    return 12.2642596 / math.sqrt(volts * (1 + 0.978475598e-6 * volts))
