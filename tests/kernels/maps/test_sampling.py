"""Density between voxels against a map known everywhere."""

import math

import torch
from torch.testing import assert_close

from kernels.maps.sampling import sampled, spline_coefficients


def wave(points_px, shape):
    """A map that is periodic in its box, at (..., 3) positions."""
    phase = 2 * math.pi * points_px / torch.tensor(shape)
    return torch.cos(phase[..., 0] * 2) * torch.sin(phase[..., 1]) + torch.cos(phase[..., 2] * 3 + phase[..., 1])


SHAPE = (24, 30, 20)


def voxels():
    axes = [torch.arange(n, dtype=torch.float64) for n in SHAPE]
    return wave(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1), SHAPE)


def test_the_spline_passes_through_every_voxel():
    points = torch.tensor([[0.0, 0, 0], [23, 29, 19], [5, 17, 3]], dtype=torch.float64)
    found = sampled(spline_coefficients(voxels()), points)
    assert_close(found, wave(points, SHAPE), atol=1e-6, rtol=0)


def test_density_between_voxels_is_that_of_the_map():
    points = torch.rand(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 40 - 10
    found = sampled(spline_coefficients(voxels()), points)
    assert_close(found, wave(points, SHAPE), atol=5e-3, rtol=0)  # a wave of 7 voxels is the shortest


def test_the_gradient_is_that_of_the_spline():
    coefficients = spline_coefficients(voxels())
    points = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 15
    points.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: sampled(coefficients, p), points)


def test_shapes_of_positions_are_kept():
    assert sampled(spline_coefficients(voxels()), torch.zeros(2, 0, 3)).shape == (2, 0)
