"""Transforms, shifts, resampling and shells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kernels import fourier

SHAPES = [(8, 8), (9, 7), (10, 7), (7, 10)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes_transform(shape):
    image = noise(3, *shape)
    assert_close(fourier.inverse(fourier.transform(image), shape), image)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_point_at_the_origin_has_a_flat_real_transform(shape):
    image = torch.zeros(shape)
    image[shape[0] // 2, shape[1] // 2] = 1
    assert_close(fourier.transform(image), torch.ones_like(fourier.transform(image)))


@settings(deadline=None, max_examples=20)
@given(st.tuples(st.integers(-4, 4), st.integers(-4, 4)))
def test_a_whole_shift_is_a_roll(step):
    image = noise(2, 9, 12)
    moved = fourier.shift(image, torch.tensor(step, dtype=torch.float64))
    assert_close(moved, image.roll(step, dims=(-2, -1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "new"), [((12, 12), (8, 8)), ((12, 10), (9, 7)), ((9, 7), (12, 10)), ((8, 8, 8), (6, 6, 6))]
)
def test_resampling_keeps_a_smooth_wave(shape, new):
    def wave(n):
        axes = [torch.arange(m, dtype=torch.float64) - m // 2 for m in n]
        grid = torch.meshgrid(*axes, indexing="ij")
        return 3 + torch.cos(2 * torch.pi * sum(g / m for g, m in zip(grid, n)) + 0.4)

    assert_close(fourier.resample(wave(shape), new), wave(new))


def test_shell_sums_of_the_hermitian_weights_count_the_full_transform():
    shape = (10, 10)
    index = fourier.shell_index(shape)
    weights = fourier.hermitian_weights(shape).expand(index.shape)
    sums = fourier.shell_sums(weights, index, 20)
    full = fourier.shell_index((10, 10))
    assert sums.sum() == 100
    assert sums[0] == 1
    assert full.max() < 20


def test_fast_sizes_are_even_and_smooth():
    assert [fourier.fast_size(n) for n in (7, 121, 176, 241)] == [8, 128, 180, 250]


def test_a_low_pass_keeps_coarse_waves_and_takes_fine_ones():
    axis = torch.arange(24, dtype=torch.float64) * 2.0
    coarse, fine = torch.cos(2 * torch.pi * axis / 24), torch.cos(2 * torch.pi * axis / 6)
    image = (coarse + fine).expand(24, 24)
    assert_close(fourier.low_passed(image, 2.0, 10.0, ndim=2), coarse.expand(24, 24), atol=1e-6, rtol=0)
