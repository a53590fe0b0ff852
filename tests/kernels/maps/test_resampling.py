"""Voxels that are no cubes are made cubic without loss."""

import math

import pytest
import torch

from kernels.maps.resampling import on_cubic_voxels


@pytest.mark.parametrize("n", [24, 25])
def test_a_wave_is_sampled_where_it_is(n):
    sizes = (1.1, 1.0, 1.05)
    axes = [torch.arange(n, dtype=torch.float64) * size for size in sizes]
    waves = [torch.cos(2 * math.pi * 5 * a / (n * s) + 0.3 * i) for i, (a, s) in enumerate(zip(axes, sizes))]
    voxels = waves[0][:, None, None] * waves[1][None, :, None] * waves[2][None, None, :]
    found, size = on_cubic_voxels(voxels, sizes)
    assert size == 1.0
    assert found.shape == tuple(int((n - 1) * s) + 1 for s in sizes)
    expected = torch.ones(())
    for i, s in enumerate(sizes):
        position = torch.arange(found.shape[i], dtype=torch.float64)
        wave = torch.cos(2 * math.pi * 5 * position / (n * s) + 0.3 * i)
        expected = expected * wave.reshape([-1 if j == i else 1 for j in range(3)])
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
