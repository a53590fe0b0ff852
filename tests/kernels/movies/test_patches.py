"""Patches of a movie."""

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.interpolation import spline_basis
from kernels.movies.patches import Patches


@pytest.mark.parametrize(("shape", "n_patches"), [((90, 100), (3, 4)), ((64, 52), (2, 2))])
def test_every_pixel_but_those_at_the_edges_counts_once(shape, n_patches):
    frames = torch.zeros(2, *shape)
    margin = [n // count // 2 for n, count in zip(shape, n_patches)]
    inner = frames[:, margin[0] : -margin[0], margin[1] : -margin[1]]
    inner += torch.randn(inner.shape, generator=torch.Generator().manual_seed(1))
    patches = Patches(frames, n_patches)
    weights = fourier.hermitian_weights(patches.shape) / (patches.shape[0] * patches.shape[1])
    power = sum((patch.abs().square() * weights).sum((1, 2)) for patch in patches)
    # where a spacing is not a whole number of pixels, windows meet to a few per cent
    assert_close(power, frames.square().sum((1, 2)), rtol=0.03, atol=0)


def test_an_area_is_what_a_window_sees():
    patches = Patches(torch.ones(1, 60, 75), (3, 3))
    seen = torch.stack([patch[0].abs().square() for patch in patches])
    weights = fourier.hermitian_weights(patches.shape) / (patches.shape[0] * patches.shape[1])
    assert_close((seen * weights).sum((1, 2)), patches.area_px, rtol=1e-4, atol=0)


def test_an_even_field_has_the_same_mean_under_every_window():
    patches = Patches(torch.zeros(1, 120, 90), (4, 3))
    assert_close(patches.spline_weights((6, 5)).sum(1), torch.ones(12))


def test_a_linear_field_has_its_value_at_the_middle_of_an_inner_window():
    patches = Patches(torch.zeros(1, 200, 200), (5, 5))
    knots = (torch.arange(6.0) - 1) / 3  # where control points have their weight: splines keep lines
    field = patches.spline_weights((6, 6)) @ knots[:, None].expand(6, 6).reshape(-1)
    assert_close(field.reshape(5, 5)[1:4, 0], torch.tensor([0.3, 0.5, 0.7]), atol=1e-3, rtol=0)
    assert_close(spline_basis(torch.tensor([0.3]), 6) @ knots, torch.tensor([0.3]), atol=1e-5, rtol=0)
