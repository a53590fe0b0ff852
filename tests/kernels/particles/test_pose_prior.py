"""How far poses deviate, told from deviations that are only known so well."""

import math

import pytest
import torch

from kernels.particles.pose_prior import PosePrior, prior_widths
from kernels.rotations import from_rotation_vector, random_rotations, to_rotation_vector


@pytest.mark.parametrize(("turn_rad", "move_px"), [(0.08, 0.5), (0.02, 1.5)])
def test_widths_are_those_that_were_planted(turn_rad, move_px):
    """Measured with errors as large as the widths, and shrunk by a prior that is too wide."""
    found = found_widths(turn_rad, move_px, error=(turn_rad, move_px))
    assert found == pytest.approx((turn_rad, move_px), rel=0.12)


def test_errors_alone_are_no_movement():
    turn_rad, move_px = found_widths(0.0, 0.0, error=(0.06, 0.8))
    assert turn_rad < 0.015
    assert move_px < 0.2


def found_widths(turn_rad, move_px, error):
    n, generator = 2000, torch.Generator().manual_seed(1)
    true = torch.randn(n, 5, generator=generator) * torch.tensor([turn_rad] * 3 + [move_px] * 2)
    of_error = torch.tensor([error[0]] * 3 + [error[1]] * 2)
    measured = true + torch.randn(n, 5, generator=generator) * of_error
    precision = torch.diag(of_error**-2).expand(n, 5, 5)
    nothing = torch.eye(3).expand(n, 3, 3)
    prior = PosePrior(nothing, torch.zeros(n, 2), 0.1, 2.0)
    best = torch.linalg.solve(precision + torch.diag(prior.precision), precision @ measured[..., None])[..., 0]
    return prior_widths(best, precision, prior, (0.1, 2.0))


def test_deviations_are_turns_in_the_frame_of_the_image():
    generator = torch.Generator().manual_seed(2)
    known = random_rotations(20, generator)
    turn, move = 0.4 * torch.randn(20, 3, generator=generator), torch.randn(20, 2, generator=generator)
    prior = PosePrior(known, torch.zeros(20, 2), 0.5, 1.0)
    found = prior.deviation(from_rotation_vector(turn) @ known, move)
    torch.testing.assert_close(found, torch.cat([turn, move], 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        prior.penalty(from_rotation_vector(turn) @ known, move),
        2 * turn.square().sum(1) + move.square().sum(1) / 2, atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    assert to_rotation_vector(torch.eye(3)).abs().max() == 0
    half = torch.tensor([0.0, math.pi - 0.01, 0.0])
    torch.testing.assert_close(to_rotation_vector(from_rotation_vector(half)), half, atol=1e-3, rtol=0)
