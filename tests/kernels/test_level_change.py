"""A change of level is found, with the right size, and noise or a few outliers are none."""

import math

import numpy as np
import pytest

from kernels.level_change import level_change


def noise(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


def test_a_step_is_measured():
    values = np.concatenate([10 + noise(200, 1), 13 + noise(25, 2)])
    change = level_change(values, 25, 200)
    assert change.before == pytest.approx(10, abs=4 * 1.25 / math.sqrt(200))
    assert change.recent == pytest.approx(13, abs=4 * 1.25 / math.sqrt(25))
    assert change.n_sigma > 6


def test_the_sigma_of_a_median_is_that_of_repeated_draws():
    draws = np.array([np.median(noise(25, seed)) for seed in range(400)])
    sigmas = np.array([level_change(noise(275, 1000 + seed), 25, 250).sigma for seed in range(200)])
    assert np.median(sigmas) == pytest.approx(draws.std() * math.sqrt(1.1), rel=0.3)


def test_scale_and_offset_change_nothing_but_the_unit():
    values = np.concatenate([noise(200, 3), 2 + noise(25, 4)])
    plain, scaled = level_change(values, 25, 200), level_change(1000 + 50 * values, 25, 200)
    assert scaled.n_sigma == pytest.approx(plain.n_sigma, rel=1e-9)
    assert scaled.before == pytest.approx(1000 + 50 * plain.before)


def test_outliers_and_missing_values_move_nothing():
    values = np.concatenate([noise(200, 5), noise(25, 6)])
    spoilt = values.copy()
    spoilt[::10] = 1e6
    with_gaps = np.concatenate([values, np.full((7,), math.nan)])
    assert level_change(spoilt, 25, 200).n_sigma < 4
    assert level_change(with_gaps, 25, 200) == level_change(values, 25, 200)


def test_what_neighbours_share_is_no_change():
    """Grid squares of 25 exposures that differ by ten times the scatter within: the next one is as different."""
    squares = 10 * noise(9, 7).repeat(25) + noise(225, 8)
    assert level_change(squares, 25, 200).n_sigma < 4


def test_too_few_values_say_nothing():
    assert level_change(noise(149, 9), 25, 200) is None
    assert level_change(noise(150, 9), 25, 200) is not None


def test_a_constant_sequence_that_steps_is_certain():
    values = np.concatenate([np.full((150,), 4.0), np.full((25,), 5.0)])
    assert level_change(values, 25, 150).n_sigma == math.inf
    assert level_change(values[:150], 25, 125).n_sigma == 0
