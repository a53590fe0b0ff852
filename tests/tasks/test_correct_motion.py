"""Movies in a store become micrographs; what is wrong with one is told, and the others go on."""

import numpy as np
import torch
from numpy.testing import assert_allclose
from pydantic import BaseModel

from tasks.correct_motion import CorrectMotionParams, correct_motion
from tasks.records.exposure import Exposure
from tests.truth.moving_specimen import OPTICS, moving_movie, random_motion


class NoParams(BaseModel):
    pass


def add_movie(store, exposure_id, frames, dose_per_frame=2.0, **details):
    is_micrograph = details.get("kind") == "micrograph"
    about = Exposure(
        id=exposure_id, name=f"{exposure_id}.mrc", source="", content_hash="0", **{"kind": "movie", **details},
        n_frames=1 if is_micrograph else len(frames), shape=frames.shape[-2:], optics=OPTICS,
        dose_per_frame=dose_per_frame,
    )  # fmt: skip
    with store.exposure_product(exposure_id, "import_session").write("import_session", 1, NoParams(), {}) as attempt:
        attempt.write("micrograph" if is_micrograph else "frames", frames)
        attempt.details["exposure"] = about.model_dump(mode="json")


def add_gain(store, gain, is_defect=None):
    with store.product("session/gain").write("import_session", 1, NoParams(), {}) as attempt:
        attempt.write("gain", gain.astype(np.float32))
        if is_defect is not None:
            attempt.write("is_defect", is_defect.astype(np.uint8))


def movie(shape=(240, 260), n_frames=6, seed=1, motion=None):
    frames, _ = moving_movie(motion or random_motion(n_frames, seed), shape, seed, contrast=0.15)
    return frames.numpy().astype(np.uint8)


def corrected(store, exposure_id="a", **params):
    report = correct_motion.fn(store.url, [exposure_id], CorrectMotionParams(**params))
    assert report.done == [exposure_id], report
    return store.exposure_product(exposure_id, "correct_motion").read()


def reason(store, exposure_id="a", **params):
    return correct_motion.fn(store.url, [exposure_id], CorrectMotionParams(**params)).failed[exposure_id]


def test_a_movie_becomes_two_micrographs_and_a_trajectory(store, workers, place):
    frames = movie(shape=(301, 262))
    add_movie(store, "a", frames)
    product = corrected(store, n_patches=(2, 2))
    assert product["micrograph"].shape == product["unweighted_micrograph"].shape == (301, 262)
    assert product["micrograph"].dtype == np.float32
    assert product["global_shift_angstrom"].shape == (6, 2)
    assert product["patch_shift_angstrom"].shape == (4, 6, 2)
    assert product.attributes["reference_frame"] == 3
    assert_allclose(product["patch_shift_angstrom"][:, 3], 0, atol=1e-4)
    # every electron of the inner field is still there
    assert_allclose(product["unweighted_micrograph"].mean(), frames.sum(0).mean(), rtol=1e-3)
    assert_allclose(product["micrograph"].mean(), product["unweighted_micrograph"].mean(), rtol=1e-4)
    figures = product.record.figures
    parts = figures["early_motion_angstrom"] + figures["late_motion_angstrom"]
    assert_allclose(figures["total_motion_angstrom"], parts, atol=0.02)
    assert figures["total_motion_angstrom"] > 5
    assert figures["warning"] is None


def test_the_trajectory_is_that_of_the_specimen_in_angstrom(store, workers):
    truth = random_motion(8, seed=21, drift_px=8.0, local_px=3.0)
    add_movie(store, "a", movie((400, 380), 8, 21, truth))
    product = corrected(store, n_patches=(3, 3))
    centres = torch.from_numpy(product["patch_center_px"])
    found = torch.from_numpy(product["patch_shift_angstrom"]).transpose(0, 1) / OPTICS.pixel_size_angstrom
    error = found - truth.at(centres, (400, 380))
    error = error - error.mean(0)
    assert float(error.square().sum(-1).mean().sqrt()) < 0.3


