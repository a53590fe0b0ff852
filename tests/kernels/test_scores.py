"""Scores against cases that can be counted by hand."""

import pytest
import torch

from kernels.scores import (
    area_under_curve,
    expected_calibration_error,
    matched_points,
    precision_and_recall,
    trajectory_error,
)


def test_one_true_point_is_given_to_one_found_point_only():
    found = torch.tensor([[0.0, 1.0], [0.0, 2.0], [50.0, 0.0]])
    true = torch.tensor([[0.0, 0.0], [0.0, 30.0]])
    assert matched_points(found, true, 5.0).tolist() == [0, -1, -1]
    assert precision_and_recall(found, true, 5.0) == pytest.approx((1 / 3, 1 / 2))


def test_a_point_that_loses_its_nearest_takes_the_next_in_reach():
    found = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    true = torch.tensor([[0.0, 0.4], [0.0, -2.0]])
    assert matched_points(found, true, 2.9).tolist() == [0, -1]
    assert matched_points(found, true, 3.5).tolist() == [0, 1]


def test_nothing_found_has_no_recall():
    assert precision_and_recall(torch.zeros(0, 2), torch.ones(3, 2), 1.0) == (0.0, 0.0)


def test_a_constant_offset_is_no_motion_error():
    path = torch.randn(7, 20, 2, generator=torch.Generator().manual_seed(1))
    assert trajectory_error(path + 3.0, path) == pytest.approx(0, abs=1e-5)
    wrong = path.clone()
    wrong[..., 0] += torch.tensor([1.0, -1.0]).repeat(10)
    assert trajectory_error(wrong, path) == pytest.approx(1, abs=1e-5)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    score = torch.tensor([0.1, 0.4, 0.4, 0.8, 0.9])
    is_positive = torch.tensor([False, False, True, True, False])
    # of six pairs: 0.4 and 0.8 above 0.1, 0.4 ties 0.4, 0.8 above 0.4, both below 0.9
    assert area_under_curve(score, is_positive) == pytest.approx((1 + 0.5 + 1 + 1) / 6)
    assert area_under_curve(is_positive.float(), is_positive) == 1


def test_probabilities_that_come_true_have_no_calibration_error():
    probability = torch.tensor([0.25] * 4 + [0.85] * 20)
    is_right = torch.tensor([True, False, False, False] + [True] * 17 + [False] * 3)
    assert expected_calibration_error(probability, is_right) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(probability, ~is_right) == pytest.approx((4 * 0.5 + 20 * 0.7) / 24)
