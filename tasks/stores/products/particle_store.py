"""Particle sets in the store, and reading the images that belong to them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.records.particles import COLUMNS, ParticleSet
from tasks.stores.commit import Attempt, Reader
from tasks.stores.session_store import SessionStore


def write_particles(attempt: Attempt, particles: ParticleSet) -> None:
    """Write a particle table into a product, one array a column."""
    for name, column in particles.columns.items():
        attempt.write(name, column)
    attempt.set_attributes({"exposure_ids": list(particles.exposure_ids)})


def read_particles(reader: Reader) -> ParticleSet:
    """The particle table of a product."""
    columns = {name: reader[name] for name in reader.names if name in COLUMNS}
    return ParticleSet(tuple(reader.attributes["exposure_ids"]), columns)


def particle_images(store: SessionStore, particles: ParticleSet) -> NDArray[np.float32]:
    """(particle, y, x) images in the order of the set; each exposure's stack is read once, whole."""
    images: NDArray[np.float32] | None = None
    for rows, stack in stacks(store, particles):
        if images is None:
            images = np.empty((len(particles), *stack.shape[1:]), dtype=np.float32)
        images[rows] = stack
    if images is None:
        raise ValueError("the particle set is empty")
    return images


def stacks(store: SessionStore, particles: ParticleSet) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Per exposure: rows of the set and their (particle, y, x) images."""
    exposures = particles["exposure"]
    for number in np.unique(exposures):
        rows = np.flatnonzero(exposures == number)
        reader = store.exposure_product(particles.exposure_ids[number], "extract_particles").read()
        yield rows, reader["image"][particles["stack_index"][rows]].astype(np.float32)
