"""Small movies of a specimen that moves in a known way, which no model in `motion.py` can follow exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies, frequency_length
from kernels.optics import Optics

OPTICS = Optics(300.0, 2.7, 0.1, 1.1)


@dataclass(frozen=True)
class SpecimenMotion:
    """Drift that slows down with a jitter of its own, and a dome off the field's centre that relaxes early."""

    drift_px: Tensor
    """(frame, 2)"""
    dome_px: Tensor
    """(frame,) height of the dome's displacement."""
    curl_px: Tensor
    """(frame,) the same for a second mode that runs along wavy lines."""
    centre: Tensor
    """(2,) of the dome, in fractions of the field."""

    def at(self, position_px: Tensor, shape: tuple[int, int]) -> Tensor:
        """(frame, point, 2) displacement in px since the exposure began, of points (point, 2)."""
        fraction = position_px / torch.tensor(shape, dtype=position_px.dtype)
        away = fraction - self.centre
        radius = away.norm(dim=-1, keepdim=True)
        dome = away / (radius + 0.05) * torch.tanh(2.5 * radius) / (1 + radius)
        wave = torch.stack(
            [torch.sin(2.3 * fraction[:, 1] + 1.0), torch.cos(3.1 * fraction[:, 0] * (0.5 + fraction[:, 1]))], dim=-1
        )
        local = self.dome_px[:, None, None] * dome + self.curl_px[:, None, None] * wave
        return self.drift_px[:, None] + local


def random_motion(n_frames: int, seed: int, drift_px: float = 10.0, local_px: float = 5.0) -> SpecimenMotion:
    """Motion whose total drift and largest local displacement are about those given."""
    generator = torch.Generator().manual_seed(seed)
    time = (torch.arange(n_frames) + 0.5) / n_frames
    angle = 2 * math.pi * torch.rand(1, generator=generator)
    direction = torch.stack([angle.sin(), angle.cos()], dim=-1)
    bend = torch.stack([angle.cos(), -angle.sin()], dim=-1)
    along = (1 - torch.exp(-time / 0.25))[:, None]
    jitter = 0.15 * torch.randn(n_frames, 2, generator=generator)
    drift = drift_px * (along * direction + 0.3 * torch.sin(2.5 * time)[:, None] ** 2 * bend) + jitter
    return SpecimenMotion(
        drift_px=drift,
        dome_px=1.2 * local_px * (1 - torch.exp(-time / 0.12)),
        curl_px=0.25 * local_px * torch.sin(1.7 * time),
        centre=0.3 + 0.4 * torch.rand(2, generator=generator),
    )


def still(n_frames: int) -> SpecimenMotion:
    """No motion at all."""
    zero = torch.zeros(n_frames)
    return SpecimenMotion(torch.zeros(n_frames, 2), zero, zero, torch.full((2,), 0.5))


def moving_movie(
    motion: SpecimenMotion,
    shape: tuple[int, int],
    seed: int,
    *,
    counts: float | None = 2.4,
    contrast: float = 0.05,
    defocus_angstrom: float = 15000.0,
    b_factor_angstrom2: float = 80.0,
) -> tuple[Tensor, Tensor]:
    """Frames (frame, y, x) and the points (point, 2) in px at which particles sit before they move.

    Particles are clouds of 400 point scatterers of about 120 Å, seen through a CTF; ``contrast`` is the standard
    deviation of a frame without noise. With ``counts`` None the frames are noise-free and have mean 1.
    """
    generator = torch.Generator().manual_seed(seed)
    area_px = shape[0] * shape[1]
    n_particles = max(4, area_px // 26000)
    limits = torch.tensor(shape, dtype=torch.float32)
    centres = torch.rand(n_particles, 2, generator=generator) * (limits + 60) - 30
    cloud = torch.randn(n_particles, 400, 3, generator=generator)
    cloud = cloud / cloud.norm(dim=-1, keepdim=True) * 50 * torch.rand(n_particles, 400, 1, generator=generator) ** 0.2
    points = (centres[:, None] + cloud[..., 1:] / OPTICS.pixel_size_angstrom).reshape(-1, 2)
    grid = frequencies(shape, OPTICS.pixel_size_angstrom)
    length = frequency_length(shape, OPTICS.pixel_size_angstrom)
    transfer = ctf(grid, Defocus.of(defocus_angstrom, defocus_angstrom - 200.0, 0.4), OPTICS)
    transfer = transfer * torch.exp(-b_factor_angstrom2 / 4 * length**2)
    displacement = motion.at(points, shape)
    frames, scale = [], None
    for moved in points + displacement:
        signal = torch.fft.irfft2(torch.fft.rfft2(_deposit(moved, shape)) * transfer, s=shape)
        scale = contrast / signal.std() if scale is None else scale
        mean = 1 + scale * (signal - signal.mean())
        frames.append(mean if counts is None else torch.poisson(counts * mean.clamp(min=0), generator=generator))
    inside = ((centres > 0) & (centres < limits)).all(-1)
    return torch.stack(frames), centres[inside]


def _deposit(points: Tensor, shape: tuple[int, int]) -> Tensor:
    """Unit weights shared bilinearly between the four pixels around each point; outside points are dropped."""
    image = torch.zeros(shape[0] * shape[1])
    corner = points.floor()
    rest = points - corner
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = corner[:, 0].long() + dy, corner[:, 1].long() + dx
            weight = (rest[:, 0] if dy else 1 - rest[:, 0]) * (rest[:, 1] if dx else 1 - rest[:, 1])
            inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
            image.index_add_(0, y[inside] * shape[1] + x[inside], weight[inside])
    return image.reshape(shape)