def test_the_sum_of_a_still_movie_is_the_sum_of_its_frames(store, workers):
    frames = np.repeat(movie(n_frames=1), 5, axis=0)  # the same counts in every frame
    add_movie(store, "a", frames)
    found = corrected(store)["unweighted_micrograph"]
    assert_allclose(found, frames.sum(0, dtype=np.float32), atol=0.35)  # 0.05 of a count a frame


def test_one_frame_passes_through(store, workers):
    frames = movie(n_frames=1)
    add_movie(store, "a", frames)
    product = corrected(store)
    assert_allclose(product["unweighted_micrograph"], frames[0], atol=1e-4)
    assert_allclose(product["micrograph"], frames[0], atol=1e-2)  # one frame: its weights are divided out again
    assert product.record.figures["total_motion_angstrom"] == 0


def test_a_movie_smaller_than_patches_is_aligned_as_a_whole(store, workers):
    add_movie(store, "a", movie(shape=(64, 51), n_frames=3))
    product = corrected(store)
    assert product["patch_center_px"].shape == (1, 2)
    assert product["local_control_angstrom"].shape == (1, 1, 1, 2)


def test_without_a_dose_both_micrographs_are_the_plain_sum(store, workers):
    add_movie(store, "a", movie(), dose_per_frame=None)
    product = corrected(store)
    assert_allclose(product["micrograph"], product["unweighted_micrograph"])
    assert product.record.figures["is_dose_weighted"] is False


def test_dose_weighting_leaves_the_noise_and_fades_late_frames(store, workers):
    counts = torch.poisson(torch.full((10, 256, 240), 3.0), generator=torch.Generator().manual_seed(4))
    add_movie(store, "a", counts.numpy().astype(np.uint8), dose_per_frame=5.0)
    product = corrected(store, n_patches=(1, 1))
    plain, weighted = product["unweighted_micrograph"], product["micrograph"]
    inner = (slice(20, -20), slice(20, -20))
    assert_allclose(weighted[inner].std(), plain[inner].std(), rtol=0.05)
    assert np.corrcoef(weighted[inner].ravel(), plain[inner].ravel())[0, 1] < 0.95


def test_gain_and_defects_are_corrected_before_alignment(store, workers):
    rng = np.random.default_rng(5)
    truth = random_motion(8, seed=6, drift_px=6.0, local_px=0.0)
    frames, _ = moving_movie(truth, (300, 320), 6, contrast=0.1, counts=None)
    sensitivity = rng.uniform(0.7, 1.3, (300, 320))
    sensitivity[200, 200] = 1.0
    raw = rng.poisson(20 * frames.numpy().clip(0, 1.5) * sensitivity).astype(np.uint8)
    is_defect = np.zeros((300, 320))
    is_defect[:, 100:102] = 1
    raw[:, :, 100:102] = 0
    raw[:, 50, 60] = 255  # hot, and in no list
    raw[3, 200, 200] = 92  # hit once
    add_movie(store, "a", raw)
    add_gain(store, 1 / sensitivity, is_defect)
    product = corrected(store, n_patches=(1, 1))
    figures = product.record.figures
    assert figures["n_replaced_pixels"] >= 601
    assert figures["n_spikes"] >= 1
    drift = torch.from_numpy(product["global_shift_angstrom"]) / OPTICS.pixel_size_angstrom
    error = drift - truth.drift_px
    assert float((error - error.mean(0)).square().sum(-1).mean().sqrt()) < 0.15
    micrograph = product["unweighted_micrograph"]
    assert micrograph.max() < 8 * 20 * 1.5 + 6 * np.sqrt(8 * 20 * 1.5 / 0.7)
    assert micrograph[20:-20, 95:107].min() > 20  # the dead columns are filled


def test_a_gain_of_another_shape_is_refused_with_advice(store, workers):
    add_movie(store, "a", movie(shape=(64, 80), n_frames=2))
    add_gain(store, np.ones((80, 64)))
    found = reason(store)
    assert "(80, 64)" in found and "(64, 80)" in found and "gain_rotation_deg" in found


