"""Particle stacks and their table as RELION reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kernels.optics import Optics
from tasks.formats.mrc import write_mrc
from tasks.formats.star import OpticsGroup, StarParticles, write_particles
from tasks.records.exposure import Exposure
from tasks.records.particles import ParticleSet
from tasks.session_files.exposures import file_name, is_done
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore

_HALF_A_TURN = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
"""In the plane of an image, for vectors (z, y, x)."""


def write_stack(store: SessionStore, exposure: Exposure, is_half_precision: bool, path: Path) -> None:
    """Particles as RELION keeps them: protein white, which is ours times -1."""
    dtype = np.float16 if is_half_precision else np.float32
    images = store.exposure_product(exposure.id, "extract_particles").read()["image"]
    write_mrc(path, np.negative(images.astype(dtype)), particle_pixel_size(store, exposure), is_stack=True)


def n_images(store: SessionStore, exposure_id: str) -> int:
    """Particles of an exposure that have images."""
    if not is_done(store, f"exposures/{exposure_id}/extract_particles"):
        return 0
    reader = store.exposure_product(exposure_id, "extract_particles").read()
    return reader.shape("image")[0] if "image" in reader else 0


def particle_pixel_size(store: SessionStore, exposure: Exposure) -> float:
    """Of the stack, which may be binned; that of the exposure where the stack does not say."""
    value = store.exposure_product(exposure.id, "extract_particles").read().attributes.get("pixel_size_angstrom")
    return exposure.optics.pixel_size_angstrom if value is None else float(value)


def write_particle_star(
    store: SessionStore, name: str, exposures: dict[str, Exposure], path: Path, is_mirrored: bool = False
) -> None:
    """The set ``particles/<name>`` of the exposures that are handed on; it names stacks ``particles/<id>.mrcs``.

    With ``is_mirrored`` the poses are those of the inverted map: each image is a projection of either map, half a turn
    in its plane apart.
    """
    particles = read_particles(store.product(f"particles/{name}").read())
    if is_mirrored:
        particles = particles.with_columns(rotation=_HALF_A_TURN @ particles["rotation"])
    exported = np.array([e in exposures for e in particles.exposure_ids], dtype=bool)
    if len(particles):
        particles = particles.select(exported[particles["exposure"]])
    used = sorted(set(particles["exposure"].tolist())) if len(particles) else []
    groups: dict[int, OpticsGroup] = {}
    for number in used:
        exposure = exposures[particles.exposure_ids[number]]
        pixel_size = particle_pixel_size(store, exposure)
        reader = store.exposure_product(exposure.id, "extract_particles").read()
        group = optics_group(exposure.optics_group, exposure.optics, reader.shape("image")[-1], pixel_size)
        if groups.setdefault(exposure.optics_group, group) != group:
            raise ValueError(
                f"optics group {exposure.optics_group}: exposure {exposure.id} has {group}, the others have "
                f"{groups[exposure.optics_group]}; give exposures with other optics or boxes another optics group"
            )
    if used:  # as the micrographs have it now; the set may be older than the last grouping
        own = [exposures[e].optics_group if e in exposures else 0 for e in particles.exposure_ids]
        particles = particles.with_columns(optics_group=np.array(own)[particles["exposure"]])
    if "coordinate_px" in particles:
        # shifts count from the pixel that the window was cut around, and RELION cuts at whole pixels, rounded down
        particles = particles.with_columns(coordinate_px=np.round(particles["coordinate_px"]))
    stacks = tuple(f"particles/{file_name(e)}.mrcs" for e in particles.exposure_ids)
    named = tuple(f"micrographs/{file_name(e)}.mrc" for e in particles.exposure_ids)
    content = StarParticles(
        ParticleSet(named, dict(particles.columns)), groups, stacks, particles["exposure"].astype(np.int32)
    )
    write_particles(path, content)


def optics_group(number: int, optics: Optics, image_size: int | None, pixel_size: float | None = None) -> OpticsGroup:
    """A row of the optics table; the pixel size is that of the images where it is given."""
    own = Optics(
        optics.voltage_kv,
        optics.spherical_aberration_mm,
        optics.amplitude_contrast,
        pixel_size or optics.pixel_size_angstrom,
    )
    return OpticsGroup(f"opticsGroup{number}", own, image_size)
