"""A session of particles and noise through 2D classification: what is kept, what is dropped and why."""

import logging

import numpy as np
import pytest
import torch

from kernels.rotations import random_rotations
from tasks import classify_2d as stage
from tasks.classify_2d import Classify2dParams, classify_2d
from tasks.records.particles import ParticleSet
from tasks.stores.particle_store import read_particles, write_particles
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import Imaged, cage_points, gaussian_projections, imaged

PIXEL, N, N_GOOD, N_NOISE = 4.0, 40, 120, 30
PARAMS = Classify2dParams(n_classes=4, n_iterations=8, resolution_angstrom=14.0, block_size=100)


@pytest.fixture(scope="module")
def particles_and_noise() -> Imaged:
    generator = torch.Generator().manual_seed(4)
    shift = 4 * torch.randn(N_GOOD, 2, generator=generator)
    projections = gaussian_projections(
        cage_points("O", 12, 45.0, 1), random_rotations(N_GOOD, generator), shift, N, PIXEL, 5.0
    )
    return imaged(torch.cat([projections, torch.zeros(N_NOISE, N, N)]), PIXEL, 0.3, 2)


def test_particles_are_kept_and_noise_is_dropped(store, workers, particles_and_noise):
    write_extracted(store, particles_and_noise)
    report = classify_2d.fn(store.url, PARAMS)
    assert report.done == ["classes/2d", "particles/selected"]
    selected = read_particles(store.product("particles/selected").read())
    index = selected["stack_index"] + 75 * selected["exposure"]
    assert (index < N_GOOD).sum() > 0.97 * N_GOOD
    assert (index >= N_GOOD).sum() <= 2
    assert (selected["log_likelihood"] > 0).mean() > 0.95
    reader = store.product("classes/2d").read()
    averages, about = reader["class_average"], reader.attributes
    assert averages.shape[0] == len(about["n_particles"]) == len(about["reason"]) == 4
    assert sum(about["n_particles"]) == N_GOOD + N_NOISE
    assert about["n_particles"] == sorted(about["n_particles"], reverse=True)
    assert all((reason is None) == kept for reason, kept in zip(about["reason"], about["is_kept"]))
    assert about["pixel_size_angstrom"] * averages.shape[-1] == pytest.approx(N * PIXEL)
    # protein is bright: the middle of a shell's projection stands above its surroundings
    n = averages.shape[-1]
    y, x = np.mgrid[:n, :n] - n // 2
    inside = np.hypot(y, x) * about["pixel_size_angstrom"] < 45
    for average in averages[np.array(about["is_kept"])]:
        assert average[inside].mean() > average[~inside].mean()
    assert classify_2d.fn(store.url, PARAMS).kept == ["classes/2d", "particles/selected"]


def test_another_choice_of_classes_computes_no_classes_again(store, workers, particles_and_noise):
    write_extracted(store, particles_and_noise)
    first = classify_2d.fn(store.url, PARAMS)
    before = store.product("classes/2d").read()["class_average"]
    report = classify_2d.fn(store.url, PARAMS.model_copy(update={"keep": [0]}))
    assert report.done == ["classes/2d", "particles/selected"]
    assert report.cpu_seconds < 0.3 * first.cpu_seconds
    np.testing.assert_array_equal(store.product("classes/2d").read()["class_average"], before)
    assert set(read_particles(store.product("particles/selected").read())["class_2d"]) == {0}
    classify_2d.fn(store.url, PARAMS.model_copy(update={"keep": "all"}))
    assert len(read_particles(store.product("particles/selected").read())) == N_GOOD + N_NOISE
    with pytest.raises(ValueError, match=r"classes \[7\], expected numbers from 0 to 3"):
        classify_2d.fn(store.url, PARAMS.model_copy(update={"keep": [7]}))


def test_an_interrupted_run_continues_to_the_same_result(store, workers, particles_and_noise, monkeypatch):
    write_extracted(store, particles_and_noise)
    finish = stage._Run._update

    def interrupted(self, iteration, blocks):
        if iteration == 5:
            raise KeyboardInterrupt
        finish(self, iteration, blocks)

    monkeypatch.setattr(stage._Run, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        classify_2d.fn(store.url, PARAMS)
    monkeypatch.setattr(stage._Run, "_update", finish)
    run = stage._Run(store, PARAMS)
    assert run.scratch.record("iteration_005")
    classify_2d.fn(store.url, PARAMS)
    continued = store.product("classes/2d").read()["class_average"]
    (store.location / "scratch").remove()
    (store.location / "classes").remove()
    classify_2d.fn(store.url, PARAMS)
    np.testing.assert_allclose(store.product("classes/2d").read()["class_average"], continued, atol=1e-4)


def test_an_empty_set_is_refused(store, workers, particles_and_noise):
    particles = write_extracted(store, particles_and_noise)
    with store.product("particles/extracted").write("extract_particles", 2, PARAMS, {}) as attempt:
        write_particles(attempt, ParticleSet(particles.exposure_ids, particles.select(np.arange(0)).columns))
    with pytest.raises(ValueError, match="found no particles"):
        classify_2d.fn(store.url, PARAMS)


def test_few_particles_make_fewer_classes_and_say_so(store, workers, particles_and_noise, caplog):
    few = Imaged(particles_and_noise.images[:12], *(getattr(particles_and_noise, n) for n in ("defocus", "optics")),
                 particles_and_noise.transfer[:12])  # fmt: skip
    write_extracted(store, few)
    with caplog.at_level(logging.WARNING):
        classify_2d.fn(store.url, PARAMS)
    assert "too few for 4 classes; 2 classes are made" in caplog.text
    assert len(store.product("classes/2d").read()["class_average"]) == 2
