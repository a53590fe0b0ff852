"""Atoms are drawn to where the map shows them, and nowhere once they are there."""

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.density_match import density_match
from kernels.models.map_fit import model_density
from kernels.models.map_likelihood import scattering_strength
from tests.truth.cage_model import cage_subunit

RESOLUTION = 7.0


@pytest.fixture(scope="module")
def case():
    model = cage_subunit(60)
    low, high = model.coordinates_angstrom.amin(0) - 25, model.coordinates_angstrom.amax(0) + 25
    shape = [int(n) for n in ((high - low) / 2.0).ceil()]
    empty = DensityGrid(torch.zeros(shape), 2.0, low)
    return model, model_density(model, empty, RESOLUTION)


def test_the_slope_is_that_of_finite_differences(case):
    model, grid = case
    match = density_match(grid, model.coordinates_angstrom, scattering_strength(model), RESOLUTION, 15.0)
    place = (model.coordinates_angstrom + 2.0).requires_grad_()
    match(place).backward()
    direction = torch.randn(place.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction[:, 0] += 1
    with torch.no_grad():
        ahead, behind = (float(match(place + step * direction)) for step in (0.05, -0.05))
    assert float((place.grad * direction).sum()) == pytest.approx((ahead - behind) / 0.1, rel=0.05)


def test_the_right_place_is_best_and_another_molecule_in_the_map_changes_little(case):
    model, grid = case
    shift = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    beside = model.at(model.coordinates_angstrom + torch.tensor([0.0, 45.0, 0.0]))
    wide = DensityGrid(torch.zeros(*grid.voxels.shape[:1], 90, grid.voxels.shape[2]), 2.0, grid.origin_angstrom)
    both = wide.with_voxels(
        model_density(model, wide, RESOLUTION).voxels + model_density(beside, wide, RESOLUTION).voxels
    )
    values = []
    for some in (grid, both):
        match = density_match(some, model.coordinates_angstrom, scattering_strength(model), RESOLUTION, 40.0)
        right, *wrong = (float(match(model.coordinates_angstrom + k * shift)) for k in (0, 2, -2))
        assert right > max(wrong)
        values.append(right - max(wrong))
    assert values[1] == pytest.approx(values[0], rel=0.2)


def test_a_model_without_density_is_told():
    model = cage_subunit(30)
    grid = DensityGrid(torch.zeros(30, 30, 30), 3.0, model.coordinates_angstrom.mean(0) - 45)
    with pytest.raises(ValueError, match="no density where the model is"):
        density_match(grid, model.coordinates_angstrom, scattering_strength(model), RESOLUTION, 15.0)
