"""Parts of maps show the same density in the same place."""

import pytest
import torch
from torch.testing import assert_close

from kernels.maps.cutting import coarser, cut_around
from kernels.maps.grid import DensityGrid

ORIGIN = torch.tensor([-7.0, 3.0, 11.5], dtype=torch.float64)


def blob(shape=(44, 50, 47), voxel_size=0.8, sigma=2.5) -> tuple[DensityGrid, torch.Tensor]:
    """A Gaussian, and its centre in Å."""
    centre = ORIGIN + torch.tensor([17.3, 20.1, 18.2], dtype=torch.float64)
    empty = DensityGrid(torch.zeros(shape), voxel_size, ORIGIN)
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"), dim=-1)
    distance = (empty.to_angstrom(index) - centre).norm(dim=-1)
    return empty.with_voxels(torch.exp(-(distance**2) / (2 * sigma**2)).float()), centre


def test_a_cut_holds_the_same_density_at_the_same_place():
    grid, centre = blob()
    around = torch.stack([centre - 2, centre + 3])
    part = cut_around(grid, around, margin_angstrom=4.0)
    assert part.voxels.numel() < grid.voxels.numel() / 4
    places = centre + 6 * (torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5)
    assert_close(part.values_at(places), grid.values_at(places), atol=1e-6, rtol=0)
    assert_close(part.to_angstrom(torch.zeros(3)), grid.to_angstrom(grid.to_voxels(part.origin_angstrom).round()))


def test_a_cut_ends_where_the_map_does():
    grid, centre = blob()
    assert cut_around(grid, centre[None], margin_angstrom=500.0).voxels.shape == grid.voxels.shape


def test_a_model_beside_its_map_is_told_from_one_inside():
    grid, centre = blob()
    with pytest.raises(ValueError, match="outside of its map"):
        cut_around(grid, (centre + 300)[None], margin_angstrom=4.0)


@pytest.mark.parametrize("voxel_size", [0.8, 1.0, 1.37])
def test_a_coarser_map_follows_the_density_that_it_can_hold(voxel_size):
    grid, centre = blob()
    coarse = coarser(grid, voxel_size)
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in coarse.voxels.shape), indexing="ij"), dim=-1)
    distance = (coarse.to_angstrom(index) - centre).norm(dim=-1)
    truth = torch.exp(-(distance**2) / (2 * 2.5**2)).float()
    # what is left is the jump between opposite faces of a box that is not periodic
    assert_close(coarse.voxels, truth, atol=0.01, rtol=0)


def test_a_finer_map_is_refused():
    grid, _ = blob()
    with pytest.raises(ValueError, match=r"no less than the map's 0\.8"):
        coarser(grid, 0.5)
