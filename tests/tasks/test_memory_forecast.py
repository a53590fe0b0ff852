"""The memory that stages foresee against what their items take, each in a process of its own."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.optics import Optics
from tasks import correct_motion as motion_stage
from tasks import refine_map as refinement_stage
from tasks.correct_motion import CorrectMotionParams
from tasks.records.density_map import DensityMap
from tasks.records.exposure import Exposure
from tasks.records.particle_identity import half_sets
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams
from tasks.stores.commit import Record
from tasks.stores.products.map_store import describe
from tasks.stores.products.outline import exposures_outline, particles_outline
from tasks.stores.products.particle_store import read_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.allotment import allotted, forget_other_stages
from tasks.workers.blocks import _make_block
from tasks.workers.stage import _make_product, _StoreOfGroup
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import imaged
from tests.truth.peak_memory import peak_memory_bytes

MOTION = CorrectMotionParams()
FIELD = 192.0
REFINEMENT = RefineMapParams(diameter_angstrom=130, symmetry="O", particles_per_block=30)


def write_movie(store: SessionStore, shape: tuple[int, int], n_frames: int, pixel_size: float) -> None:
    """Counts of a rough specimen that drifts by a pixel a frame."""
    rng = np.random.default_rng(1)
    specimen = torch.nn.functional.avg_pool2d(torch.from_numpy(rng.standard_normal((1, *shape))), 5, 1, 2)[0].numpy()
    expected = (1 + 0.5 * specimen / specimen.std()).clip(0)
    frames = np.stack([rng.poisson(np.roll(expected, (i, i // 2), (0, 1))) for i in range(n_frames)]).astype(np.uint8)
    about = Exposure(
        id="e", name="e.tiff", source="e.tiff", content_hash="e", kind="movie", n_frames=n_frames, shape=shape,
        dose_per_frame=1.5, optics=Optics(300.0, 2.7, 0.1, pixel_size),
    )  # fmt: skip
    with store.exposure_product("e", "import_session").write("import_session", 1, StageParams(), {}) as attempt:
        attempt.write("frames", frames)
        attempt.details["exposure"] = about.model_dump(mode="json")


def correct(url: str) -> None:
    made = _make_product("e", _StoreOfGroup(url), motion_stage._STAGE, MOTION)
    assert isinstance(made, Record) and made.state == "done"


@pytest.mark.parametrize(
    ("shape", "n_frames", "pixel_size"), [((600, 640), 10, 1.5), ((1200, 1280), 12, 1.1), ((1000, 1040), 8, 2.5)]
)
def test_motion_correction_takes_what_was_foreseen(store, shape, n_frames, pixel_size):
    write_movie(store, shape, n_frames, pixel_size)
    foreseen = motion_stage.need(exposures_outline(store, ["e"]), MOTION)
    found = peak_memory_bytes(f"{__name__}:correct", store.url)
    assert store.exposure_product("e", "correct_motion").record().state == "done"
    assert found <= foreseen.memory_bytes <= 2 * found


def test_a_movie_corrected_in_little_memory_is_the_same(store):
    write_movie(store, (600, 640), 10, 1.5)
    micrographs = []
    for spare in (math.inf, 0.0):
        with allotted(spare):
            correct(store.url)
        product = store.exposure_product("e", "correct_motion")
        micrographs.append(product.read()["micrograph"])
        product._record_location.remove_file()
    np.testing.assert_array_equal(*micrographs)


# --- refinement -------------------------------------------------------------------------------------------------------


def write_last_iteration(store: SessionStore, box: int, n_particles: int) -> Scratch[RefineMapParams]:
    """Noise where a refinement is about to align to Nyquist; images and maps of noise take as much memory as others."""
    generator, rng = torch.Generator().manual_seed(3), np.random.default_rng(3)
    projections = torch.randn(n_particles, box, box, generator=generator)
    particles = write_extracted(store, imaged(projections, FIELD / box, 1.0))
    density = rng.standard_normal((box, box, box), dtype=np.float32)
    with store.product("maps/initial").write("build_initial_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", density)
        about = DensityMap(name="initial", kind="initial", pixel_size_angstrom=FIELD / box, symmetry="O")
        describe(attempt, about)
    scratch = refinement_scratch(store.url)
    with scratch.write("iteration_000") as attempt:
        refinement_stage._write_iteration(
            attempt, _state(box), reference_1=density, reference_2=density, noise=np.ones((2, box // 2), np.float32),
            half_set=half_sets(particles, 1), is_found=np.zeros(n_particles, bool),
            **refinement_stage._no_poses(n_particles),
        )  # fmt: skip
    return scratch


def refinement_scratch(url: str) -> Scratch[RefineMapParams]:
    store = SessionStore.open(url)
    inputs = store.fingerprints(["particles/extracted", "maps/initial"])
    return Scratch(store, "refine_map", refinement_stage._VERSION, REFINEMENT, inputs)


def _state(box: int) -> refinement_stage._State:
    return refinement_stage._State(iteration=0, radius=box // 2 - 3, is_amplitude_known=True)


def align(url: str, box: str) -> None:
    scratch = refinement_scratch(url)
    for block in refinement_stage._blocks(scratch):
        name = refinement_stage._block_name(1, block)
        _make_block((name, block), scratch, refinement_stage._align_block, _state(int(box)), False)


def merge(url: str, box: str) -> None:
    scratch = refinement_scratch(url)
    blocks = refinement_stage._blocks(scratch)
    _make_block(("iteration_001", 1), scratch, refinement_stage._merge, _state(int(box)), blocks, True)


@pytest.mark.parametrize("box", [64, 96])
def test_the_last_iteration_takes_what_was_foreseen(store, box):
    write_last_iteration(store, box, n_particles=60)
    particles = read_particles(store.product("particles/extracted").read())
    foreseen = refinement_stage.need(particles_outline(store, particles), REFINEMENT)
    found = max(peak_memory_bytes(f"{__name__}:{step}", store.url, str(box)) for step in ("align", "merge"))
    assert found <= foreseen.memory_bytes <= 2 * found
    written = sum(path.stat().st_size for path in (Path(store.url) / "scratch").rglob("*") if path.is_file())
    assert 0.5 * written <= foreseen.disk_bytes <= 2 * written


def test_a_refinement_of_blocks_that_are_not_kept_aligns_alike(store):
    scratch = write_last_iteration(store, 64, n_particles=60)
    found = []
    for spare in (math.inf, 0.0):
        with allotted(spare):
            forget_other_stages("none")
            align(store.url, "64")
        names = [refinement_stage._block_name(1, block) for block in refinement_stage._blocks(scratch)]
        found.append([scratch.read(name)[array] for name in names for array in ("rotation", "data")])
        scratch.remove(*names)
    for with_room, without in zip(*found, strict=True):
        np.testing.assert_array_equal(with_room, without)
