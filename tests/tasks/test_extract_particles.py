"""Stacks against planted images: centring, normalisation, edges, columns, and the table of the session."""

import numpy as np
import pytest
from pydantic import ValidationError

from kernels.masks import distance_from_origin
from tasks.extract_particles import ExtractParticlesParams, extract_particles
from tasks.records.session import StageParams
from tasks.stores.products.particle_store import particle_images, read_particles
from tasks.stores.storage.location import StoreError
from tests.truth.crowded_micrograph import OPTICS, put_curated

PIXEL = OPTICS.pixel_size_angstrom
PARAMS = ExtractParticlesParams(diameter_angstrom=60.0, box_size_px=32)
SHAPE = (150, 190)


def ice(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def put_picks(store, name, coordinate):
    coordinate = np.asarray(coordinate, dtype=np.float32).reshape(-1, 2)
    inputs = {"picks": str(coordinate.tolist())}  # other picks, another fingerprint
    with store.exposure_product(name, "pick_particles").write("pick_particles", 1, StageParams(), inputs) as attempt:
        attempt.write("coordinate_px", coordinate)
        attempt.write("score", np.linspace(0.9, 0.4, len(coordinate), dtype=np.float32))


def put_picked(store, name, coordinate, image=None, **kwargs):
    put_curated(store, name, ice() if image is None else image, **kwargs)
    put_picks(store, name, coordinate)


def stack(store, name):
    return store.exposure_product(name, "extract_particles").read()


def test_a_point_comes_out_at_the_origin_and_its_fraction_in_the_shift(store, workers):
    coordinate = np.array([[40.3, 60.8], [100.0, 20.0], [75.49, 170.2]])
    image = ice() * 0.1
    for y, x in coordinate.round().astype(int):
        image[y, x] -= 0.4
        image[y - 1 : y + 2, x - 1 : x + 2] -= 3  # a small blob; a single pixel would be mended
    put_picked(store, "points", coordinate, image)
    assert extract_particles.fn(store.url, ["points"], PARAMS).done == ["points"]
    reader = stack(store, "points")
    images = reader["image"].astype(np.float32)
    assert images.shape == (3, 32, 32)
    for one in images:
        assert np.unravel_index(one.argmin(), one.shape) == (16, 16)
    particles = read_particles(reader)
    np.testing.assert_allclose(particles["coordinate_px"], coordinate, atol=1e-4)
    expected = (coordinate - coordinate.round()) * PIXEL
    np.testing.assert_allclose(particles["shift_angstrom"], expected, atol=1e-4)


def test_a_reduced_stack_keeps_the_origin_and_the_field_of_view(store, workers):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    blob = -20 * np.exp(-((y - 70) ** 2 + (x - 90) ** 2) / 18)
    put_picked(store, "blob", [[70, 90]], ice() + blob)
    extract_particles.fn(store.url, ["blob"], PARAMS.model_copy(update={"box_size_px": 48, "output_box_px": 24}))
    reader = stack(store, "blob")
    assert reader.attributes["pixel_size_angstrom"] == pytest.approx(2 * PIXEL)
    image = reader["image"][0].astype(np.float32)
    assert image.shape == (24, 24)
    weight = np.where(image < -0.5 * abs(image.min()), -image, 0)
    rows, columns = np.mgrid[:24, :24]
    assert (weight * rows).sum() / weight.sum() == pytest.approx(12, abs=0.1)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(12, abs=0.1)


def test_the_background_of_every_image_is_normalised_on_a_steep_slope(store, workers):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    random = np.random.default_rng(1)
    coordinate = random.uniform(20, 130, size=(200, 2))
    put_picked(store, "slope", coordinate, 1e4 + 50 * ice() + 7 * y - 3 * x)
    extract_particles.fn(store.url, ["slope"], PARAMS)
    images = stack(store, "slope")["image"]
    assert images.dtype == np.float16
    assert np.isfinite(images).all()
    outside = distance_from_origin((32, 32)).numpy() > 30 / PIXEL
    background = images.astype(np.float32)[:, outside]
    np.testing.assert_allclose(background.mean(1), 0, atol=2e-3)
    np.testing.assert_allclose(background.std(1), 1, atol=5e-3)


def test_many_particles_are_those_that_are_cut_one_by_one(store, workers):
    coordinate = np.random.default_rng(2).uniform(20, 130, size=(140, 2))  # more than one block
    put_picked(store, "many", coordinate)
    extract_particles.fn(store.url, ["many"], PARAMS)
    together = stack(store, "many")["image"]
    for index in (0, 127, 128, 139):
        put_picked(store, "one", coordinate[index])
        extract_particles.fn(store.url, ["one"], PARAMS)
        np.testing.assert_allclose(stack(store, "one")["image"][0], together[index], atol=2e-2)


def test_particles_at_the_edge_are_dropped_and_counted(store, workers):
    put_picked(store, "edge", [[16, 16], [15.4, 80], [134, 174], [134.6, 100], [70, 174.7], [70, 80]])
    extract_particles.fn(store.url, ["edge"], PARAMS)
    reader = stack(store, "edge")
    assert reader.record.figures["n_dropped_at_edge"] == 3
    assert reader["coordinate_px"].tolist() == [[16, 16], [134, 174], [70, 80]]
    np.testing.assert_allclose(reader["pick_score"], [0.9, 0.7, 0.4], atol=1e-6)


def test_wild_pixels_do_not_reach_the_stack(store, workers):
    image = ice()
    image[75, 91] = 4000.0
    put_picked(store, "wild", [[70, 90]], image)
    extract_particles.fn(store.url, ["wild"], PARAMS)
    reader = stack(store, "wild")
    assert reader.record.figures["n_mended_pixels"] == 1
    assert np.abs(reader["image"]).max() < 8


def test_the_columns_carry_the_ctf_of_the_exposure(store, workers):
    put_picked(store, "first", [[70, 90], [50, 60]])
    extract_particles.fn(store.url, ["first"], PARAMS)
    particles = read_particles(stack(store, "first"))
    assert particles.exposure_ids == ("first",)
    np.testing.assert_allclose(particles["defocus_u_angstrom"], 15000)
    np.testing.assert_allclose(particles["defocus_v_angstrom"], 14600)
    np.testing.assert_allclose(particles["defocus_angle_rad"], np.deg2rad(30), rtol=1e-6)
    assert particles["stack_index"].tolist() == [0, 1]
    assert particles["optics_group"].tolist() == [1, 1]


def test_the_table_joins_all_batches_and_leads_to_the_right_images(store, workers):
    put_picked(store, "b", [[70, 90], [50, 60]], ice(1))
    put_picked(store, "a", [[40, 50]], ice(2))
    extract_particles.fn(store.url, ["b"], PARAMS)
    extract_particles.fn(store.url, ["a"], PARAMS)  # another batch
    reader = store.product("particles/extracted").read()
    assert reader.attributes["box_size_px"] == 32
    assert reader.attributes["pixel_size_angstrom"] == pytest.approx(PIXEL)
    particles = read_particles(reader)
    assert particles.exposure_ids == ("a", "b")
    assert particles["exposure"].tolist() == [0, 1, 1]
    images = particle_images(store, particles)
    np.testing.assert_array_equal(images[:1], stack(store, "a")["image"].astype(np.float32))
    np.testing.assert_array_equal(images[1:], stack(store, "b")["image"].astype(np.float32))


def test_the_table_is_written_again_only_when_a_stack_changed(store, workers):
    put_picked(store, "a", [[70, 90]])
    put_picked(store, "b", [[50, 60]])
    extract_particles.fn(store.url, ["a", "b"], PARAMS)
    first = store.product("particles/extracted").record()
    assert extract_particles.fn(store.url, ["a", "b"], PARAMS).kept == ["a", "b"]
    assert store.product("particles/extracted").record() == first
    put_picks(store, "b", [[60, 70], [90, 80]])
    assert extract_particles.fn(store.url, ["a", "b"], PARAMS).done == ["b"]
    record = store.product("particles/extracted").record()
    assert record.fingerprint != first.fingerprint
    assert record.figures["n_particles"] == 3


def test_an_exposure_that_is_rejected_later_leaves_the_table(store, workers):
    put_picked(store, "a", [[70, 90]])
    put_picked(store, "b", [[50, 60]])
    extract_particles.fn(store.url, ["a", "b"], PARAMS)
    store.exposure_product("b", "curate_exposures").put_outcome(
        "skipped", "rejected: drift", "curate_exposures", 1, StageParams(), {}
    )
    extract_particles.fn(store.url, ["a", "b"], PARAMS)
    assert read_particles(store.product("particles/extracted").read()).exposure_ids == ("a",)


def test_an_exposure_without_particles_is_skipped_with_its_reason(store, workers):
    put_picked(store, "empty", np.zeros((0, 2)))
    put_picked(store, "corner", [[2, 2]])
    report = extract_particles.fn(store.url, ["empty", "corner"], PARAMS)
    assert report.skipped == {
        "empty": "no particles were picked",
        "corner": "no particles: none of 1 picks is 16 px or more away from the edges",
    }
    with pytest.raises(StoreError, match="no exposure has particles"):
        store.product("particles/extracted").read()


def test_a_box_without_background_is_refused_with_a_proposal(store, workers):
    put_picked(store, "a", [[70, 90]])
    report = extract_particles.fn(store.url, ["a"], ExtractParticlesParams(diameter_angstrom=125.0, box_size_px=32))
    assert "set `extract_particles.box_size_px` to 54" in report.failed["a"]


def test_a_box_larger_than_the_micrograph_is_refused(store, workers):
    put_picked(store, "a", [[70, 90]])
    report = extract_particles.fn(store.url, ["a"], PARAMS.model_copy(update={"box_size_px": 180}))
    assert "larger than its micrograph of 150 × 190" in report.failed["a"]


def test_a_broken_micrograph_stops_nobody(store, workers):
    broken = ice()
    broken[3, 4] = np.nan
    put_picked(store, "broken", [[70, 90]], broken)
    put_picked(store, "well", [[70, 90]])
    report = extract_particles.fn(store.url, ["broken", "well"], PARAMS)
    assert report.done == ["well"]
    assert "1 of 28500 pixels" in report.failed["broken"]


def test_odd_and_inverted_boxes_are_refused():
    with pytest.raises(ValidationError, match="161 px is odd; expected an even side, for instance 162"):
        ExtractParticlesParams(diameter_angstrom=125.0, box_size_px=161)
    with pytest.raises(ValidationError, match="at most as large as the box"):
        ExtractParticlesParams(diameter_angstrom=125.0, box_size_px=100, output_box_px=120)
