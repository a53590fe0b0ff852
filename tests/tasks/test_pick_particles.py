"""Picking on simulated cages with known places, and on real apoferritin against experts."""

import math

import mrcfile
import numpy as np
import pytest
import torch
from PIL import Image

from kernels.ctf import Defocus
from kernels.optics import Optics
from tasks.pick_particles import PickParticlesParams, pick_particles
from tasks.records.session import StageParams
from tasks.stores.storage.location import StoreError
from tests.truth.crowded_micrograph import DIAMETER, OPTICS, crowd, matched, put_curated

PARAMS = PickParticlesParams(diameter_angstrom=DIAMETER)
HALF_RADIUS_PX = DIAMETER / 4 / OPTICS.pixel_size_angstrom


def picks(store, name):
    reader = store.exposure_product(name, "pick_particles").read()
    return reader["coordinate_px"], reader["score"], reader.record.figures


def inner(coordinate, shape, margin_px):
    return coordinate[((coordinate >= margin_px) & (coordinate <= np.array(shape) - 1 - margin_px)).all(1)]


@pytest.mark.parametrize(("n_particles", "signal_to_noise"), [(60, 0.2), (10, 5.0), (80, 0.1)])
def test_cages_are_found_where_they_are(store, workers, n_particles, signal_to_noise):
    truth = crowd(n_particles=n_particles, signal_to_noise=signal_to_noise, seed=n_particles)
    put_curated(store, "cages", truth.image.numpy())
    assert pick_particles.fn(store.url, ["cages"], PARAMS).done == ["cages"]
    found, score, figures = picks(store, "cages")
    assert figures["n_picks"] == len(found) == len(score)
    n_hits = len(matched(found, truth.coordinate_px, HALF_RADIUS_PX))
    visible = inner(truth.coordinate_px, truth.image.shape, DIAMETER / 2 / OPTICS.pixel_size_angstrom)
    n_recalled = len(matched(found, visible, HALF_RADIUS_PX))
    assert n_hits / len(found) >= 0.95
    assert n_recalled / len(visible) >= 0.95


def test_strong_cages_are_placed_to_a_fraction_of_a_pixel(store, workers):
    truth = crowd(n_particles=40, signal_to_noise=2.0, seed=4)
    put_curated(store, "cages", truth.image.numpy())
    pick_particles.fn(store.url, ["cages"], PARAMS)
    found, _, _ = picks(store, "cages")
    pairs = matched(found, truth.coordinate_px, HALF_RADIUS_PX)
    error = found[pairs[:, 0]] - truth.coordinate_px[pairs[:, 1]]
    assert np.abs(np.median(error, axis=0)).max() < 0.15  # px of 3.3 Å, sampled at 6.3 Å
    assert np.sqrt((error**2).sum(1).mean()) < 0.8


def test_noise_alone_holds_no_particles(store, workers):
    put_curated(store, "empty", crowd(n_particles=0, seed=9).image.numpy())
    report = pick_particles.fn(store.url, ["empty"], PARAMS)
    assert report.done == ["empty"]
    assert len(picks(store, "empty")[0]) <= 1


def test_a_minimum_score_replaces_the_threshold(store, workers):
    truth = crowd(seed=2)
    put_curated(store, "cages", truth.image.numpy())
    pick_particles.fn(store.url, ["cages"], PARAMS.model_copy(update={"min_score": 0.5}))
    _, score, figures = picks(store, "cages")
    assert figures["score_threshold"] == 0.5
    assert score.min() >= 0.5
    assert (np.diff(score) <= 0).all()


def test_no_pick_lies_on_an_ice_ball(store, workers):
    truth = crowd(seed=6, n_particles=50)
    y, x = torch.meshgrid(torch.arange(400.0), torch.arange(427.0), indexing="ij")
    distance = torch.hypot(y - 150, x - 210)
    ball = -8 * (1 - (distance / 45) ** 2).clamp(min=0).sqrt()
    put_curated(store, "icy", (truth.image + ball).numpy())
    pick_particles.fn(store.url, ["icy"], PARAMS)
    found, _, figures = picks(store, "icy")
    assert np.hypot(found[:, 0] - 150, found[:, 1] - 210).min() > 45
    assert 0.03 < figures["contaminated_share"] < 0.15  # the ball 0.037, with a particle's diameter around it 0.13
    away = np.hypot(truth.coordinate_px[:, 0] - 150, truth.coordinate_px[:, 1] - 210) > 45 + 25
    visible = inner(truth.coordinate_px[away], truth.image.shape, 20)
    assert len(matched(found, visible, HALF_RADIUS_PX)) / len(visible) >= 0.9


