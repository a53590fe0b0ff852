"""What lies in scratch while a part is refined, beside the iterations that all refinements have."""

from __future__ import annotations

from functools import lru_cache

from kernels.maps.part_refinement import Place
from tasks.part_refinement.params import RefinePartParams
from tasks.records.particles import ParticleSet
from tasks.refinement.iterations import iteration_name
from tasks.stores.commit import Record
from tasks.stores.products.observations import Geometry, stack_geometry
from tasks.stores.products.particle_store import read_particles
from tasks.stores.products.scratch import Scratch

STAGE, VERSION = "refine_part", 1
WHOLE, WHOLE_PARTICLES = "refined", "particles/refined"
"""Name of the map, and address of the particles, of the refinement that a part starts from."""
SPREAD = ("deviation", "precision")
"""Tables of an iteration: where particles lie from their known poses, and how sure their images are of that."""

PartScratch = Scratch[RefinePartParams]


@lru_cache(maxsize=1)
def whole_particles(scratch: PartScratch) -> tuple[ParticleSet, Geometry]:
    """The particles of the whole and the size of their images; the latter asks every exposure."""
    particles = read_particles(scratch.store.product(WHOLE_PARTICLES).read())
    return particles, stack_geometry(scratch.store, particles)


def place_in(scratch: PartScratch) -> Place:
    """Where the part lies, as iteration 0 found it."""
    record = scratch.record(iteration_name(0))
    assert isinstance(record, Record)
    return Place(tuple(record.details["middle_px"]), record.details["diameter_px"])
