"""Gold-standard refinement: two halves of the particles, each with a reference of its own, compared by FSC.

Particles are split once; the halves share nothing but the initial map, low-passed, and the frame below 40 Å. Each
iteration takes the best pose of every particle (a grid search, then least squares), since at the signal of single
proteins above 200 kDa posteriors are narrower than the fine step; below that, soft posteriors would be the better
choice. Blocks write their sums and poses to scratch products and one item puts them together, so that an interrupted
refinement continues at the block it lost.

Where particles were added to those that were refined with the same parameters and the same initial map, the next
refinement starts from the last one. Each half starts from its own last half map, low-passed to where the halves agreed
well, never from the map of both. Particles that were there start at their last poses and are sought near them; new
ones are sought everywhere. Which half a particle belongs to follows from the particle and the seed alone, so none ever
changes it. The result depends on the order in which the data came, which its fingerprint does not show;
``renewed_from`` in the details of its record does.
"""

from __future__ import annotations

import logging
import math

from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.maps.refinement import alignment_memory_bytes, comparison_memory_bytes, search_spacing_rad
from kernels.rotations import symmetry_group
from tasks.records.forecast import Need, Outline
from tasks.records.renewal import Renewal
from tasks.records.session import StageReport
from tasks.refinement.alignment import align_block
from tasks.refinement.halves import merge_halves
from tasks.refinement.images import CACHED_BLOCKS, block_bytes, particle_source
from tasks.refinement.iterations import MAP, PARTICLES, STAGE, VERSION, RefinementScratch
from tasks.refinement.params import RefineMapParams
from tasks.refinement.products import write_products
from tasks.refinement.radii import SEARCH_ANGSTROM
from tasks.refinement.renewal import last_refinement, renewal_of
from tasks.refinement.rounds import run_iterations
from tasks.refinement.start import start, start_again
from tasks.stores.products.map_store import density_map
from tasks.stores.products.outline import particles_outline
from tasks.stores.products.particle_store import read_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import require_workers
from tasks.workers.items import run_all
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)


@task(name="refine_map", cache_policy=NO_CACHE)
def refine_map(session_url: str, params: RefineMapParams) -> StageReport:
    """Half maps, mask, FSC and poses of ``particles/selected`` (else ``particles/extracted``).

    Writes ``particles/refined`` and, last, ``maps/refined``. Memory and disk: see `need`, which foresees the last
    iteration, of all particles to Nyquist; it is refused before the first where that one would not fit.
    """
    store = SessionStore.open(session_url)
    report = StageReport(stage=STAGE)
    inputs = store.fingerprints([particle_source(store), f"maps/{params.initial_map}"])
    scratch = Scratch(store, STAGE, VERSION, params, inputs)
    if all(store.product(address).is_current(scratch.fingerprint) for address in (PARTICLES, MAP)):
        report.kept.extend([PARTICLES, MAP])
        return report
    renewed_from = last_refinement(scratch)
    particles = read_particles(store.product(particle_source(store)).read())
    foreseen = fitting(store, "GPU", need(particles_outline(store, particles), params), report)
    with foreseen, stage_usage(require_workers("GPU"), "GPU", report):
        _refine(renewal_of(scratch, renewed_from.fingerprint) if renewed_from else scratch, renewed_from, inputs)
    report.done.extend([PARTICLES, MAP])
    found = density_map(store, "refined")
    logger.info(
        "refine_map: %d particles, %s, %s Å; %.1f CPU-s",
        found.n_particles, found.symmetry, found.resolution_angstrom, report.cpu_seconds,
    )  # fmt: skip
    return report


def need(about: Outline, params: RefineMapParams) -> Need:
    """What a refinement needs in its last iteration: poses of a block to Nyquist, or both halves put together."""
    n_half = math.ceil(0.51 * about.n_particles)
    n_blocks = max(1, math.ceil(n_half / params.particles_per_block))
    box, block = about.box, block_bytes(math.ceil(n_half / n_blocks), about.box)
    radius, order = max(1, round(about.field_angstrom / SEARCH_ANGSTROM)), len(symmetry_group(params.symmetry))
    spacing = search_spacing_rad(radius, box, about.particle_pixel_size_angstrom, params.diameter_angstrom, order)
    align_bytes = alignment_memory_bytes(
        math.ceil(n_half / n_blocks), box, radius, spacing, order, params.n_candidates
    )  # fmt: skip
    least = block + max(align_bytes, comparison_memory_bytes(box, params.symmetry)) + 400 * about.n_particles
    n_coefficients = about.n_particles * block / 12 / max(1, math.ceil(n_half / n_blocks))
    return Need(
        stage=STAGE,
        n_items=2 * n_blocks,
        memory_bytes=least + (min(CACHED_BLOCKS, 2 * n_blocks) - 1) * block,
        least_memory_bytes=least,
        disk_bytes=(2 * n_blocks * 50 + 60) * box**3 + 200 * about.n_particles,
        cpu_seconds=5 + 6.5e-6 * n_coefficients * params.max_iterations / 10 + 8e-6 * box**3,
        told_from=about.particles_words,
        remedy="lower `refine_map.particles_per_block`, or extract smaller images (`extract_particles.output_box_px`)",
    )


def _refine(scratch: RefinementScratch, renewed_from: Renewal | None, inputs: dict[str, str]) -> None:
    """Run the iterations that are not in scratch yet, to the products."""
    state = run_iterations(scratch, start_again if renewed_from else start, align_block, merge_halves)
    run_all(write_products, [scratch], state, renewed_from, inputs, label="GPU", name=STAGE)
    scratch.remove()
