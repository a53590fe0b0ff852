"""Probabilities that are too sure become as sure as they turn out to be."""

import pytest
import torch

from kernels.scores import expected_calibration_error
from tasks.training.calibration import _fitted_scale, fitted_pair


def test_a_scale_and_an_offset_are_found():
    generator = torch.Generator().manual_seed(1)
    logit = 3 * torch.randn(20_000, dtype=torch.float64, generator=generator)
    is_right = torch.rand(20_000, generator=generator) < torch.sigmoid(0.5 * logit - 0.7)
    scale, offset = fitted_pair(logit, is_right).tolist()
    assert (scale, offset) == (pytest.approx(0.5, abs=0.03), pytest.approx(-0.7, abs=0.06))
    before, after = (expected_calibration_error(torch.sigmoid(l), is_right) for l in (logit, scale * logit + offset))
    assert before > 0.1
    assert after < 0.015


def test_a_temperature_is_found():
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(20_000, 5, dtype=torch.float64, generator=generator)
    truth = torch.multinomial((0.4 * logits).softmax(-1), 1, generator=generator).squeeze(1)
    assert float(_fitted_scale(logits, truth)[0]) == pytest.approx(0.4, abs=0.02)


def test_nothing_to_learn_from_changes_nothing():
    assert _fitted_scale(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).tolist() == [1, 0]
    assert fitted_pair(torch.ones(3), torch.ones(3, dtype=torch.bool)).tolist() == [1, 0]
