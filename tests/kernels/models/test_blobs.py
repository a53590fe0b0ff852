"""Pieces of density and their peaks are those that were drawn."""

import math

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.blobs import blobs, peaks, spread_places

ORIGIN = torch.tensor([10.0, -5.0, 2.0], dtype=torch.float64)


def drawn(places, heights, sigma_voxels=2.0, n=32, size=0.8):
    axes = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float64)] * 3, indexing="ij"), -1)
    values = torch.zeros(n, n, n, dtype=torch.float64)
    for place, height in zip(places, heights):
        values += height * torch.exp(-(axes - torch.tensor(place)).square().sum(-1) / (2 * sigma_voxels**2))
    return DensityGrid(values.float(), size, ORIGIN)


def test_two_balls_are_two_pieces_of_the_volume_that_they_have():
    grid = drawn([(8.0, 8.0, 8.0), (22.0, 20.0, 22.0)], [10.0, 6.0])
    found = blobs(grid, 3.0)
    assert len(found) == 2
    radius = [2.0 * math.sqrt(2 * math.log(h / 3)) * 0.8 for h in (10, 6)]
    for volume, r in zip(found.volume_angstrom3.tolist(), radius):
        assert volume == pytest.approx(4 / 3 * math.pi * r**3, rel=0.1)
    assert torch.allclose(found.middle_angstrom[0], ORIGIN + 8 * 0.8, atol=0.1)
    assert found.peak.tolist() == pytest.approx([10.0, 6.0], abs=0.1)


def test_a_gap_is_bridged_where_that_is_asked_for_and_forbidden_voxels_do_not_count():
    grid = drawn([(10.0, 16.0, 16.0), (21.0, 16.0, 16.0)], [10.0, 10.0])
    assert len(blobs(grid, 3.0)) == 2
    assert len(blobs(grid, 3.0, gap_voxels=3)) == 1
    allowed = torch.ones_like(grid.voxels, dtype=torch.bool)
    allowed[:16] = False
    assert len(blobs(grid, 3.0, allowed)) == 1
    assert len(blobs(grid, 11.0)) == 0


def test_a_long_winding_piece_is_one():
    voxels = torch.zeros(20, 20, 20)
    voxels[2, 2:18, 2] = voxels[2, 17, 2:18] = voxels[2:18, 17, 17] = voxels[17, 2:18, 17] = 1.0
    assert len(blobs(DensityGrid(voxels, 1.0, ORIGIN), 0.5)) == 1


def test_a_peak_is_found_between_the_voxels_and_a_ball_is_round():
    place = (12.3, 14.8, 11.4)
    found = peaks(drawn([place], [10.0], sigma_voxels=1.6), 3.0)
    assert len(found) == 1
    assert torch.allclose(found.place_angstrom[0], ORIGIN + torch.tensor(place).double() * 0.8, atol=0.08)
    assert float(found.height[0]) == pytest.approx(10.0, rel=0.08)
    assert float(found.roundness[0]) > 0.85


def test_a_rod_is_not_round():
    rod = peaks(drawn([(16.0, 16.0, 12.0 + k) for k in range(9)], [4.0] * 9), 3.0)
    assert float(rod.roundness[0]) < 0.5


def test_places_are_spread():
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [9, 0, 0], [10, 0, 0]])
    assert spread_places(line, 2).tolist() == [0, 3]
    assert len(spread_places(line, 9)) == 4