def test_a_constant_or_nan_frame_is_left_out_and_said(store, workers):
    for name, bad in (("black", 0.0), ("nan", np.nan)):
        frames = movie(n_frames=8).astype(np.float32)
        frames[2] = bad
        add_movie(store, name, frames)
        product = corrected(store, name, n_patches=(2, 2))
        assert product.record.figures["n_frames_used"] == 7
        assert "left out: 2" in product.record.figures["warning"]
        assert np.isfinite(product["micrograph"]).all()
        between = (product["global_shift_angstrom"][1] + product["global_shift_angstrom"][3]) / 2
        assert_allclose(product["global_shift_angstrom"][2], between, atol=1e-3)


def test_a_movie_with_many_bad_frames_fails_and_stops_no_other(store, workers):
    frames = movie(n_frames=8)
    add_movie(store, "good", frames)
    broken = frames.copy()
    broken[3:6] = 7
    add_movie(store, "broken", broken)
    report = correct_motion.fn(store.url, ["broken", "good"], CorrectMotionParams())
    assert report.done == ["good"]
    assert "frames 3, 4, 5 of 8 are constant" in report.failed["broken"]


def test_a_movie_that_moves_too_far_fails_and_a_long_way_is_flagged(store, workers):
    still_frame = movie(shape=(200, 220), n_frames=1, seed=8)[0]
    frames = np.stack([np.roll(still_frame, (i * 18, i * 3), axis=(0, 1)) for i in range(8)])
    frames = np.random.default_rng(9).poisson(frames).astype(np.uint8)
    add_movie(store, "a", frames)
    assert "largest_shift_fraction" in reason(store)
    product = corrected(store, largest_shift_fraction=0.45, large_motion_angstrom=30.0)
    assert "large motion" in product.record.figures["warning"]


def test_a_micrograph_has_no_motion_to_correct(store, workers):
    add_movie(store, "m", np.ones((20, 20), np.float32), kind="micrograph", dose_per_frame=None)
    report = correct_motion.fn(store.url, ["m"], CorrectMotionParams())
    assert "micrograph" in report.skipped["m"]
    assert store.exposure_product("m", "correct_motion").record() is None


def test_a_second_run_keeps_what_is_there(store, workers):
    add_movie(store, "a", movie(shape=(100, 90), n_frames=3))
    corrected(store)
    assert correct_motion.fn(store.url, ["a"], CorrectMotionParams()).kept == ["a"]
    add_gain(store, np.ones((100, 90)))
    assert correct_motion.fn(store.url, ["a"], CorrectMotionParams()).done == ["a"]


def add_estimated_gain(store, gain, n_used=4):
    with store.product("session/estimated_gain").write("diagnose_gain", n_used, NoParams(), {}) as attempt:
        attempt.write("gain", gain.astype(np.float32))
        attempt.write("is_defect", (gain <= 0).astype(np.uint8))
        attempt.details = {"shape": list(gain.shape)}


def test_a_gain_made_from_the_movies_is_used_where_none_is_given_and_renewed_with_it(store, workers):
    frames = np.repeat(movie(shape=(100, 90), n_frames=1), 3, axis=0)
    add_movie(store, "a", frames)
    gain = np.ones((100, 90))
    gain[:, 40:] = 2.0
    gain[7, 9] = 0.0
    add_estimated_gain(store, gain)
    expected = (frames * gain).sum(0, dtype=np.float64)
    found = corrected(store)
    assert_allclose(found["unweighted_micrograph"].mean(), expected.mean(), rtol=1e-2)
    assert found.record.figures["n_replaced_pixels"] >= 1
    assert correct_motion.fn(store.url, ["a"], CorrectMotionParams()).kept == ["a"]
    add_estimated_gain(store, gain, n_used=8)
    assert correct_motion.fn(store.url, ["a"], CorrectMotionParams()).done == ["a"]
    add_gain(store, np.ones((100, 90)))
    assert_allclose(corrected(store)["unweighted_micrograph"].mean(), frames.sum(0).mean(), rtol=1e-2)
    add_estimated_gain(store, gain, n_used=16)  # nobody asks for it any more
    assert correct_motion.fn(store.url, ["a"], CorrectMotionParams()).kept == ["a"]
