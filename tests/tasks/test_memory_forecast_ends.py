"""Peak memory of the first and the last stages of a session against what was said before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from kernels.masks import soft_sphere
from kernels.rotations import random_rotations
from tasks import diagnose_gain as gain_stage
from tasks import forecast_resolution as forecast_stage
from tasks import import_session as import_stage
from tasks import sharpen_map as sharpening_stage
from tasks.forecast_resolution import ForecastResolutionParams
from tasks.gain_doctor.one_exposure import NoParams
from tasks.import_session import ImportSessionParams
from tasks.intake.one_file import Work, import_file
from tasks.records.density_map import DensityMap
from tasks.records.particle_identity import half_sets
from tasks.records.session import StageParams
from tasks.records.source_file import SourceFile
from tasks.sharpen_map import SharpenMapParams
from tasks.stores.products.map_store import describe
from tasks.stores.products.outline import movies_outline, particles_outline
from tasks.stores.products.particle_store import write_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.blocks import _make_block
from tasks.workers.stage import _make_product, _StoreOfGroup
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import imaged
from tests.truth.peak_memory import assert_foreseen, peak_memory_bytes

IMPORT = ImportSessionParams(kind="movies", pixel_size_angstrom=1.1, dose_per_frame=1.0)
FORECAST = ForecastResolutionParams()
SHARPENING = SharpenMapParams(resolution_angstrom=5.0)
PIXEL = 2.0


def import_one(url: str, path: str) -> None:
    found = import_file(Work(SourceFile.of(Path(path)), ""), url, import_stage._rules(IMPORT), True)
    assert found.record is not None and found.record.state == "done"


def sum_counts(url: str, exposure_id: str) -> None:
    _make_product(exposure_id, _StoreOfGroup(url), gain_stage._SUMS_OF_EXPOSURE, NoParams())
    assert SessionStore.open(url).exposure_product(exposure_id, "diagnose_gain").record().state == "done"


@pytest.mark.parametrize(("shape", "n_frames"), [((1200, 1280), 24), ((2048, 2100), 10)])
def test_an_import_and_the_sums_of_a_movie_take_what_was_foreseen(store, tmp_path, shape, n_frames):
    path = tmp_path / "movie.tiff"
    counts = np.random.default_rng(2).poisson(1, (n_frames, *shape)).astype(np.uint8)
    tifffile.imwrite(path, counts, compression="lzw", photometric="minisblack")
    about = import_stage.outline_of_folder(str(tmp_path), IMPORT)
    assert (about.n_exposures, about.n_frames, about.shape) == (1, n_frames, shape)
    foreseen = import_stage.need(about, IMPORT)
    found = peak_memory_bytes(f"{__name__}:import_one", store.url, str(path))
    assert_foreseen(foreseen, found)
    (exposure_id,) = store.exposure_ids()
    written = store.exposure_product(exposure_id, "import_session").record().n_bytes
    assert 0.5 * written <= foreseen.disk_bytes <= 2 * written
    foreseen = gain_stage.need(movies_outline(store, [exposure_id]), has_gain=False)
    found = peak_memory_bytes(f"{__name__}:sum_counts", store.url, exposure_id)
    assert_foreseen(foreseen, found)


def sharpen(url: str) -> None:
    _make_product("maps/sharpened", _StoreOfGroup(url), sharpening_stage._sharpening, SHARPENING)
    assert SessionStore.open(url).product("maps/sharpened").record().state == "done"


def forecast_scratch(url: str) -> Scratch[ForecastResolutionParams]:
    store = SessionStore.open(url)
    inputs = store.fingerprints(["particles/refined", "maps/refined"])
    return Scratch(store, "forecast_resolution", forecast_stage._VERSION, FORECAST, inputs)


def compare_parts(url: str) -> None:
    scratch = forecast_scratch(url)
    for half in (1, 2):
        for group in range(forecast_stage._n_groups(scratch)):
            _make_block((f"half_{half}_group_{group}", (half, group)), scratch, forecast_stage._sum_group)
    _make_block(("points", None), scratch, forecast_stage._compare_parts)


@pytest.mark.parametrize("box", [80, 128])
def test_sharpening_and_the_forecast_of_resolution_take_what_was_foreseen(store, box):
    n_particles = 120
    generator = torch.Generator().manual_seed(4)
    particles = write_extracted(store, imaged(torch.randn(n_particles, box, box, generator=generator), PIXEL, 1.0))
    refined = particles.with_columns(
        rotation=random_rotations(n_particles, generator).numpy(),
        shift_angstrom=np.zeros((n_particles, 2), np.float32),
        half_set=half_sets(particles, 1),
    )
    with store.product("particles/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        write_particles(attempt, refined)
    with store.product("maps/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        for name in ("half_1", "half_2"):
            attempt.write(name, torch.randn(box, box, box, generator=generator).numpy())
        attempt.write("mask", soft_sphere(box, 0.35 * box, 3).numpy())
        attempt.write("fsc_curves", np.tile(np.linspace(1, 0, box // 2 + 1, dtype=np.float32), (5, 1)))
        describe(attempt, DensityMap(name="refined", kind="refined", pixel_size_angstrom=PIXEL, symmetry="C1"))
    foreseen = sharpening_stage._needs(store, ["maps/sharpened"], SHARPENING)
    found = peak_memory_bytes(f"{__name__}:sharpen", store.url)
    assert_foreseen(foreseen, found)
    about = particles_outline(store, particles)
    foreseen = forecast_stage.need(about, FORECAST)
    found = peak_memory_bytes(f"{__name__}:compare_parts", store.url)
    assert_foreseen(foreseen, found)
