"""Particle images as the Fourier coefficients that classification and first maps are made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.optics import Optics
from kernels.particles.expectation import Disc, pack
from tasks.records.particles import ParticleSet
from tasks.stores.products.exposure_store import exposure
from tasks.stores.products.particle_store import stacks
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError


@dataclass(frozen=True)
class Geometry:
    """Size of the particle images of a set, one for all of its exposures."""

    box: int
    pixel_size_angstrom: float

    @property
    def field_angstrom(self) -> float:
        return self.box * self.pixel_size_angstrom


def stack_geometry(store: SessionStore, particles: ParticleSet) -> Geometry:
    """Box and pixel size of the stacks; raises ValueError where the exposures of the set differ in them."""
    found: dict[Geometry, str] = {}
    for exposure_id in _exposures_of(particles):
        reader = store.exposure_product(exposure_id, "extract_particles").read()
        pixel_size = reader.attributes.get("pixel_size_angstrom")
        if pixel_size is None:
            pixel_size = exposure(store, exposure_id).optics.pixel_size_angstrom
        found.setdefault(Geometry(reader.shape("image")[-1], round(float(pixel_size), 6)), exposure_id)
    if len(found) != 1:
        listing = "; ".join(f"{e}: {g.box} px of {g.pixel_size_angstrom} Å" for g, e in found.items())
        raise ValueError(f"particle stacks differ ({listing}); expected one box and pixel size: extract them alike")
    return next(iter(found))


def read_coefficients(
    store: SessionStore, particles: ParticleSet, geometry: Geometry, coefficients: Disc, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Images and CTFs of a set as coefficients of a disc, one exposure in memory at a time.

    Returns
    -------
    (particle, m) complex, scaled such that white noise of standard deviation 1 has variance 1 in each coefficient;
    (particle, m) CTF.
    """
    m = len(coefficients.shell)
    images = torch.empty(len(particles), m, dtype=torch.complex64)
    transfer = torch.empty(len(particles), m)
    on_cpu = coefficients.to("cpu")
    frequency = on_cpu.points.float() / geometry.field_angstrom
    for rows, stack in stacks(store, particles):
        exposure_id = particles.exposure_ids[int(particles["exposure"][rows[0]])]
        stack_tensor = torch.from_numpy(stack)
        if not bool(torch.isfinite(stack_tensor).all()):
            raise StoreError(f"exposure {exposure_id}: its particle stack has NaN or infinite pixels; extract it again")
        images[rows] = pack(fourier.transform(stack_tensor), on_cpu) / geometry.box
        transfer[rows] = ctf(frequency, _defocus(particles.select(rows)), _optics(store, exposure_id, geometry))
    return images.to(device), transfer.to(device)


def reading_memory_bytes(n_particles: int, box: int) -> int:
    """Peak of `read_coefficients` beside what it returns: the stack of one exposure of so many particles."""
    return 24 * n_particles * box**2 + 60_000_000


def _exposures_of(particles: ParticleSet) -> list[str]:
    return [particles.exposure_ids[number] for number in sorted(set(particles["exposure"].tolist()))]


def _defocus(particles: ParticleSet) -> Defocus:
    names = ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_rad", "phase_shift_rad")
    return Defocus(*(torch.from_numpy(particles[name].copy()) for name in names))


def _optics(store: SessionStore, exposure_id: str, geometry: Geometry) -> Optics:
    optics = exposure(store, exposure_id).optics
    return Optics(
        optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast, geometry.pixel_size_angstrom
    )