def test_nothing_is_picked_where_the_detector_saw_nothing(store, workers):
    truth = crowd(seed=13, n_particles=50)
    image = truth.image + 50
    image[:, 300:] = 0
    put_curated(store, "cut", image.numpy())
    pick_particles.fn(store.url, ["cut"], PARAMS)
    found, _, figures = picks(store, "cut")
    assert found[:, 1].max() < 300
    assert figures["contaminated_share"] > 0.27
    seen = truth.coordinate_px[truth.coordinate_px[:, 1] < 300 - 40]
    visible = inner(seen, truth.image.shape, DIAMETER / 2 / OPTICS.pixel_size_angstrom)
    assert len(matched(found, visible, HALF_RADIUS_PX)) / len(visible) >= 0.9


def test_class_averages_find_cages(store, workers, place):
    truth = crowd(n_particles=50, seed=21)
    put_curated(store, "cages", truth.image.numpy())
    params = PARAMS.model_copy(update={"method": "template"})
    with pytest.raises(StoreError, match="run classify_2d first"):
        pick_particles.fn(store.url, ["cages"], params)
    side = 64
    still = Defocus.of(0.0, 0.0, 0.0, math.pi / 2 - math.asin(0.1))  # a phase plate in focus: nothing but -1
    plain = Optics(300, 0.0, 0.1, 3.0)
    centred = [crowd((200, 200), 1, 1e4, seed, plain, still) for seed in range(6)]
    averages = []
    for one in centred:
        rows = torch.roll(-one.image, tuple(int(v) for v in np.round(100 - one.coordinate_px[0])), (0, 1))
        averages.append(rows[100 - side // 2 : 100 + side // 2, 100 - side // 2 : 100 + side // 2])
    with store.product("classes/2d").write("classify_2d", 1, StageParams(), {}) as attempt:
        attempt.write("class_average", torch.stack(averages).numpy())
        attempt.set_attributes({"pixel_size_angstrom": 3.0})
    pick_particles.fn(store.url, ["cages"], params)
    found, _, _ = picks(store, "cages")
    visible = inner(truth.coordinate_px, truth.image.shape, DIAMETER / 2 / OPTICS.pixel_size_angstrom)
    assert len(matched(found, truth.coordinate_px, HALF_RADIUS_PX)) / len(found) >= 0.95
    assert len(matched(found, visible, HALF_RADIUS_PX)) / len(visible) >= 0.95


@pytest.mark.parametrize(
    ("image", "diameter", "words"),
    [
        (np.full((200, 220), np.nan), 125.0, "44000 of 44000 pixels"),
        (np.ones((200, 220)), 125.0, "constant"),
        (np.random.default_rng(0).normal(size=(200, 220)), 2000.0, "660 × 726 Å"),
        (np.random.default_rng(0).normal(size=(200, 220)), 12.5, "fewer than 8 pixels"),
    ],
)
def test_a_micrograph_that_cannot_be_picked_says_why_and_stops_nobody(store, workers, image, diameter, words):
    put_curated(store, "bad", image)
    report = pick_particles.fn(store.url, ["bad"], PARAMS.model_copy(update={"diameter_angstrom": diameter}))
    assert words in report.failed["bad"]


@pytest.mark.real
def test_experts_find_the_same_apoferritin(store, workers, real_data):
    folder = real_data / "micrographs" / "apoferritin_EMPIAR-10146"
    optics = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=1.5)
    name = "May08_03.15.02"
    image = np.asarray(Image.open(folder / "avg" / f"{name}.bin_avg.png")).astype(np.float32)
    expert = np.genfromtxt(folder / "picks" / f"{name}.bin_picks.csv", delimiter=",", skip_header=1)[:, ::-1]
    put_curated(store, name, image, optics, Defocus.of(22925.0, 21875.0, math.radians(120)))
    pick_particles.fn(store.url, [name], PickParticlesParams(diameter_angstrom=127.0))
    found, _, _ = picks(store, name)
    n_hits = len(matched(found, expert, 127 / 4 / 1.5))
    assert n_hits / len(found) >= 0.8
    assert n_hits / len(expert) >= 0.8


@pytest.mark.real
def test_no_particle_is_picked_on_a_real_ice_ball(store, workers, real_data):
    folder = real_data / "micrographs" / "contamination"
    with mrcfile.open(folder / "mics_Ucsf_stack_1142_DW.mrc", permissive=True) as file:
        image = file.data.astype(np.float32)
    with mrcfile.open(folder / "masks_Ucsf_stack_1142_DW.mrc", permissive=True) as file:
        is_ball = file.data > 0.9
    optics = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=4.0)
    put_curated(store, "ball", image, optics)
    pick_particles.fn(store.url, ["ball"], PARAMS.model_copy(update={"diameter_angstrom": 160.0}))
    found, _, figures = picks(store, "ball")
    y, x = found.round().astype(int).T
    large_ball = is_ball & (np.arange(image.shape[0]) < 400)[:, None] & (np.arange(image.shape[1]) > 500)
    assert not large_ball[y, x].any()
    assert 0.12 < figures["contaminated_share"] < 0.25  # the ball itself covers 0.14
