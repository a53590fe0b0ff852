"""Sizes of exposures and particles, as their products in the store have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.records.exposure import Exposure
from tasks.records.forecast import Outline
from tasks.records.particles import ParticleSet
from tasks.stores.products.exposure_store import exposure
from tasks.stores.products.observations import stack_geometry
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError


def exposures_outline(store: SessionStore, exposure_ids: Sequence[str]) -> Outline:
    """The largest of some imported exposures, and how many they are."""
    abouts = [exposure(store, exposure_id) for exposure_id in exposure_ids]
    largest = max(abouts, key=lambda about: about.n_frames * about.shape[0] * about.shape[1])
    try:
        reader = store.exposure_product(largest.id, "import_session").read()
        bytes_per_px = reader.item_bytes("frames" if "frames" in reader else "micrograph")
    except StoreError:  # it expired, and its item will say so
        bytes_per_px = 1
    return outline_of(abouts, bytes_per_px)


def outline_of(abouts: Sequence[Exposure], bytes_per_px: int) -> Outline:
    """The largest of some exposures, and how many they are."""
    return Outline(
        n_exposures=len(abouts),
        n_frames=max(about.n_frames for about in abouts),
        shape=max((about.shape for about in abouts), key=lambda shape: shape[0] * shape[1]),
        bytes_per_px=bytes_per_px,
        pixel_size_angstrom=min(about.optics.pixel_size_angstrom for about in abouts),
    )


def particles_outline(store: SessionStore, particles: ParticleSet) -> Outline:
    """Of a particle set, with the images of its first particle for those of all: only one stack is asked."""
    geometry = stack_geometry(store, particles.select(np.arange(min(1, len(particles)))))
    return Outline(
        n_exposures=len(particles.exposure_ids),
        n_particles=len(particles),
        box=geometry.box,
        particle_pixel_size_angstrom=geometry.pixel_size_angstrom,
    )
