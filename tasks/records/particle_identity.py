"""Which particle is which from one table to the next, and what follows from that alone: its half set.

A particle is its exposure and the whole pixel of the micrograph that its window is centred on. Tables are sorted,
filtered and appended to while a session runs; rows and numbers of exposures change, this does not.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from tasks.records.particles import ParticleSet

_SAMPLED = 256


def particle_keys(particles: ParticleSet) -> NDArray[np.uint64]:
    """(particle,) a number that is the same for a particle in every table it stands in."""
    of_exposure = np.array(
        [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") for name in particles.exposure_ids],
        dtype=np.uint64,
    )
    y, x = np.round(particles["coordinate_px"]).astype(np.int64).astype(np.uint64).T
    return _mixed(_mixed(of_exposure[particles["exposure"]] ^ y) ^ x)


def half_sets(particles: ParticleSet, seed: int) -> NDArray[np.int8]:
    """(particle,) 1 or 2 by chance, each particle for itself: no history and no other particle can change its half."""
    drawn = _mixed(particle_keys(particles) ^ _mixed(np.array([seed], dtype=np.uint64)))
    return (1 + (drawn >> np.uint64(63))).astype(np.int8)


def rows_in(keys: NDArray[np.uint64], table: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(particle,) row at which each of ``keys`` stands in ``table``, -1 where it does not."""
    if not len(table):
        return np.full(len(keys), -1, dtype=np.int64)
    order = np.argsort(table, kind="stable")
    place = order[np.searchsorted(table, keys, sorter=order).clip(max=len(table) - 1)]
    return np.where(table[place] == keys, place, -1).astype(np.int64)


def sample_of(particles: ParticleSet) -> list[str]:
    """Keys of up to 256 particles, evenly over the table: enough to recognise the set by in a commit record."""
    keys = np.sort(particle_keys(particles))
    rows = np.linspace(0, len(keys) - 1, min(_SAMPLED, len(keys))).round().astype(int)
    return [f"{key:016x}" for key in keys[rows].tolist()]


def share_left(sample: list[str], particles: ParticleSet) -> float:
    """Share of the particles of `sample_of` an earlier set that stand in this one."""
    known = np.array([int(key, 16) for key in sample], dtype=np.uint64)
    return float((rows_in(known, particle_keys(particles)) >= 0).mean()) if len(known) else 0.0


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of the result depends on every bit of the value (the finaliser of SplitMix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
