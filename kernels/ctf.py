"""Defocus and the contrast transfer function in the 3DEM convention.

CTF = -sin(chi), chi = pi λ z k² - pi/2 Cs λ³ k⁴ + phase shift + asin(amplitude contrast), with z positive under
focus: protein is dark in the micrograph, and a particle image is CTF × projection of a positive map.

Source: Heymann, Chagoyen & Belnap, J. Struct. Biol. 2005, 151:196; Rohou & Grigorieff 2015, 192:216.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.optics import Optics


@dataclass(frozen=True)
class Defocus:
    """Defocus of one image or, with tensors of one shape, of many.

    ``u_angstrom >= v_angstrom`` are the extremes, positive under focus; ``angle_rad`` is the direction of u,
    counter-clockwise from the x axis towards the y axis (the ``rlnDefocusAngle`` of RELION).
    """

    u_angstrom: Tensor
    v_angstrom: Tensor
    angle_rad: Tensor
    phase_shift_rad: Tensor

    @classmethod
    def of(cls, u: float, v: float | None = None, angle_rad: float = 0.0, phase_shift_rad: float = 0.0) -> Defocus:
        """Defocus of one image from plain numbers."""
        return cls(*(torch.tensor(float(q)) for q in (u, u if v is None else v, angle_rad, phase_shift_rad)))

    @property
    def mean_angstrom(self) -> Tensor:
        return (self.u_angstrom + self.v_angstrom) / 2

    @property
    def astigmatism_angstrom(self) -> Tensor:
        return self.u_angstrom - self.v_angstrom


def phase_aberration(frequency_per_angstrom: Tensor, defocus: Defocus, optics: Optics) -> Tensor:
    """chi of the module's first line.

    Parameters
    ----------
    frequency_per_angstrom
        (\\*half_shape, 2) frequency vectors (y, x).
    defocus
        Of batch shape (...).

    Returns
    -------
    (..., \\*half_shape) phases in radians.
    """
    y, x = frequency_per_angstrom[..., 0], frequency_per_angstrom[..., 1]
    squared = y * y + x * x
    batch = (..., *([None] * squared.ndim))
    u, v, angle, phase = (
        torch.as_tensor(q, device=squared.device, dtype=squared.dtype)[batch]
        for q in (defocus.u_angstrom, defocus.v_angstrom, defocus.angle_rad, defocus.phase_shift_rad)
    )
    # k² z(α) without trigonometry per pixel: cos 2(α - angle) k² = (x² - y²) cos 2angle + 2 x y sin 2angle
    along = (x * x - y * y) * torch.cos(2 * angle) + 2 * x * y * torch.sin(2 * angle)
    wavelength = optics.wavelength_angstrom
    defocus_term = math.pi * wavelength * 0.5 * ((u + v) * squared + (u - v) * along)
    spherical_term = 0.5 * math.pi * optics.spherical_aberration_mm * 1e7 * wavelength**3 * squared * squared
    return defocus_term - spherical_term + phase + math.asin(optics.amplitude_contrast)


def ctf(frequency_per_angstrom: Tensor, defocus: Defocus, optics: Optics) -> Tensor:
    """Contrast transfer function, shapes as in `phase_aberration`; negative at low frequency under focus."""
    return -torch.sin(phase_aberration(frequency_per_angstrom, defocus, optics))
