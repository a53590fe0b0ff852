"""The gain doctor on sessions whose detector is known."""

import logging

import numpy as np
import pytest
import torch

from kernels.movies.gain import orient
from kernels.specimen.simulation import random_detector
from tasks.diagnose_gain import DiagnoseGainParams, diagnose_gain
from tasks.formats.mrc import write_mrc
from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.gain import GainDiagnosis
from tests.truth.detector_session import add_exposure, add_gain, counts, generator, with_other_pixels

SHAPE = (152, 168)


@pytest.fixture(autouse=True)
def one_thread():
    """Small images are quicker on one thread, all the more where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def diagnosed(store, exposure_ids, **params) -> GainDiagnosis:
    report = diagnose_gain.fn(store.url, exposure_ids, DiagnoseGainParams(**params))
    assert not report.failed, report
    return GainDiagnosis.model_validate(store.product("session/gain_diagnosis").record().details)


def ids(n, first=0):
    return [f"movie_{i:04d}" for i in range(first, first + n)]


def add_movies(store, detector, n, mean=40.0, first=0, seed=0, broken=None):
    for i, exposure_id in enumerate(ids(n, first), start=first):
        add_exposure(store, exposure_id, counts(detector, mean, generator(1000 * seed + i), broken))
    return ids(n, first)


def test_a_right_gain_is_said_to_be_right(store, workers):
    detector = random_detector(SHAPE, generator(1))
    add_gain(store, detector.gain)
    found = diagnosed(store, add_movies(store, detector, 3))
    assert found.kind == "as given" and found.verdict.startswith("as given")
    assert found.recipe == {} and found.margin_sigma > 6
    assert found.rows[0].is_as_given and abs(found.rows[0].agreement - 1) < 0.1
    assert found.n_alarms == 0


def test_recipe_lines_turn_a_wrong_gain_into_the_right_one(store, workers):
    detector = random_detector(SHAPE, generator(2))
    # the operator's file is the right gain turned and inverted, and the recipe turned it by another angle
    file = orient(1 / detector.gain, 90, "vertical")
    add_gain(store, orient(file, 90, "none"), rotation_deg=90, flip="none", meaning="multiply")
    found = diagnosed(store, add_movies(store, detector, 4))
    assert found.kind == "other way", found
    recipe = found.recipe
    again = orient(file, recipe["gain_rotation_deg"], recipe["gain_flip"])
    assert recipe["gain_meaning"] == "divide"
    torch.testing.assert_close(again, 1 / detector.gain)


def test_corrected_counts_and_a_gain_of_another_detector_are_told_apart(store, workers):
    detector, other = random_detector(SHAPE, generator(3)), random_detector(SHAPE, generator(4))
    add_gain(store, other.gain)
    names = add_movies(store, detector, 8)
    assert diagnosed(store, names).kind == "another gain"
    for i, name in enumerate(names):
        add_exposure(store, name, counts(detector, 40.0, generator(i)) * detector.gain)
    add_gain(store, detector.gain, rotation_deg=0)
    found = diagnosed(store, names)
    assert found.kind == "already corrected" and "already corrected" in found.verdict


def test_a_few_electrons_are_no_evidence(store, workers):
    detector = random_detector(SHAPE, generator(5))
    add_gain(store, detector.gain)
    found = diagnosed(store, add_movies(store, detector, 1, mean=0.1))
    assert found.kind == "too few counts" and "too few counts" in found.verdict


def test_a_gain_of_twice_the_size_is_binned(store, workers):
    fine = random_detector((2 * SHAPE[0], 2 * SHAPE[1]), generator(6))
    add_gain(store, orient(fine.gain, 180))
    for i, name in enumerate(ids(3)):
        total = torch.nn.functional.avg_pool2d(counts(fine, 10.0, generator(i))[None], 2)[0] * 4
        add_exposure(store, name, total)
    found = diagnosed(store, ids(3))
    assert found.kind == "other way" and found.rows[0].binning == 2
    assert found.recipe["gain_rotation_deg"] == 180 and "binning by 2" in found.verdict
    assert found.recipe["gain_binning"] == 2


def test_batches_add_up_to_one_diagnosis_and_nothing_is_done_twice(store, workers, tmp_path):
    detector = random_detector(SHAPE, generator(7))
    add_gain(store, detector.gain)
    names = add_movies(store, detector, 12)
    for start in (0, 3, 4, 9):
        diagnosed(store, names[: start + 3])
    in_parts = diagnosed(store, names)
    attempts = store.product("session/gain_diagnosis").attempts()
    report = diagnose_gain.fn(store.url, names, DiagnoseGainParams())
    assert sorted(report.kept) == names and not report.done
    assert store.product("session/gain_diagnosis").attempts() == attempts
    (store.location / "session" / "gain_diagnosis").remove()
    at_once = diagnosed(store, names)
    assert at_once.rows == in_parts.rows and at_once.n_exposures == in_parts.n_exposures == 12
    assert at_once.pattern_percent == in_parts.pattern_percent


def test_a_changed_gain_and_a_new_dead_column_raise_one_alarm_each_where_they_start(store, workers, caplog):
    detector = random_detector(SHAPE, generator(8))
    add_gain(store, detector.gain)
    names = add_movies(store, detector, 6)
    broken = torch.ones(SHAPE)
    broken[:, 100] = 0
    broken[20:24, 30:33] = 0
    names += add_movies(store, detector, 5, first=6, broken=broken)
    names += add_movies(store, with_other_pixels(detector, 0.5, generator(9)), 6, first=11, broken=broken)
    with caplog.at_level(logging.WARNING, "tasks.gain_doctor"):
        for start in range(0, len(names), 4):
            found = diagnosed(store, names[start : start + 4])
    alarms = {alarm.kind: alarm for alarm in found.alarms}
    assert len(found.alarms) == found.n_alarms == len(caplog.records) == 3, found.alarms
    assert alarms["column"].exposure == "movie_0006" and alarms["column"].region_px == (100, 0, 1, SHAPE[0])
    assert alarms["pixels"].exposure == "movie_0006" and alarms["pixels"].region_px == (30, 20, 3, 4)
    assert alarms["gain agreement"].exposure == "movie_0011"
    assert "add `100 0 1 152`" in alarms["column"].words


def test_a_gain_is_made_used_renewed_at_twice_the_movies_and_frozen(store, workers):
    detector = random_detector(SHAPE, generator(10))
    names = add_movies(store, detector, 40, mean=200.0)
    product = store.product("session/estimated_gain")
    seen = []
    for n in (2, 8, 10, 20, 40):
        found = diagnosed(store, names[:n], most_exposures=20)
        record = product.record()
        seen.append(None if record is None else record.figures["n_exposures"])
    assert seen[-2:] == [20, 20] and record.figures["is_frozen"], seen
    assert seen == sorted(s or 0 for s in seen) or seen[0] is None
    assert found.kind == "no gain: estimated"
    # frozen with 20, of which 10 had come before: they have the motion of an earlier gain until the end
    assert record.figures["n_earlier"] == 10
    assert "(final)" in found.verdict and "the motion of 10 exposures that came before it" in found.verdict
    gain, is_defect = product.read()["gain"], product.read()["is_defect"]
    bad = (detector.is_dead | detector.is_hot).numpy()
    assert (is_defect[bad] == 1).all() and is_defect[~bad].mean() < 1e-3
    assert (gain[is_defect == 1] == 0).all()
    assert not store.location.__truediv__("scratch/diagnose_gain").list()


def test_movies_after_a_change_of_the_pattern_are_not_added_to_the_gain(store, workers):
    detector = random_detector(SHAPE, generator(15))
    names = add_movies(store, detector, 10, mean=200.0)
    diagnosed(store, names)
    later = add_movies(store, with_other_pixels(detector, 1.0, generator(16)), 6, mean=200.0, first=10)
    found = diagnosed(store, later)
    assert [alarm.kind for alarm in found.alarms] == ["pattern"]
    assert abs(int(found.alarms[0].exposure[-4:]) - 10) <= 3
    n_before = store.product("session/gain_sums").record().figures["n_exposures"]
    diagnosed(store, add_movies(store, detector, 2, mean=200.0, first=16))
    assert store.product("session/gain_sums").record().figures["n_exposures"] == n_before


def test_an_estimate_is_withdrawn_when_a_gain_is_given(store, workers):
    detector = random_detector(SHAPE, generator(11))
    names = add_movies(store, detector, 8, mean=400.0)
    diagnosed(store, names)
    assert store.product("session/estimated_gain").record().state == "done"
    add_gain(store, detector.gain)
    assert diagnosed(store, names).kind == "as given"
    assert store.product("session/estimated_gain").record().state == "skipped"


def test_dark_and_foreign_exposures_change_nothing(store, workers):
    detector = random_detector(SHAPE, generator(12))
    add_gain(store, detector.gain)
    names = add_movies(store, detector, 3)
    add_exposure(store, "dark", torch.zeros(SHAPE))
    add_exposure(store, "other", torch.poisson(torch.full((96, 80), 20.0)))
    report = diagnose_gain.fn(store.url, [*names, "dark", "other"], DiagnoseGainParams())
    assert "beam" in report.skipped["dark"] and not report.failed
    found = GainDiagnosis.model_validate(store.product("session/gain_diagnosis").record().details)
    assert found.kind == "as given" and found.n_exposures == 3
    assert np.isfinite(found.mean_counts)


def test_another_gain_is_compared_with_all_exposures_again(store, workers):
    detector = random_detector(SHAPE, generator(14))
    add_gain(store, orient(detector.gain, 180))
    names = add_movies(store, detector, 4)
    assert diagnosed(store, names[:3]).kind == "other way"
    add_gain(store, detector.gain)
    found = diagnosed(store, names[3:])  # only what is new is handed over
    assert found.kind == "as given" and found.n_exposures == 4


def test_the_recipe_lines_make_the_import_take_what_it_had_set_aside(store, workers, tmp_path):
    detector = random_detector(SHAPE, generator(13))
    folder = tmp_path / "microscope"
    folder.mkdir()
    for i, name in enumerate(ids(2)):
        total = counts(detector, 40.0, generator(i)).clamp(max=255)
        frames = torch.stack([(total / 2).floor(), total - (total / 2).floor()]).to(torch.uint8)
        write_tiff_movie(folder / f"{name}.tiff", iter(frames.numpy()), "lzw")
    (folder / "broken.tiff").write_bytes((folder / "movie_0001.tiff").read_bytes()[:500])
    write_mrc(tmp_path / "gain.mrc", orient(detector.gain, 90).contiguous().numpy(), 1.0)
    known = {"gain": str(tmp_path / "gain.mrc"), "pixel_size_angstrom": 1.1, "total_dose": 40.0}
    imported = import_session.fn(store.url, str(folder), ImportSessionParams(**known))
    assert len(imported.failed) == 3  # the gain is of another shape than the frames
    found = diagnosed(store, sorted(imported.failed))
    assert found.kind == "other way" and found.recipe["gain_rotation_deg"] == 270
    imported = import_session.fn(store.url, str(folder), ImportSessionParams(**known, **found.recipe))
    assert len(imported.available) == 2
    again = diagnosed(store, imported.available)
    assert again.kind == "as given" and again.n_exposures == 2 and again.recipe == {}
