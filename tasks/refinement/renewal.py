"""Whether a refinement starts from the last one."""

from __future__ import annotations

import logging
from dataclasses import replace

from tasks.records.density_map import DensityMap
from tasks.records.particle_identity import half_sets, particle_keys, rows_in
from tasks.records.renewal import Renewal
from tasks.refinement.images import particles_of
from tasks.refinement.iterations import MAP, PARTICLES, VERSION, RefinementScratch, iteration_name
from tasks.refinement.radii import first_radius, trusted_shell
from tasks.stores.commit import Record
from tasks.stores.products.map_store import read_map
from tasks.stores.products.particle_store import read_particles

logger = logging.getLogger(__name__)

_SHARE_LEFT = 0.5
"""A set in which less than this is left of the last one is another set."""
_FREE_TO_CHANGE = {"start", "max_iterations", "particles_per_block"}
"""Parameters that do not forbid to start from the last map."""


def last_refinement(scratch: RefinementScratch) -> Renewal | None:
    """The refinement to start from, None to start from the initial map."""
    record = scratch.store.product(MAP).record()
    if scratch.params.start == "initial" or record is None or record.state != "done" or record.attempt is None:
        return None
    # an interrupted renewal has all it needs in scratch, also when its particles are written and its map is not
    is_under_way = renewal_of(scratch, record.fingerprint).record(iteration_name(0)) is not None
    reason = None if is_under_way else _reason_against(record, scratch)
    if reason:
        logger.info("refine_map: from maps/%s: %s", scratch.params.initial_map, reason)
        return None
    n_particles = int(record.figures["n_particles"] or 0)
    logger.info("refine_map: from the last map, of %d particles", n_particles)
    generation = 1 + int(record.figures["generation"] or 0)
    return Renewal(product=MAP, fingerprint=record.fingerprint, n_particles=n_particles, generation=generation)


def renewal_of(scratch: RefinementScratch, last_fingerprint: str) -> RefinementScratch:
    """Where a refinement of the same inputs lies that starts from the last one."""
    return replace(scratch, inputs=scratch.inputs | {MAP: last_fingerprint})


def _reason_against(record: Record, scratch: RefinementScratch) -> str | None:
    """Why the refinement of a record is not where this one starts, None where it is."""
    store, params, initial = scratch.store, scratch.params, f"maps/{scratch.params.initial_map}"
    ours = params.model_dump(mode="json")
    changed = sorted(name for name in ours.keys() - _FREE_TO_CHANGE if record.params.get(name) != ours[name])
    if record.stage_version != VERSION or changed:
        return f"the last map is of other parameters ({', '.join(changed)})"
    if record.inputs.get(initial) != scratch.inputs[initial]:
        return f"{initial} is another one than the last map started from"
    poses = store.product(PARTICLES).record()
    if poses is None or poses.attempt is None or poses.fingerprint != record.fingerprint:
        return f"{PARTICLES} and {MAP} are not of one refinement"
    particles, geometry = particles_of(scratch)
    last = read_map(store, "refined")
    if last.shape("map")[-1] != geometry.box or _pixel_size_of(record) != geometry.pixel_size_angstrom:
        return "the particle images have another size"
    if trusted_shell(last) <= first_radius(geometry, params):
        return f"the last halves agree well no further than {params.initial_low_pass_angstrom:g} Å"
    before = read_particles(store.product(PARTICLES).read())
    rows = rows_in(particle_keys(before), particle_keys(particles))
    if (rows >= 0).mean() < _SHARE_LEFT:
        return "the last map is of other particles"
    is_left = rows >= 0
    if (half_sets(particles, params.seed)[rows[is_left]] != before["half_set"][is_left]).any():
        return "the last halves were drawn in another way"
    return None


def _pixel_size_of(record: Record) -> float:
    return DensityMap.model_validate(record.details["density_map"]).pixel_size_angstrom
