"""The particles that are refined, and the coefficients of a block of them."""

from __future__ import annotations

import math
from functools import lru_cache

from torch import Tensor

from kernels.particles.expectation import Disc, disc
from tasks.records.particles import ParticleSet
from tasks.refinement.iterations import STAGE, Block, RefinementScratch, iteration_name, rows_of
from tasks.stores.products.observations import Geometry, read_coefficients, stack_geometry
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore
from tasks.workers.allotment import kept, n_pieces
from tasks.workers.device import device

CACHED_BLOCKS = 4


def particle_source(store: SessionStore) -> str:
    """Address of the table that is refined."""
    is_selected = store.product("particles/selected").record_if_done() is not None
    return "particles/selected" if is_selected else "particles/extracted"


@lru_cache(maxsize=1)
def particles_of(scratch: RefinementScratch) -> tuple[ParticleSet, Geometry]:
    """The table that is refined and the size of its images; the latter asks every exposure, so a worker keeps it."""
    source = next(address for address in scratch.inputs if address.startswith("particles/"))
    particles = read_particles(scratch.store.product(source).read())
    return particles, stack_geometry(scratch.store, particles)


def block_bytes(n_particles: int, box: int) -> int:
    """Images and transfer functions of a block to Nyquist."""
    return int(12 * n_particles * math.pi / 2 * (box / 2 - 1) ** 2)


def block_coefficients(block: Block, scratch: RefinementScratch) -> tuple[Geometry, Disc, Tensor, Tensor]:
    """Images and CTFs of a block; a worker keeps the last few blocks, so that iterations read them once."""
    _, geometry = particles_of(scratch)
    n_kept = n_pieces(block_bytes(block[2] - block[1], geometry.box), CACHED_BLOCKS)
    return kept(STAGE, (block, scratch), lambda: _read_block(block, scratch), n_kept)


def _read_block(block: Block, scratch: RefinementScratch) -> tuple[Geometry, Disc, Tensor, Tensor]:
    particles, geometry = particles_of(scratch)
    rows = rows_of(scratch.read(iteration_name(0)), block)
    coefficients = disc(geometry.box, geometry.box // 2 - 1)
    images, transfer = read_coefficients(scratch.store, particles.select(rows), geometry, coefficients, device())
    return geometry, coefficients.to(images.device), images, transfer
