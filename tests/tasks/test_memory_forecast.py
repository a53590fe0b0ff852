"""The memory that stages foresee against what their items take, each in a process of its own."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from kernels.optics import Optics
from tasks import build_initial_map as first_map_stage
from tasks import classify_2d as classification_stage
from tasks import correct_motion as motion_stage
from tasks import estimate_ctf as ctf_stage
from tasks import extract_particles as extraction_stage
from tasks import pick_particles as picking_stage
from tasks import refine_map as refinement_stage
from tasks.build_initial_map import BuildInitialMapParams
from tasks.classify_2d import Classify2dParams
from tasks.correct_motion import CorrectMotionParams
from tasks.estimate_ctf import EstimateCtfParams
from tasks.extract_particles import ExtractParticlesParams
from tasks.pick_particles import PickParticlesParams
from tasks.records.density_map import DensityMap
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.particle_identity import half_sets
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams
from tasks.refinement.alignment import align_block
from tasks.refinement.halves import merge_halves
from tasks.refinement.iterations import VERSION as REFINEMENT_VERSION
from tasks.refinement.iterations import State, block_name, blocks_of, write_iteration
from tasks.refinement.start import no_poses
from tasks.stores.commit import Record
from tasks.stores.products.map_store import describe
from tasks.stores.products.outline import exposures_outline, movies_outline, particles_outline
from tasks.stores.products.particle_store import read_particles, write_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.stores.upkeep.costs import add_costs, read_costs
from tasks.workers.allotment import allotted, forget_other_stages
from tasks.workers.blocks import _make_block
from tasks.workers.room import DoesNotFitError
from tasks.workers.stage import Stage, _make_product, _StoreOfGroup
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import imaged
from tests.truth.peak_memory import assert_foreseen, peak_memory_bytes

MOTION = CorrectMotionParams()
FIELD = 192.0
REFINEMENT = RefineMapParams(diameter_angstrom=130, symmetry="O", particles_per_block=30)


def write_movie(store: SessionStore, shape: tuple[int, int], n_frames: int, pixel_size: float, name: str = "e") -> None:
    """Counts of a rough specimen that drifts by a pixel a frame."""
    rng = np.random.default_rng(1)
    specimen = torch.nn.functional.avg_pool2d(torch.from_numpy(rng.standard_normal((1, *shape))), 5, 1, 2)[0].numpy()
    expected = (1 + 0.5 * specimen / specimen.std()).clip(0)
    frames = np.stack([rng.poisson(np.roll(expected, (i, i // 2), (0, 1))) for i in range(n_frames)]).astype(np.uint8)
    about = Exposure(
        id=name, name=f"{name}.tiff", source=f"{name}.tiff", content_hash=name, kind="movie", n_frames=n_frames,
        shape=shape, dose_per_frame=1.5, optics=Optics(300.0, 2.7, 0.1, pixel_size),
    )  # fmt: skip
    with store.exposure_product(name, "import_session").write("import_session", 1, StageParams(), {}) as attempt:
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
    foreseen = motion_stage.need(movies_outline(store, ["e"]), MOTION)
    found = peak_memory_bytes(f"{__name__}:correct", store.url)
    assert store.exposure_product("e", "correct_motion").record().state == "done"
    assert_foreseen(foreseen, found)


def in_any_room(store: SessionStore, make: Callable[[str], None], stage: str, name: str) -> list[NDArray]:
    """An array of the stage's product, made with all the memory that it can use and with the least."""
    found = []
    for spare in (math.inf, 0.0):
        with allotted(spare):
            make(store.url)
        product = store.exposure_product("e", stage)
        found.append(product.read()[name])
        product._record_location.remove_file()
    return found


