"""The likelihood at atoms against the sum over Fourier coefficients that it stands for."""

import pytest

from kernels.models.map_likelihood import map_likelihood, map_surprise
from tests.truth.cage_model import cage_subunit, smoothly_displaced
from tests.truth.model_maps import simulated_maps


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(60), 3.0, padding_angstrom=8)


def test_the_right_model_lies_at_the_bottom(maps):
    likelihood = map_likelihood(maps.sharpened, maps.model, 3.0)
    pairs = likelihood.pairs(maps.model.coordinates_angstrom)
    energies = [
        float(likelihood(smoothly_displaced(maps.model, rms).coordinates_angstrom, pairs))
        if rms
        else float(likelihood(maps.model.coordinates_angstrom, pairs))
        for rms in (0.0, 0.2, 0.5, 1.0)
    ]
    assert energies == sorted(energies)


def test_forces_on_the_right_model_are_small_beside_those_on_a_displaced_one(maps):
    likelihood = map_likelihood(maps.sharpened, maps.model, 3.0)

    def force(place):
        free = place.clone().requires_grad_()
        likelihood(free, likelihood.pairs(place)).backward()
        return free.grad

    moved_place = smoothly_displaced(maps.model, 0.5).coordinates_angstrom
    shift = moved_place - maps.model.coordinates_angstrom
    at_rest, away = ((force(place) * shift).sum() for place in (maps.model.coordinates_angstrom, moved_place))
    assert away > 0  # downhill is back
    assert at_rest.abs() < 0.1 * away


def test_a_worse_model_trusts_the_map_less(maps):
    near, far = (
        map_likelihood(maps.sharpened, smoothly_displaced(maps.model, rms), 3.0).force[0, 0] for rms in (0.2, 1.2)
    )
    assert far < 0.5 * near


def test_the_slope_is_that_of_the_energy(maps):
    likelihood = map_likelihood(maps.sharpened, maps.model, 3.0)
    place = smoothly_displaced(maps.model, 0.3).coordinates_angstrom
    pairs = likelihood.pairs(place)
    free = place.clone().requires_grad_()
    likelihood(free, pairs).backward()
    direction, step = free.grad / free.grad.norm(), 1e-3
    found = (likelihood(place + step * direction, pairs) - likelihood(place - step * direction, pairs)) / (2 * step)
    assert float(found) == pytest.approx(float((free.grad * direction).sum()), rel=0.01)


def test_surprise_orders_models_whatever_they_were_refined_with(maps):
    found = [map_surprise(maps.sharpened, smoothly_displaced(maps.model, rms), 3.0) for rms in (0.1, 0.4, 1.0, 3.0)]
    assert found == sorted(found)
    assert found[0] < -500 and found[-1] > -150


def test_a_model_of_another_place_is_refused(maps):
    away = maps.model.at(maps.model.coordinates_angstrom + 500)
    with pytest.raises(ValueError, match="outside of the map"):
        map_likelihood(maps.sharpened, away, 3.0)
    inverted = maps.sharpened.with_voxels(-maps.sharpened.voxels)
    with pytest.raises(ValueError, match="agree in no shell"):
        map_likelihood(inverted, maps.model, 3.0)
