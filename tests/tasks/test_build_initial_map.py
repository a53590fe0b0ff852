"""From selected particles to a first map in the store."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kernels.maps.alignment import align_map
from kernels.rotations import random_rotations
from tasks import build_initial_map as stage
from tasks.build_initial_map import BuildInitialMapParams, build_initial_map
from tasks.stores.products.map_store import density_map, read_map
from tasks.stores.products.particle_store import read_particles, write_particles
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import cage_points, gaussian_map, gaussian_projections, imaged

N, PIXEL = 40, 4.5
POINTS = cage_points("O", 6, 46.0, 5)
PARAMS = BuildInitialMapParams(
    symmetry="O", n_restarts=4, n_iterations=10, n_final_iterations=3, first_resolution_angstrom=30.0,
    restart_resolution_angstrom=22.0, resolution_angstrom=16.0, diameter_angstrom=120.0, shift_radius_angstrom=8.0,
)  # fmt: skip


def write_selected(store, n_particles, n_exposures=2, seed=3):
    """``particles/selected``, off centre by as much as their column of shifts says and a little more."""
    generator = torch.Generator().manual_seed(seed)
    known = 6.0 * torch.randn(n_particles, 2, generator=generator)
    shift = known + 2.0 * torch.randn(n_particles, 2, generator=generator)
    rotation = random_rotations(n_particles, generator)
    images = imaged(gaussian_projections(POINTS, rotation, shift, N, PIXEL, 5.0), PIXEL, 0.2, seed)
    particles = write_extracted(store, images, n_exposures).with_columns(shift_angstrom=known.numpy())
    inputs = store.fingerprints(["particles/extracted"])
    with store.product("particles/selected").write("classify_2d", 1, PARAMS, inputs) as attempt:
        write_particles(attempt, particles)


def test_the_initial_map_is_the_particle_and_its_record_says_what_it_is(store, workers, place):
    write_selected(store, 150)
    report = build_initial_map.fn(store.url, PARAMS)
    assert report.done == ["maps/initial"]
    about = density_map(store, "initial")
    assert (about.kind, about.symmetry, about.n_particles) == ("initial", "O", 150)
    reader = read_map(store, "initial")
    found = torch.from_numpy(reader["map"])
    assert found.shape == (N, N, N)
    assert about.pixel_size_angstrom == pytest.approx(PIXEL)
    truth = gaussian_map(POINTS, N, PIXEL, 8.0)
    assert align_map(found, truth, "O").correlation > 0.9
    # protein is positive although it is dark in the images
    assert found[truth > truth.max() / 2].mean() > 5 * found[truth < truth.max() / 100].mean().abs()
    likelihoods = reader.record.details["restart_log_likelihood"]
    assert len(likelihoods) == 4
    assert reader.record.figures["log_likelihood"] == pytest.approx(max(likelihoods))
    assert reader.record.details["restart_correlation_to_best"][int(np.argmax(likelihoods))] == 1.0
    assert build_initial_map.fn(store.url, PARAMS).kept == ["maps/initial"]


def judge(store, record, is_convincing: bool) -> None:
    """Put a first map's record there with another verdict: what few short restarts are worth is left to chance."""
    figures = {**record.figures, "is_convincing": is_convincing}
    store.product("maps/initial")._put(record.model_copy(update={"figures": figures}))


def test_a_convincing_map_stays_when_particles_are_added_and_a_poor_one_does_not(store, workers):
    few = PARAMS.model_copy(update={"n_iterations": 2, "n_final_iterations": 1, "n_restarts": 2})
    write_selected(store, 24, 2)
    build_initial_map.fn(store.url, few)
    first = store.product("maps/initial").record()
    write_selected(store, 36, 3)
    judge(store, first, True)
    assert build_initial_map.fn(store.url, few).kept == ["maps/initial"]
    assert store.product("maps/initial").record().fingerprint == first.fingerprint
    for changed in ({"resolution_angstrom": 17.0}, {"rebuild": "always"}):
        assert build_initial_map.fn(store.url, few.model_copy(update=changed)).done == ["maps/initial"]
        judge(store, first, True)
    judge(store, first, False)
    assert build_initial_map.fn(store.url, few).done == ["maps/initial"]
    judge(store, first, True)
    elsewhere = read_particles(store.product("particles/selected").read())
    elsewhere = elsewhere.with_columns(coordinate_px=elsewhere["coordinate_px"] + 20)
    with store.product("particles/selected").write("classify_2d", 2, PARAMS, {}) as attempt:
        write_particles(attempt, elsewhere)
    assert build_initial_map.fn(store.url, few).done == ["maps/initial"]


def test_an_interrupted_run_keeps_its_restarts_and_ends_at_the_same_map(store, workers, monkeypatch):
    write_selected(store, 60)
    few = PARAMS.model_copy(update={"n_iterations": 3, "n_final_iterations": 2, "n_restarts": 2})
    first = build_initial_map.fn(store.url, few)
    expected = read_map(store, "initial")["map"]
    (store.location / "maps").remove()

    def lost(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_write_map", lost)
    with pytest.raises(KeyboardInterrupt):
        build_initial_map.fn(store.url, few)
    monkeypatch.undo()
    report = build_initial_map.fn(store.url, few)
    assert report.cpu_seconds < 0.3 * first.cpu_seconds
    np.testing.assert_allclose(read_map(store, "initial")["map"], expected, atol=1e-4)


def test_too_few_particles_are_refused_with_their_number(store, workers):
    write_selected(store, 12)
    with pytest.raises(ValueError, match="found 12 particles, expected at least 20"):
        build_initial_map.fn(store.url, PARAMS)


def test_an_unknown_symmetry_is_refused_before_anything_is_read():
    with pytest.raises(ValidationError, match="expected Cn or Dn"):
        BuildInitialMapParams(symmetry="X7")
