"""What a session will need, told from the header of a file before anything is imported."""

import numpy as np
import pytest
import tifffile

from flows.forecast import needs_of, outline_of
from flows.recipe import read_recipe
from tasks.report.needs import need_rows
from tasks.stores.upkeep.costs import Cost

RECIPE = read_recipe("demo", {"import_session.pixel_size_angstrom": "1.1"})


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        counts = rng.poisson(1, (4, 300, 320)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"movie_{i}.tiff", counts, compression="lzw", photometric="minisblack")
    (tmp_path / "cut_off.tiff").write_bytes(b"II*\0" + bytes(200_000))
    return tmp_path


def test_a_folder_is_told_from_the_largest_header_that_can_be_read(folder):
    about = outline_of(str(folder), RECIPE)
    assert (about.n_exposures, about.n_frames, about.shape) == (4, 4, (300, 320))
    assert (about.bytes_per_px, about.pixel_size_angstrom) == (1, 1.1)


def test_a_header_is_read_once_for_files_alike_and_again_for_a_larger_one(folder):
    before = outline_of(str(folder), RECIPE)
    rng = np.random.default_rng(1)
    for name, side, expected in (("alike", 300, (300, 320)), ("larger", 400, (400, 320))):
        counts = rng.poisson(1, (4, side, 320)).astype(np.uint8)
        tifffile.imwrite(folder / f"{name}.tiff", counts, compression="lzw", photometric="minisblack")
        if name == "alike":
            (folder / "movie_0.tiff").write_bytes(bytes((folder / "movie_0.tiff").stat().st_size))
        about = outline_of(str(folder), RECIPE)
        assert about.shape == expected
    assert about.n_exposures == before.n_exposures + 2


def test_a_folder_without_a_header_says_so(tmp_path):
    (tmp_path / "cut_off.tiff").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match="no header"):
        outline_of(str(tmp_path), RECIPE)


def test_every_stage_that_computes_has_a_row_and_what_it_cost_so_far_counts(folder):
    about = outline_of(str(folder), RECIPE).model_copy(update={"n_exposures": 1000, "shape": (4092, 5760)})
    needs = needs_of(RECIPE, about)
    rows = need_rows(needs, {})
    assert [row["stage"] for row in rows[:3]] == ["import_session", "diagnose_gain", "correct_motion"]
    assert [row["stage"] for row in rows[-3:]] == ["sharpen_map", "forecast_resolution", "all"]
    dearer = {need.stage: Cost(cpu_seconds=200, foreseen_cpu_seconds=100) for need in needs}
    hours = [float(found[-1]["CPU time"].removesuffix(" h")) for found in (rows, need_rows(needs, dearer))]
    assert hours[1] == pytest.approx(2 * hours[0], rel=0.05)


def test_more_of_everything_needs_more(folder):
    about = outline_of(str(folder), RECIPE)
    for change in ({"shape": (600, 640)}, {"n_frames": 40}, {"n_particles": 10_000}, {"pixel_size_angstrom": 0.8}):
        larger = about.model_copy(update=change)
        for before, after in zip(needs_of(RECIPE, about), needs_of(RECIPE, larger), strict=True):
            if "pixel_size_angstrom" not in change:
                assert after.memory_bytes >= before.memory_bytes, before.stage
                assert after.disk_bytes >= before.disk_bytes, before.stage
            assert after.least_memory_bytes <= after.memory_bytes
