"""A session of particles and noise through 2D classification: what is kept, what is dropped and why."""

import logging
from dataclasses import fields

import numpy as np
import pytest
import torch

from kernels.ctf import Defocus
from kernels.rotations import random_rotations
from tasks import classify_2d as stage
from tasks.classify_2d import Classify2dParams, classify_2d
from tasks.records.particles import ParticleSet
from tasks.stores.products.particle_store import read_particles, write_particles
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import Imaged, cage_points, gaussian_projections, imaged

PIXEL, N, N_GOOD, N_NOISE = 4.0, 40, 120, 30
PARAMS = Classify2dParams(
    n_classes=4, n_iterations=8, n_renewal_iterations=3, resolution_angstrom=14.0, block_size=100
)  # fmt: skip
GROWTH_ORDER = torch.randperm(N_GOOD + N_NOISE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def particles_and_noise() -> Imaged:
    generator = torch.Generator().manual_seed(4)
    shift = 4 * torch.randn(N_GOOD, 2, generator=generator)
    projections = gaussian_projections(
        cage_points("O", 12, 45.0, 1), random_rotations(N_GOOD, generator), shift, N, PIXEL, 5.0
    )
    return imaged(torch.cat([projections, torch.zeros(N_NOISE, N, N)]), PIXEL, 0.3, 2)


def test_particles_are_kept_and_noise_is_dropped(store, workers, particles_and_noise, place):
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


def classify_until_iteration_5(url: str) -> None:
    """A run that is killed when its fifth iteration is to be finished."""
    update = stage._Run._update

    def interrupted(self, iteration, blocks):
        if iteration == 5:
            raise KeyboardInterrupt
        update(self, iteration, blocks)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage._Run, "_update", interrupted)
        classify_2d.fn(url, PARAMS)


def test_an_interrupted_run_continues_to_the_same_result(store, workers, particles_and_noise):
    write_extracted(store, particles_and_noise)
    classify_until_iteration_5(store.url)
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


def part(imaged: Imaged, rows: torch.Tensor) -> Imaged:
    defocus = Defocus(*(getattr(imaged.defocus, field.name)[rows] for field in fields(Defocus)))
    return Imaged(imaged.images[rows], defocus, imaged.optics, imaged.transfer[rows])


@pytest.fixture(scope="module")
def growing(particles_and_noise) -> list[Imaged]:
    """50 particles of each exposure, in two exposures and in three; a fifth of them is noise."""
    return [part(particles_and_noise, GROWTH_ORDER[:n]) for n in (100, 150)]


def correlations(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """(class, class) correlation coefficients of averages as they lie."""
    n = len(new)
    return np.corrcoef(np.concatenate([new, old]).reshape(2 * n, -1))[:n, n:]


def test_a_set_that_grew_is_classified_from_the_last_averages_and_classes_keep_their_numbers(store, workers, growing):
    write_extracted(store, growing[0], 2)
    first = classify_2d.fn(store.url, PARAMS)
    old = store.product("classes/2d").read()
    assert old.record.details["renewed_from"] is None
    write_extracted(store, growing[1], 3)
    report = classify_2d.fn(store.url, PARAMS)
    assert report.done == ["classes/2d", "particles/selected"]
    new = store.product("classes/2d").read()
    assert new.record.details["renewed_from"] == {
        "product": "classes/2d", "fingerprint": old.record.fingerprint, "n_particles": 100, "generation": 1
    }  # fmt: skip
    assert sum(new.attributes["n_particles"]) == 150
    likeness = correlations(new["class_average"], old["class_average"])
    is_particle = np.array(old.attributes["is_kept"]) & np.array(new.attributes["is_kept"])
    assert is_particle.sum() >= 2
    assert (likeness.argmax(1) == np.arange(4))[is_particle].all()
    # every particle of the larger set was assigned anew, and noise is dropped still
    selected = read_particles(store.product("particles/selected").read())
    assert set(selected["exposure"].tolist()) == {0, 1, 2}
    is_noise = GROWTH_ORDER[:150][selected["stack_index"] + 50 * selected["exposure"]] >= N_GOOD
    assert len(selected) > 0.95 * N_GOOD
    assert is_noise.sum() <= 3
    assert classify_2d.fn(store.url, PARAMS).kept == ["classes/2d", "particles/selected"]
    # other classes to keep cost nothing, and do not count as a renewal
    again = classify_2d.fn(store.url, PARAMS.model_copy(update={"keep": "all"}))
    assert again.cpu_seconds < 0.3 * first.cpu_seconds
    assert store.product("classes/2d").record().details["renewed_from"]["generation"] == 1
    # from nothing when that is asked for
    classify_2d.fn(store.url, PARAMS.model_copy(update={"start": "nothing"}))
    assert store.product("classes/2d").record().details["renewed_from"] is None


def test_an_interrupted_renewal_continues_and_the_last_classes_stay_until_the_next_are_there(store, workers, growing):
    write_extracted(store, growing[0], 2)
    classify_2d.fn(store.url, PARAMS)
    last = store.product("classes/2d").read()["class_average"]
    write_extracted(store, growing[1], 3)
    classify_until_iteration_5(store.url)
    np.testing.assert_array_equal(store.product("classes/2d").read()["class_average"], last)
    run = stage._Run(store, PARAMS)
    assert run.scratch.record("iteration_005")
    assert run.scratch.record("iteration_002") is None
    classify_2d.fn(store.url, PARAMS)
    assert store.product("classes/2d").record().figures["n_particles"] == 150


def test_other_particles_or_parameters_are_classified_from_nothing(store, workers, growing, caplog):
    few = PARAMS.model_copy(update={"n_iterations": 3, "resolution_angstrom": 20.0})
    coarser = few.model_copy(update={"resolution_angstrom": 21.0})
    write_extracted(store, growing[0], 2)
    classify_2d.fn(store.url, few)
    with caplog.at_level(logging.INFO):
        classify_2d.fn(store.url, coarser)
        assert "other parameters (resolution_angstrom)" in caplog.text
        particles = write_extracted(store, growing[1], 3)
        moved = particles.with_columns(coordinate_px=particles["coordinate_px"] + 20)
        with store.product("particles/extracted").write("extract_particles", 1, PARAMS, {}) as attempt:
            write_particles(attempt, moved)
        classify_2d.fn(store.url, coarser)
        assert "of other particles" in caplog.text
    assert store.product("classes/2d").record().details["renewed_from"] is None