def test_a_movie_corrected_in_little_memory_is_the_same(store):
    write_movie(store, (600, 640), 10, 1.5)
    np.testing.assert_array_equal(*in_any_room(store, correct, "correct_motion", "micrograph"))


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
        write_iteration(
            attempt, _state(box), reference_1=density, reference_2=density, noise=np.ones((2, box // 2), np.float32),
            half_set=half_sets(particles, 1), is_found=np.zeros(n_particles, bool),
            **no_poses(n_particles),
        )  # fmt: skip
    return scratch


def refinement_scratch(url: str) -> Scratch[RefineMapParams]:
    store = SessionStore.open(url)
    inputs = store.fingerprints(["particles/extracted", "maps/initial"])
    return Scratch(store, "refine_map", REFINEMENT_VERSION, REFINEMENT, inputs)


def _state(box: int) -> State:
    return State(iteration=0, radius=box // 2 - 3, is_amplitude_known=True)


def align(url: str, box: str) -> None:
    scratch = refinement_scratch(url)
    for block in blocks_of(scratch):
        name = block_name(1, block)
        _make_block((name, block), scratch, align_block, _state(int(box)), False)


def merge(url: str, box: str) -> None:
    scratch = refinement_scratch(url)
    blocks = blocks_of(scratch)
    _make_block(("iteration_001", 1), scratch, merge_halves, _state(int(box)), blocks, True)


@pytest.mark.parametrize("box", [64, 96])
def test_the_last_iteration_takes_what_was_foreseen(store, box):
    write_last_iteration(store, box, n_particles=60)
    particles = read_particles(store.product("particles/extracted").read())
    foreseen = refinement_stage.need(particles_outline(store, particles), REFINEMENT)
    found = max(peak_memory_bytes(f"{__name__}:{step}", store.url, str(box)) for step in ("align", "merge"))
    assert_foreseen(foreseen, found)
    written = sum(path.stat().st_size for path in (Path(store.url) / "scratch").rglob("*") if path.is_file())
    assert 0.5 * written <= foreseen.disk_bytes <= 2 * written


def test_a_refinement_of_blocks_that_are_not_kept_aligns_alike(store):
    scratch = write_last_iteration(store, 64, n_particles=60)
    found = []
    for spare in (math.inf, 0.0):
        with allotted(spare):
            forget_other_stages("none")
            align(store.url, "64")
        names = [block_name(1, block) for block in blocks_of(scratch)]
        found.append([scratch.read(name)[array] for name in names for array in ("rotation", "data")])
        scratch.remove(*names)
    for with_room, without in zip(*found, strict=True):
        np.testing.assert_array_equal(with_room, without)


# --- micrographs ------------------------------------------------------------------------------------------------------

PICKING = PickParticlesParams(diameter_angstrom=130)
EXTRACTION = ExtractParticlesParams(diameter_angstrom=130)


def write_micrograph(store: SessionStore, shape: tuple[int, int], n_picks: int) -> None:
    """Noise that has gone through all stages up to its picks."""
    rng = np.random.default_rng(5)
    about = Exposure(
        id="e", name="e.mrc", source="e.mrc", content_hash="e", kind="micrograph", n_frames=1, shape=shape,
        optics=Optics(300.0, 2.7, 0.1, 1.1),
    )  # fmt: skip
    ctf = ExposureCtf(
        defocus_u_angstrom=15000, defocus_v_angstrom=15000, defocus_angle_deg=0, phase_shift_deg=0,
        fit_correlation=0.9, fit_resolution_angstrom=4,
    )  # fmt: skip
    for stage in ("import_session", "curate_exposures", "estimate_ctf", "pick_particles"):
        with store.exposure_product("e", stage).write("earlier", 1, StageParams(), {}) as attempt:
            if stage == "import_session":
                attempt.write("micrograph", rng.standard_normal(shape, dtype=np.float32))
                attempt.details["exposure"] = about.model_dump(mode="json")
            elif stage == "estimate_ctf":
                attempt.details["ctf"] = ctf.model_dump(mode="json")
            elif stage == "pick_particles":
                inside = rng.random((n_picks, 2)) * (np.array(shape) - 300) + 150
                attempt.write("coordinate_px", inside.astype(np.float32))
                attempt.write("score", np.ones(n_picks, np.float32))
                attempt.figures["n_picks"] = n_picks


def fit_ctf(url: str) -> None:
    _make_product("e", _StoreOfGroup(url), ctf_stage._STAGE, EstimateCtfParams())


def extract(url: str) -> None:
    _make_product("e", _StoreOfGroup(url), extraction_stage.STAGE, EXTRACTION)


def pick(url: str) -> None:
    stage = Stage("pick_particles", 1, "GPU", picking_stage._pick, picking_stage._inputs)
    _make_product("e", _StoreOfGroup(url), stage, PICKING)


@pytest.mark.parametrize("shape", [(1200, 1280), (2048, 2048)])
def test_stages_of_a_micrograph_take_what_was_foreseen(store, shape):
    write_micrograph(store, shape, n_picks=200)
    about = exposures_outline(store, ["e"])
    extraction = extraction_stage._needs(store, ["e"], EXTRACTION)
    assert f"up to 200 windows of {extraction_stage.sides(1.1, EXTRACTION)[0]} px" in extraction.told_from
    for step, foreseen in (
        ("extract", extraction),
        ("fit_ctf", ctf_stage.need(about, EstimateCtfParams())),
        ("pick", picking_stage.need(about, PICKING)),
    ):
        found = peak_memory_bytes(f"{__name__}:{step}", store.url)
        assert store.exposure_product("e", foreseen.stage).record().state == "done"
        assert_foreseen(foreseen, found)


def test_particles_extracted_a_few_at_a_time_are_the_same(store):
    write_micrograph(store, (600, 640), n_picks=60)
    np.testing.assert_array_equal(*in_any_room(store, extract, "extract_particles", "image"))


# --- particles --------------------------------------------------------------------------------------------------------

CLASSES = Classify2dParams(n_classes=12)
FIRST_MAP = BuildInitialMapParams(symmetry="O", n_restarts=1, n_iterations=2, n_final_iterations=2)


def classify(url: str) -> None:
    scratch = classification_scratch(url)
    _make_block(("sums", (0, 100)), scratch, classification_stage._sum_block, CLASSES.n_iterations - 1)


def classification_scratch(url: str) -> Scratch[Classify2dParams]:
    store = SessionStore.open(url)
    inputs = store.fingerprints(["particles/extracted"])
    return Scratch(store, "classify_2d", classification_stage._VERSION, CLASSES, inputs)


def find_first_map(url: str) -> None:
    store = SessionStore.open(url)
    inputs = store.fingerprints(["particles/selected"])
    scratch = Scratch(store, "build_initial_map", first_map_stage._VERSION, FIRST_MAP, inputs)
    _make_block((first_map_stage._name(0), 0), scratch, first_map_stage._restart)
    _make_block(("final", 0), scratch, first_map_stage._final)


def test_classes_and_a_first_map_take_what_was_foreseen(store):
    projections = torch.randn(100, 64, 64, generator=torch.Generator().manual_seed(3))
    particles = write_extracted(store, imaged(projections, FIELD / 64, 1.0))
    about = particles_outline(store, particles)
    with store.product("particles/selected").write("classify_2d", 1, StageParams(), {}) as attempt:
        write_particles(attempt, particles)
    scratch = classification_scratch(store.url)
    state = classification_stage._state
    _make_block((state(0), (0, 100)), scratch, classification_stage._start_block, CLASSES.n_classes)
    first = scratch.read(state(0))
    with scratch.write(state(CLASSES.n_iterations - 1)) as attempt:
        for name in ("average", "noise_variance", "share"):
            attempt.write(name, first[name])
        attempt.figures["shift_variance_px2"] = 2.0
    for step, foreseen in (
        ("classify", classification_stage.need(about, CLASSES)),
        ("find_first_map", first_map_stage.need(about, FIRST_MAP)),
    ):
        found = peak_memory_bytes(f"{__name__}:{step}", store.url)
        assert_foreseen(foreseen, found)


def test_classes_from_blocks_that_are_not_kept_are_the_same(store):
    projections = torch.randn(60, 48, 48, generator=torch.Generator().manual_seed(3))
    write_extracted(store, imaged(projections, FIELD / 48, 1.0))
    scratch = classification_scratch(store.url)
    found, name = [], classification_stage._state(0)
    for spare in (math.inf, 0.0):
        with allotted(spare):
            forget_other_stages("none")
            for block in ((0, 30), (30, 60), (0, 30)):
                _make_block((name, block), scratch, classification_stage._start_block, CLASSES.n_classes)
                found.append(scratch.read(name)["average"])
                scratch.remove(name)
    for with_room, without in zip(found[:3], found[3:], strict=True):
        np.testing.assert_array_equal(with_room, without)


@contextmanager
def small_worker(memory: str) -> Iterator[None]:
    """One that has little beside what its process takes."""
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, resources={"CPU": 1, "GPU": 1}, dashboard_address=":0",
        memory_limit=memory,
    )  # fmt: skip
    with cluster, Client(cluster, set_as_default=True):
        yield


def test_stages_that_do_not_fit_their_worker_are_refused_with_the_figure_before_an_item_starts(store):
    write_micrograph(store, (2048, 2048), n_picks=20)
    store.exposure_product("e", "estimate_ctf")._record_location.remove_file()
    projections = torch.randn(60, 48, 48, generator=torch.Generator().manual_seed(3))
    particles = write_extracted(store, imaged(projections, FIELD / 48, 1.0))
    with store.product("particles/selected").write("classify_2d", 1, StageParams(), {}) as attempt:
        write_particles(attempt, particles)
    with small_worker("600MB"):
        with pytest.raises(DoesNotFitError, match=r"estimate_ctf: needs 0\.2\d GB for one of 1 items \(2048 × 2048 px"):
            ctf_stage.estimate_ctf.fn(store.url, ["e"], EstimateCtfParams())
        with pytest.raises(DoesNotFitError, match=r"classify_2d: needs 0\.\d+ GB .* lower `classify_2d\.n_classes`"):
            classification_stage.classify_2d.fn(store.url, CLASSES)
        with pytest.raises(DoesNotFitError, match=r"build_initial_map: needs 0\.\d+ GB .* raise `build_initial_map"):
            first_map_stage.build_initial_map.fn(store.url, FIRST_MAP)
    assert store.exposure_product("e", "estimate_ctf").record() is None
    assert not store.names("scratch")


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_foreseen_from_the_first_batch_is_what_the_rest_takes(store, workers):
    for name in ("e", "f", "g"):
        write_movie(store, (600, 640), 10, 1.5, name)
    add_costs(store, [motion_stage.correct_motion.fn(store.url, ["e"], MOTION)])
    ratio = read_costs(store)["correct_motion"].ratio
    foreseen = ratio * motion_stage.need(movies_outline(store, ["f", "g"]), MOTION).cpu_seconds
    found = motion_stage.correct_motion.fn(store.url, ["f", "g"], MOTION).cpu_seconds
    assert 0.5 * found <= foreseen <= 2 * found
