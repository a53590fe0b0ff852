"""Local refinement: the poses of one part of the particles, where it moves against the rest.

The map of the whole, low-passed and without the part, is projected at the known poses and taken off the images, half
by half. What is left is aligned to the part's own map about the middle of its mask, near the known poses: how far
particles deviate from these is a Gaussian prior whose widths follow from the particles, so that a part which does not
move stays where it is. Halves are those of the whole; each has a rest, a reference and poses of its own. The part's
map counts as better where its halves agree better inside the mask than those of the whole do there.

Source
------
Subtraction: Bai et al., eLife 2015, 4:e11182; parts about their own middle: Nakane et al., eLife 2018, 7:e36861.
"""

from __future__ import annotations

import logging
import math

from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.maps.refinement import alignment_memory_bytes, comparison_memory_bytes
from kernels.rotations import symmetry_group
from tasks.part_refinement.alignment import align_part
from tasks.part_refinement.halves import merge_part_halves
from tasks.part_refinement.params import RefinePartParams
from tasks.part_refinement.products import write_part
from tasks.part_refinement.scratch import STAGE, VERSION, WHOLE, WHOLE_PARTICLES, whole_particles
from tasks.part_refinement.start import start_part
from tasks.records.forecast import Need, Outline
from tasks.records.session import StageReport
from tasks.refinement.images import CACHED_BLOCKS, block_bytes
from tasks.refinement.radii import SEARCH_ANGSTROM
from tasks.refinement.rounds import run_iterations
from tasks.stores.products.map_store import density_map
from tasks.stores.products.outline import particles_outline
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import require_workers
from tasks.workers.items import run_all
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)


@task(name="refine_part", cache_policy=NO_CACHE)
def refine_part(session_url: str, params: RefinePartParams) -> StageReport:
    """``particles/<name>`` and ``maps/<name>``: the part inside a mask, from ``particles/refined`` and its map.

    Both lie in the frame of ``maps/refined``. Figures of the map say whether it is better, and how far the part moves.
    Memory and disk: see `need`.
    """
    store, report = SessionStore.open(session_url), StageReport(stage=STAGE)
    mask = params.mask.rpartition("/")[0]
    scratch = Scratch(store, STAGE, VERSION, params, store.fingerprints([WHOLE_PARTICLES, f"maps/{WHOLE}", mask]))
    products = [f"particles/{params.name}", f"maps/{params.name}"]
    if all(store.product(address).is_current(scratch.fingerprint) for address in products):
        report.kept.extend(products)
        return report
    particles, geometry = whole_particles(scratch)
    _require_fitting_mask(store, params.mask, geometry.box)
    n_copies = len(symmetry_group(density_map(store, WHOLE).symmetry))
    foreseen = fitting(store, "GPU", need(particles_outline(store, particles), params, n_copies), report)
    with foreseen, stage_usage(require_workers("GPU"), "GPU", report):
        state = run_iterations(scratch, start_part, align_part, merge_part_halves)
        run_all(write_part, [scratch], state, label="GPU", name=STAGE)
        scratch.remove()
    report.done.extend(products)
    figures = store.product(products[1]).done_record("the part").figures
    logger.info(
        "refine_part: %s, %s Å in the mask, %s Å before; turns by %s°, moves by %s Å; %.1f CPU-s",
        params.name, figures["resolution_angstrom"], figures["whole_resolution_angstrom"], figures["turn_rms_deg"],
        figures["move_rms_angstrom"], report.cpu_seconds,
    )  # fmt: skip
    return report


def _require_fitting_mask(store: SessionStore, address: str, box: int) -> None:
    product, _, array = address.rpartition("/")
    shape = store.product(product).read().shape(array)
    if shape != (box,) * 3:
        raise ValueError(
            f"{address}: has {shape} voxels, but the particle images have {box} px a side; give a mask on the voxels of"
            f" maps/{WHOLE}"
        )


def need(about: Outline, params: RefinePartParams, n_copies: int) -> Need:
    """What the last iteration needs: poses of a block to Nyquist, or both halves put together.

    Parameters
    ----------
    n_copies
        Of the part that symmetry makes in each particle; all of them are aligned.
    """
    n_particles, box = n_copies * about.n_particles, about.box
    n_half = math.ceil(0.51 * n_particles)
    n_blocks = max(1, math.ceil(n_half / params.particles_per_block))
    n_block = math.ceil(n_half / n_blocks)
    block, radius = block_bytes(n_block, box), max(1, round(about.field_angstrom / SEARCH_ANGSTROM))
    spacing = math.radians(params.turn_range_deg)
    align_bytes = alignment_memory_bytes(n_block, box, radius, spacing, 1, params.n_candidates + 1)
    least = 2 * block + max(align_bytes, comparison_memory_bytes(box, "C1")) + 800 * n_particles
    return Need(
        stage=STAGE,
        n_items=2 * n_blocks,
        memory_bytes=least + (min(CACHED_BLOCKS, 2 * n_blocks) - 1) * block,
        least_memory_bytes=least,
        disk_bytes=(2 * n_blocks * 50 + 80) * box**3 + 400 * n_particles,
        cpu_seconds=5 + 1e-5 * n_particles * block / 12 / n_block * params.max_iterations / 10 + 8e-6 * box**3,
        told_from=about.particles_words,
        remedy="lower `particles_per_block` of refine_part, or extract smaller images",
    )
