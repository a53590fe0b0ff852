"""Micrographs of hollow cages at known places: 24 blobs on a shell, any orientation, CTF and white noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies
from kernels.optics import Optics
from kernels.rotations import random_rotations, symmetry_group
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.session import StageParams
from tasks.stores.session_store import SessionStore

DIAMETER = 125.0
OPTICS = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=3.3)
DEFOCUS = Defocus.of(15000.0, 14600.0, math.radians(30))


@dataclass(frozen=True)
class Crowd:
    """A micrograph and where its particles are."""

    image: Tensor
    """(y, x)."""
    coordinate_px: NDArray
    """(particle, 2) fractional."""


def crowd(
    shape: tuple[int, int] = (400, 427),
    n_particles: int = 60,
    signal_to_noise: float = 0.2,
    seed: int = 0,
    optics: Optics = OPTICS,
    defocus: Defocus = DEFOCUS,
) -> Crowd:
    """Cages that do not overlap; ``signal_to_noise`` is the ratio of variances where there is protein."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    pixel_size = optics.pixel_size_angstrom
    coordinate = _apart(shape, n_particles, 1.05 * DIAMETER / pixel_size, random)
    direction = symmetry_group("O").float() @ torch.tensor([0.2, 0.5, 0.84])
    blobs = direction / direction.norm(dim=1, keepdim=True) * 0.41 * DIAMETER / pixel_size
    rotation = random_rotations(max(1, n_particles), generator)[: len(coordinate)]
    centre = torch.as_tensor(coordinate).float()[:, None] + torch.einsum("pij,bj->pbi", rotation, blobs)[..., 1:]
    y, x = torch.arange(float(shape[0])), torch.arange(float(shape[1]))
    sigma = 0.08 * DIAMETER / pixel_size
    along_y = torch.exp(-((y - centre[..., :1].reshape(-1, 1)) ** 2) / (2 * sigma**2))
    along_x = torch.exp(-((x - centre[..., 1:].reshape(-1, 1)) ** 2) / (2 * sigma**2))
    projection = along_y.T @ along_x
    noise = torch.randn(shape, generator=generator)
    if not len(coordinate):
        return Crowd(noise, coordinate)
    shown = torch.fft.rfftn(projection) * ctf(frequencies(shape, pixel_size), defocus, optics)
    signal = torch.fft.irfftn(shown, s=shape)
    return Crowd(signal * math.sqrt(signal_to_noise) / signal[projection > 0.1].std() + noise, coordinate)


def _apart(shape: tuple[int, int], n: int, distance: float, random: np.random.Generator) -> NDArray:
    found: list[NDArray] = []
    for candidate in random.uniform((0, 0), shape, size=(100 * n, 2)):
        if len(found) < n and all(np.hypot(*(candidate - other)) >= distance for other in found):
            found.append(candidate)
    return np.array(found).reshape(-1, 2)


def matched(found: NDArray, truth: NDArray, distance: float) -> NDArray:
    """(pair, 2) indices of found and true points, each used once, nearest pairs first."""
    gaps = np.linalg.norm(found[:, None] - truth[None], axis=-1)
    pairs = []
    while gaps.size and gaps.min() <= distance:
        i, j = np.unravel_index(gaps.argmin(), gaps.shape)
        pairs.append((i, j))
        gaps[i], gaps[:, j] = np.inf, np.inf
    return np.array(pairs, dtype=int).reshape(-1, 2)


def put_curated(
    store: SessionStore, name: str, image: NDArray, optics: Optics = OPTICS, defocus: Defocus = DEFOCUS
) -> str:
    """A ready-made micrograph in a store, as if imported, fitted and accepted; returns its id."""
    exposure = Exposure(
        id=name, name=f"{name}.mrc", source=str(Path("/data") / f"{name}.mrc"), content_hash="0" * 64,
        kind="micrograph", n_frames=1, shape=image.shape, optics=optics,
    )  # fmt: skip
    fit = ExposureCtf(
        defocus_u_angstrom=float(defocus.u_angstrom), defocus_v_angstrom=float(defocus.v_angstrom),
        defocus_angle_deg=math.degrees(float(defocus.angle_rad)), fit_correlation=0.5, fit_resolution_angstrom=5.0,
    )  # fmt: skip
    params = StageParams()
    with store.exposure_product(name, "import_session").write("import_session", 1, params, {}) as attempt:
        attempt.write("micrograph", np.asarray(image, dtype=np.float32))
        attempt.details["exposure"] = exposure.model_dump(mode="json")
    with store.exposure_product(name, "estimate_ctf").write("estimate_ctf", 1, params, {}) as attempt:
        attempt.details["ctf"] = fit.model_dump(mode="json")
    with store.exposure_product(name, "curate_exposures").write("curate_exposures", 1, params, {}):
        pass
    return name
