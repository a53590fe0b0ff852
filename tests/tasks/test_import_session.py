"""Import of folders, good and bad: every file ends in the ledger, and a second look reads nothing again."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from tasks.formats import FormatError
from tasks.formats.mrc import write_mrc
from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.exposure import Exposure
from tasks.stores.files.index import FileIndex
from tasks.stores.ledger import read_ledger, rebuild
from tasks.stores.products.exposure_store import exposure
from tasks.stores.storage.location import StoreWriteError

SHAPE = (30, 44)


def counts(seed, n_frames=4, shape=SHAPE, mean=3.0):
    return np.random.default_rng(seed).poisson(mean, (n_frames, *shape)).astype(np.uint8)


def params(**changes):
    return ImportSessionParams(**{"pixel_size_angstrom": 1.1, "dose_per_frame": 2.0, **changes})


def run(store, folder, **changes):
    return import_session.fn(store.url, str(folder), params(**changes))


def states(store):
    return {line.exposure.rsplit("-", 1)[0]: line.state for line in read_ledger(store).lines}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "movies").mkdir()
    return tmp_path / "movies"


def test_a_movie_is_stored_as_counted_with_what_is_known_of_it(store, workers, folder):
    frames = counts(1)
    write_tiff_movie(folder / "FoilHole 1 (a).tif", frames, "lzw")
    report = run(store, folder, voltage_kv=200, pre_exposure=1.5)
    assert len(report.done) == report.n_seen == 1
    (exposure_id,) = report.available
    assert exposure_id.startswith("FoilHole_1_a_-")
    reader = store.exposure_product(exposure_id, "import_session").read()
    assert reader["frames"].dtype == np.uint8
    np.testing.assert_array_equal(reader["frames"], frames)
    about = exposure(store, exposure_id)
    assert about == Exposure(
        id=exposure_id,
        name="FoilHole 1 (a).tif",
        source=str(folder / "FoilHole 1 (a).tif"),
        content_hash=about.content_hash,
        kind="movie",
        n_frames=4,
        shape=SHAPE,
        optics=about.optics,
        dose_per_frame=2.0,
        pre_exposure=1.5,
    )
    assert about.optics.voltage_kv == 200
    assert about.optics.pixel_size_angstrom == 1.1
    assert reader.record.figures["total_dose"] == 8.0
    assert reader.record.figures["mean_counts_per_frame"] == pytest.approx(frames.mean())


@pytest.mark.parametrize(
    "values, stored",
    [
        (np.float32(7), "uint8"),
        (np.uint16(200), "uint8"),
        (np.uint16(300), "uint16"),
        (np.int16(-2), "int16"),
        (np.float32(0.5), "float32"),
        (np.float32(1e5), "float32"),
    ],
)
def test_counts_are_stored_in_the_smallest_type_that_holds_them(store, workers, folder, values, stored):
    frames = counts(2).astype(values.dtype)
    frames[3, 5, 6] = values
    write_mrc(folder / "a.mrcs", frames, 1.0, is_stack=True)
    (exposure_id,) = run(store, folder).done
    found = store.exposure_product(exposure_id, "import_session").read()["frames"]
    assert found.dtype == stored
    np.testing.assert_array_equal(found, frames)


def test_micrographs_are_stored_as_float_images_with_row_zero_first(store, workers, folder):
    image = np.random.default_rng(3).integers(0, 60000, (20, 33)).astype(np.uint16)
    tifffile.imwrite(folder / "a.tif", image)
    (exposure_id,) = run(store, folder, kind="micrographs", dose_per_frame=None).done
    reader = store.exposure_product(exposure_id, "import_session").read()
    assert reader.names == ["micrograph"]
    assert reader["micrograph"].dtype == np.float32
    np.testing.assert_array_equal(reader["micrograph"], image)
    assert exposure(store, exposure_id).kind == "micrograph"


@pytest.mark.filterwarnings("ignore:Data array contains NaN")
def test_every_bad_file_ends_in_the_ledger_with_its_reason_and_stops_no_other(store, workers, folder):
    write_mrc(folder / "good.mrcs", counts(0), 1.0, is_stack=True)
    write_mrc(folder / "cut_mrc.mrcs", counts(1), 1.0, is_stack=True)
    os.truncate(folder / "cut_mrc.mrcs", (folder / "cut_mrc.mrcs").stat().st_size - 1)
    write_tiff_movie(folder / "cut_tiff.tif", counts(2), "deflate")
    os.truncate(folder / "cut_tiff.tif", (folder / "cut_tiff.tif").stat().st_size // 2)
    write_tiff_movie(folder / "short.tif", counts(3, n_frames=3))
    with_nan = counts(4).astype(np.float32)
    with_nan[2] = np.nan
    write_mrc(folder / "with_nan.mrcs", with_nan, 1.0, is_stack=True)
    constant = counts(5)
    constant[1] = 6
    write_tiff_movie(folder / "constant.tif", constant)
    (folder / "no_image.tif").write_text("this is a log file")
    (folder / "no_image_either.mrc").write_bytes(b"\x89" * 5000)
    (folder / "no_eer.eer").write_bytes(b"")
    (folder / "no_link.mrc").symlink_to(folder / "gone.mrc")
    write_mrc(folder / "double.mrcs", counts(6).astype(np.float32), 1.0, is_stack=True)
    tifffile.imwrite(folder / "float64.tif", counts(7).astype(np.float64))
    report = run(store, folder, expected_frames=4)
    assert len(report.done) == 2
    reasons = {key.rsplit("-", 1)[0]: reason for key, reason in report.failed.items()}
    assert "found 6303 bytes, expected 6304" in reasons.pop("cut_mrc")
    assert "truncated" in reasons.pop("cut_tiff")
    assert "found 3 frames, expected 4" in reasons.pop("short")
    assert "frame 2 of 4 has 1320 of 1320 pixels" in reasons.pop("with_nan")
    assert "frame 1 of 4 is constant: all its pixels are 6" in reasons.pop("constant")
    assert "is not a TIFF file" in reasons.pop("no_image")
    assert "is not an MRC file" in reasons.pop("no_image_either")
    assert "is not a EER file" in reasons.pop("no_eer")
    assert "cannot be read" in reasons.pop("no_link")
    assert "float64" in reasons.pop("float64")
    assert not reasons
    ledger = read_ledger(store)
    assert ledger.counts() == {"done": 2, "failed": 1, "skipped": 0, "quarantined": 9}
    assert all(line.reason for line in ledger.lines if line.state != "done")
    rebuild(store)
    assert read_ledger(store) == ledger
    again = run(store, folder, expected_frames=4)
    assert (again.kept, again.done, again.failed) == (report.done, [], report.failed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file; run the tests as another user to see this one")
def test_a_file_without_read_permission_fails_and_is_imported_once_it_has_it(store, workers, folder):
    write_mrc(folder / "a.mrcs", counts(0), 1.0, is_stack=True)
    (folder / "a.mrcs").chmod(0)
    assert "check permissions" in next(iter(run(store, folder).failed.values()))
    (folder / "a.mrcs").chmod(0o600)
    assert len(run(store, folder).done) == 1


def test_two_files_with_one_name_are_two_exposures_and_the_same_content_is_one(store, workers, folder):
    for name in ("one", "two", "three"):
        (folder / name).mkdir()
    write_tiff_movie(folder / "one" / "a.tif", counts(1))
    write_tiff_movie(folder / "two" / "a.tif", counts(2))
    write_tiff_movie(folder / "three" / "a.tif", counts(1))
    write_tiff_movie(folder / "three" / "b.tif", counts(2))
    report = run(store, folder)
    assert len(report.done) == 2
    assert len(report.skipped) == 2
    assert all("same content as" in reason for reason in report.skipped.values())
    assert read_ledger(store).counts() == {"done": 2, "failed": 0, "skipped": 2, "quarantined": 0}
    again = run(store, folder)
    assert (again.kept, again.skipped) == (report.done, report.skipped)
    shutil.rmtree(store.location.url + "/ledger/files")  # a lost index is rebuilt
    assert len(run(store, folder).kept) == 2
    assert read_ledger(store).counts() == {"done": 2, "failed": 0, "skipped": 2, "quarantined": 0}


def test_a_copy_that_comes_later_never_takes_the_place_of_the_first(store, workers, folder):
    write_tiff_movie(folder / "m.tif", counts(1))
    first = run(store, folder).done
    write_tiff_movie(folder / "a.tif", counts(1))
    for dose in (2.0, 2.0, 3.0, 3.0):
        report = run(store, folder, dose_per_frame=dose)
        assert report.available == first
        assert len(report.skipped) == 1


def test_a_second_run_reads_no_file_again_and_a_third_only_the_new_one(store, workers, folder):
    write_tiff_movie(folder / "a.tif", counts(1))
    first = run(store, folder)
    status = (folder / "a.tif").stat()
    (folder / "a.tif").write_bytes(b"\0" * status.st_size)  # unreadable now, but not by size and time
    os.utime(folder / "a.tif", ns=(status.st_atime_ns, status.st_mtime_ns))
    write_tiff_movie(folder / "b.tif", counts(2))
    second = run(store, folder)
    assert second.kept == first.done
    assert len(second.done) == 1


def test_a_movie_that_was_cut_off_and_copied_again_becomes_an_exposure(store, workers, folder):
    write_tiff_movie(folder / "a.tif", counts(1))
    whole = (folder / "a.tif").read_bytes()
    (folder / "a.tif").write_bytes(whole[:-100])
    assert len(run(store, folder).failed) == 1
    (folder / "a.tif").write_bytes(whole)
    report = run(store, folder)
    assert (len(report.done), report.n_seen) == (1, 1)
    ledger = read_ledger(store)
    assert ledger.counts() == {"done": 1, "failed": 0, "skipped": 1, "quarantined": 0}
    (skipped,) = [line for line in ledger.lines if line.state == "skipped"]
    assert "other content now" in skipped.reason


def test_a_changed_dose_imports_again_and_a_changed_gain_does_not(store, workers, folder, tmp_path):
    write_tiff_movie(folder / "a.tif", counts(1))
    assert len(run(store, folder).done) == 1
    assert len(run(store, folder, dose_per_frame=1.0).done) == 1
    write_mrc(tmp_path / "gain.mrc", np.ones(SHAPE, np.float32), 1.0)
    assert len(run(store, folder, dose_per_frame=1.0, gain=str(tmp_path / "gain.mrc")).kept) == 1
    assert len(run(store, folder, dose_per_frame=1.0, eer_upsampling=2).kept) == 1
    gain = str(tmp_path / "gain.mrc")
    (kept,) = run(store, folder, dose_per_frame=1.0, gain=gain, gain_flip="vertical").kept
    assert store.exposure_product(kept, "import_session").read()["frames"].shape == (4, *SHAPE)


def test_gain_and_defects_are_stored_in_the_orientation_of_the_frames(store, workers, folder, tmp_path):
    gain = np.random.default_rng(1).uniform(0.5, 1.5, SHAPE).astype(np.float32)
    gain[3, 7] = 0
    as_delivered = np.rot90(gain[::-1])  # undone by a clockwise turn, then a vertical flip
    write_mrc(folder / "gain.mrc", np.ascontiguousarray(as_delivered), 1.0)
    (tmp_path / "defects.txt").write_text("# x y w h\n10 2 3 1\n")
    write_tiff_movie(folder / "a.tif", counts(1))
    how = {"gain": "gain.mrc", "gain_rotation_deg": 90, "gain_flip": "vertical"}
    report = run(store, folder, **how, defects=str(tmp_path / "defects.txt"))
    assert report.n_seen == len(report.done) == 1  # the gain in the same folder is no movie
    reader = store.product("session/gain").read()
    np.testing.assert_array_equal(reader["gain"], gain)
    expected = np.zeros(SHAPE, np.uint8)
    expected[2, 10:13] = expected[3, 7] = 1
    np.testing.assert_array_equal(reader["is_defect"], expected)
    committed = reader.record.attempt
    run(store, folder, **how, defects=str(tmp_path / "defects.txt"))
    assert store.product("session/gain").record().attempt == committed
    run(store, folder)
    assert store.product("session/gain").read().names == []


def test_a_gain_of_another_shape_quarantines_every_movie_with_the_turn_that_fits(store, workers, folder, tmp_path):
    write_tiff_movie(folder / "a.tif", counts(1))
    write_tiff_movie(folder / "b.tif", counts(2))
    assert len(run(store, folder).done) == 2
    write_mrc(tmp_path / "gain.mrc", np.ones(SHAPE[::-1], np.float32), 1.0)
    report = run(store, folder, gain=str(tmp_path / "gain.mrc"))
    assert read_ledger(store).counts()["quarantined"] == 2
    for reason in report.failed.values():
        assert "gain reference is (44, 30) but its frames are (30, 44); set `gain_rotation_deg: 90`" in reason
    turned = run(store, folder, gain=str(tmp_path / "gain.mrc"), gain_rotation_deg=90)
    assert len(turned.done) == 2
    write_mrc(tmp_path / "other.mrc", np.ones((15, 21), np.float32), 1.0)
    assert "of this detector" in next(iter(run(store, folder, gain=str(tmp_path / "other.mrc")).failed.values()))


def test_a_gain_of_other_pixels_is_binned_as_the_refusal_says(store, workers, folder, tmp_path):
    """A binned pixel counts what its parts count together: responses average, and gains do not."""
    rng = np.random.default_rng(4)
    fine = rng.uniform(0.5, 2, (2 * SHAPE[0], 2 * SHAPE[1])).astype(np.float32)
    fine[7, 9] = 0
    write_mrc(tmp_path / "fine.mrc", fine, 1.0)
    coarse = rng.uniform(0.5, 2, (SHAPE[0] // 2, SHAPE[1] // 2)).astype(np.float32)
    write_mrc(tmp_path / "coarse.mrc", coarse, 1.0)
    write_tiff_movie(folder / "a.tif", counts(1))
    response = (1 / fine.clip(1e-6)).reshape(SHAPE[0], 2, SHAPE[1], 2).mean((1, 3))
    response[3, 4] = np.inf  # one of its four parts is bad
    for name, factor, expected in (("fine", 2, 1 / response), ("coarse", 0.5, coarse.repeat(2, 0).repeat(2, 1))):
        given = {"gain": str(tmp_path / f"{name}.mrc")}
        (reason,) = run(store, folder, **given).failed.values()
        assert f"set `gain_binning: {factor:g}` in the recipe" in reason
        assert len(run(store, folder, **given, gain_binning=factor).done) == 1
        np.testing.assert_allclose(store.product("session/gain").read()["gain"], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="by 3; expected one of"):
        run(store, folder, **given, gain_binning=3)


def test_a_gain_of_another_orientation_is_found_from_the_counts_even_on_a_square_detector(
    store, workers, folder, tmp_path
):
    shape = (96, 96)
    gain = 1 + 0.1 * np.random.default_rng(8).standard_normal(shape).clip(-4, 4).astype(np.float32)
    for i in range(2):
        frames = np.random.default_rng(i).poisson(5 / gain, (8, *shape)).astype(np.uint8)
        write_tiff_movie(folder / f"{i}.tif", frames)
    write_mrc(tmp_path / "gain.mrc", np.ascontiguousarray(np.rot90(gain)), 1.0)  # clockwise by 90 undoes this
    first = run(store, folder)
    assert len(first.done) == 2
    for wrong in ({}, {"gain_rotation_deg": 180}, {"gain_rotation_deg": 90, "gain_flip": "horizontal"}):
        report = run(store, folder, gain=str(tmp_path / "gain.mrc"), **wrong)
        assert len(report.failed) == 2
        for reason in report.failed.values():
            assert "set `gain_rotation_deg: 90` and `gain_flip: none`" in reason
    right = {"gain": str(tmp_path / "gain.mrc"), "gain_rotation_deg": 90}
    assert run(store, folder, **right).done == first.done
    assert run(store, folder, **right).kept == first.done
    write_tiff_movie(folder / "3.tif", np.random.default_rng(3).poisson(5 / gain, (8, *shape)).astype(np.uint8))
    (new,) = run(store, folder, **right).done
    # the gain varies by 0.1, counts of 40 by one over their square root
    expected = 0.1 / (0.1**2 + 1 / 40) ** 0.5
    figures = store.exposure_product(new, "import_session").record().figures
    assert figures["gain_agreement"] == pytest.approx(expected, abs=0.05)
    report = run(store, folder, **right, gain_meaning="divide")
    assert all("set `gain_meaning: multiply`" in reason for reason in report.failed.values())
    assert len(report.failed) == 3


def test_only_movies_of_another_shape_are_quarantined(store, workers, folder, tmp_path):
    write_tiff_movie(folder / "a.tif", counts(1))
    write_tiff_movie(folder / "b.tif", counts(2, shape=SHAPE[::-1]))
    write_mrc(tmp_path / "gain.mrc", np.ones(SHAPE, np.float32), 1.0)
    report = run(store, folder, gain=str(tmp_path / "gain.mrc"))
    assert states(store) == {"a": "done", "b": "quarantined"}
    assert report.n_seen == 2


def test_what_stops_the_whole_import_says_so(store, workers, folder, tmp_path):
    with pytest.raises(FormatError, match=r"found no file like \*\.mrc"):
        run(store, folder)
    with pytest.raises(FormatError, match="is not a folder"):
        run(store, folder / "none")
    write_tiff_movie(folder / "a.tif", counts(1))
    with pytest.raises(FormatError, match="cannot be read"):
        run(store, folder, gain=str(tmp_path / "none.mrc"))
    (tmp_path / "bad.txt").write_text("10 2 3\n")
    with pytest.raises(FormatError, match="line 1: found '10 2 3', expected four whole numbers"):
        run(store, folder, defects=str(tmp_path / "bad.txt"))
    (tmp_path / "out.txt").write_text("40 2 5 1\n")
    with pytest.raises(FormatError, match="reaches outside"):
        run(store, folder, defects=str(tmp_path / "out.txt"))
    assert store.product("session/gain").record() is None


def test_movies_and_micrographs_are_not_taken_for_each_other(store, workers, folder):
    write_mrc(folder / "movie.mrcs", counts(1), 1.0, is_stack=True)
    write_mrc(folder / "sum.mrc", counts(2)[0].astype(np.float32), 1.0)
    assert "kind: micrographs" in next(iter(run(store, folder).failed.values()))
    assert states(store) == {"movie": "done", "sum": "quarantined"}
    assert "kind: movies" in next(iter(run(store, folder, kind="micrographs").failed.values()))
    assert states(store) == {"movie": "quarantined", "sum": "done"}


def test_a_pixel_size_that_the_files_contradict_is_mentioned(store, workers, folder, caplog):
    write_mrc(folder / "a.mrcs", counts(1), 0.55, is_stack=True)
    run(store, folder, pixel_size_angstrom=0.56)
    assert "state a pixel size" not in caplog.text
    run(store, folder, pixel_size_angstrom=1.1)
    assert "1 files state a pixel size of 0.55 Å, 1.1 Å was given" in caplog.text


def test_the_pattern_chooses_the_files(store, workers, folder):
    (folder / "sub").mkdir()
    write_tiff_movie(folder / "sub" / "a_fractions.tiff", counts(1))
    write_tiff_movie(folder / "sub" / "a_other.tiff", counts(2))
    (exposure_id,) = run(store, folder, pattern="**/*_fractions.tiff").done
    assert exposure_id.startswith("a_fractions")
    assert len(read_ledger(store).lines) == 1


def test_a_store_that_cannot_be_written_stops_the_import_and_says_so(store, workers, folder):
    write_tiff_movie(folder / "a.tif", counts(1))
    shutil.rmtree(store.location.url + "/exposures")
    (Path(store.location.url) / "exposures").write_text("in the way")
    with pytest.raises(StoreWriteError, match="cannot be written"):
        run(store, folder)


def test_a_file_that_fails_while_it_is_read_fails_alone(store, workers, folder):
    if not Path("/proc/self/mem").exists():
        pytest.skip("no /proc/self/mem here, a file that opens and cannot be read")
    (folder / "a.tif").symlink_to("/proc/self/mem")
    write_tiff_movie(folder / "b.tif", counts(1))
    report = run(store, folder)
    assert len(report.done) == 1
    assert "Input/output error" in next(iter(report.failed.values()))
    assert read_ledger(store).counts() == {"done": 1, "failed": 1, "skipped": 0, "quarantined": 0}


def test_ten_thousand_known_files_are_seen_within_seconds(store, workers, folder, tmp_path):
    n_files = 200  # a fiftieth of them, in a fiftieth of the time
    for i in range(n_files):
        (folder / f"{i:05d}.mrc").write_bytes(b"no image %d" % i)
    run(store, folder, kind="micrographs")
    started = time.process_time()
    report = run(store, folder, kind="micrographs")
    assert len(report.failed) == n_files
    assert (time.process_time() - started) * 10_000 / n_files < 30
    index = FileIndex(store)
    assert all(index.recall(str(path)) for path in folder.iterdir())


def test_parameters_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="both dose_per_frame and total_dose"):
        params(total_dose=40)
    with pytest.raises(ValueError, match="belong to movies"):
        params(kind="micrographs", gain="gain.mrc")


@pytest.mark.real
def test_the_real_micrographs_are_imported_with_rows_and_columns_in_order(store, workers, real_data):
    folder = real_data / "micrographs" / "apoferritin_EMPIAR-10146" / "avg"
    report = run(store, folder, kind="micrographs", pixel_size_angstrom=1.5, dose_per_frame=None)
    assert len(report.done) == report.n_seen == 11
    about = exposure(store, report.done[0])
    assert about.shape == (1200, 1240)
    stored = store.exposure_product(report.done[0], "import_session").read()["micrograph"]
    np.testing.assert_array_equal(stored, np.asarray(PIL.Image.open(folder / about.name), np.float32))
