"""Scores against cases that can be counted by hand."""

import pytest
import torch

from kernels.scores import matched_points, precision_and_recall, trajectory_error


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
