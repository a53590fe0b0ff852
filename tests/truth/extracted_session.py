"""A session as `extract_particles` leaves it, from images whose truth is known."""

from __future__ import annotations

import numpy as np

from kernels.optics import Optics
from tasks.records.exposure import Exposure
from tasks.records.particles import ParticleSet, concatenate
from tasks.records.session import StageParams
from tasks.stores.products.particle_store import write_particles
from tasks.stores.session_store import SessionStore
from tests.truth.gaussian_particles import Imaged


def write_extracted(store: SessionStore, imaged: Imaged, n_exposures: int = 2) -> ParticleSet:
    """Stacks of a few exposures and the table ``particles/extracted``; particles keep their order.

    Called again with more images and as many more exposures, it adds to the session.
    """
    params = StageParams()
    images = imaged.images.numpy().astype(np.float16)
    parts = []
    for number, rows in enumerate(np.array_split(np.arange(len(images)), n_exposures)):
        name = f"exposure_{number:02d}"
        with store.exposure_product(name, "import_session").write("import_session", 1, params, {}) as attempt:
            attempt.details["exposure"] = _exposure(name, imaged.optics).model_dump(mode="json")
        part = ParticleSet(
            (name,),
            {
                "exposure": np.zeros(len(rows), "int32"),
                "stack_index": np.arange(len(rows)),
                "coordinate_px": np.stack([np.arange(len(rows)) // 50, np.arange(len(rows)) % 50], 1) * 70.0,
                "defocus_u_angstrom": imaged.defocus.u_angstrom.numpy()[rows],
                "defocus_v_angstrom": imaged.defocus.v_angstrom.numpy()[rows],
                "defocus_angle_rad": imaged.defocus.angle_rad.numpy()[rows],
                "phase_shift_rad": imaged.defocus.phase_shift_rad.numpy()[rows],
            },
        )
        with store.exposure_product(name, "extract_particles").write("extract_particles", 1, params, {}) as attempt:
            attempt.write("image", images[rows])
            write_particles(attempt, part)
            attempt.set_attributes({"pixel_size_angstrom": imaged.optics.pixel_size_angstrom})
        parts.append(part)
    particles = concatenate(parts)
    inputs = store.fingerprints([f"exposures/{part.exposure_ids[0]}/extract_particles" for part in parts])
    with store.product("particles/extracted").write("extract_particles", 1, params, inputs) as attempt:
        write_particles(attempt, particles)
    return particles


def _exposure(name: str, optics: Optics) -> Exposure:
    return Exposure(
        id=name, name=f"{name}.mrc", source=name, content_hash=name, kind="micrograph", n_frames=1, shape=(64, 64),
        optics=optics,
    )  # fmt: skip
