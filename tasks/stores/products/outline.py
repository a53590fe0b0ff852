"""Sizes of exposures and particles, as their products in the store have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np

from tasks.records.exposure import Exposure
from tasks.records.forecast import Outline
from tasks.records.particles import ParticleSet
from tasks.stores.products.exposure_store import exposure, is_imported
from tasks.stores.products.observations import stack_geometry
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError

_MOST_ASKED = 20
"""Exposures: a session may have tens of thousands, and most have one kind of them."""


def exposures_outline(store: SessionStore, exposure_ids: Sequence[str]) -> Outline:
    """The largest of some imported exposures, and how many they are."""
    return outline_of([exposure(store, exposure_id) for exposure_id in exposure_ids])


def movies_outline(store: SessionStore, exposure_ids: Sequence[str]) -> Outline:
    """The same, with the type in which the frames of the largest are stored."""
    abouts = [exposure(store, exposure_id) for exposure_id in exposure_ids]
    largest = max(abouts, key=lambda about: about.n_frames * about.shape[0] * about.shape[1])
    try:
        reader = store.exposure_product(largest.id, "import_session").read()
        bytes_per_px = reader.item_bytes("frames" if "frames" in reader else "micrograph")
    except StoreError:  # it expired, and its item will say so
        bytes_per_px = 1
    return outline_of(abouts).model_copy(update={"bytes_per_px": bytes_per_px})


def session_outline(store: SessionStore) -> Outline:
    """Of a session by some of its exposures; its particles, once they are in a table, in proportion to these."""
    every = store.exposure_ids()
    some = every[:: math.ceil(len(every) / _MOST_ASKED) or 1]
    imported = [e for e in some if is_imported(store, e)] or list(
        islice((e for e in every if is_imported(store, e)), 1)
    )
    if not imported:
        raise StoreError(f"session {store.session.name}: has no exposures yet; give the folder with its movies")
    n_exposures = max(1, round(len(every) * len(imported) / len(some)))
    about = movies_outline(store, imported).model_copy(update={"n_exposures": n_exposures})
    extracted = store.product("particles/extracted").record()
    if extracted is None or extracted.state != "done":
        return about
    n_particles, n_extracted = (int(extracted.figures.get(name) or 0) for name in ("n_particles", "n_exposures"))
    return about.model_copy(update={"n_particles": round(n_particles / max(1, n_extracted) * n_exposures)})


def outline_of(abouts: Sequence[Exposure]) -> Outline:
    """The largest of some exposures, and how many they are."""
    return Outline(
        n_exposures=len(abouts),
        n_frames=max(about.n_frames for about in abouts),
        shape=max((about.shape for about in abouts), key=lambda shape: shape[0] * shape[1]),
        pixel_size_angstrom=min(about.optics.pixel_size_angstrom for about in abouts),
    )


def particles_outline(store: SessionStore, particles: ParticleSet) -> Outline:
    """Of a particle set, with the images of its first particle for those of all: only one stack is asked."""
    geometry = stack_geometry(store, particles.select(np.arange(min(1, len(particles)))))
    return Outline(
        n_exposures=len(particles.exposure_ids),
        n_particles=len(particles),
        most_particles=int(np.bincount(particles["exposure"], minlength=1).max()) if len(particles) else 0,
        box=geometry.box,
        particle_pixel_size_angstrom=geometry.pixel_size_angstrom,
    )
