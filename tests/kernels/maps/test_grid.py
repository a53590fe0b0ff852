"""A map is sampled where its frame says."""

import torch

from kernels.maps.grid import DensityGrid

ORIGIN = torch.tensor([-3.0, 2.0, 11.0], dtype=torch.float64)


def linear(n: tuple[int, int, int]) -> tuple[DensityGrid, torch.Tensor]:
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    grid = DensityGrid(torch.zeros(n, dtype=torch.float64), 1.25, ORIGIN)
    index = torch.cartesian_prod(*[torch.arange(k) for k in n])
    return grid.with_voxels((grid.to_angstrom(index) @ slope).reshape(n)), slope


def test_a_linear_density_is_sampled_exactly_up_to_the_last_voxel():
    grid, slope = linear((5, 6, 7))
    inside = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    place = torch.cat([inside, corners]) * (torch.tensor([5, 6, 7]) - 1) * 1.25 + ORIGIN
    torch.testing.assert_close(grid.values_at(place), place @ slope)


def test_there_is_nothing_outside_of_a_map():
    grid, _ = linear((5, 6, 7))
    outside = ORIGIN + torch.tensor([[-0.1, 1, 1], [1, 1, 7.6], [900, 1, 1]])
    assert grid.values_at(outside).tolist() == [0, 0, 0]
    assert grid.values_at(outside[None]).shape == (1, 3)


def test_voxels_show_nothing_finer_than_two_of_them():
    grid = DensityGrid(torch.zeros(4, 4, 4), 1.5, torch.zeros(3, dtype=torch.float64))
    assert grid.resolution_shown(4.2) == 4.2
    assert 3.0 < grid.resolution_shown(2.5) < 3.01
