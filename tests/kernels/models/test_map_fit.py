"""A model fits its own density, and less what lies elsewhere."""

import math
from dataclasses import replace

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.maps.sharpening import radial_amplitude
from kernels.models.map_fit import (
    map_correlations,
    map_model_fsc,
    mean_fsc,
    model_density,
    near_atoms,
    nearer_share,
    residue_correlations,
    resolution_at,
    soft_mask,
)
from tasks.formats.map_file import read_map
from tasks.formats.structure import read_structure
from tests.truth.ideal_proteins import ideal_protein

VOXEL = 1.0


@pytest.fixture(scope="module")
def model():
    found = ideal_protein("AVLSKTFEAVLSKTFE")
    return found.at(found.coordinates_angstrom - found.coordinates_angstrom.mean(0) + torch.tensor([9.0, -4, 30]))


@pytest.fixture(scope="module")
def grid(model) -> DensityGrid:
    """A box that is no cube, its origin off the voxels of zero."""
    shape = torch.tensor([48, 44, 52])
    origin = model.coordinates_angstrom.mean(0) - shape / 2 * VOXEL + 0.37
    return DensityGrid(torch.zeros(*shape.tolist()), VOXEL, origin)


def test_density_stands_where_the_atoms_do(model, grid):
    density = model_density(model, grid)
    at_atoms = density.values_at(model.coordinates_angstrom)
    assert at_atoms.min() > 4 * density.voxels.std()
    alone = model.take(torch.tensor([7]))
    peak = torch.nonzero(model_density(alone, grid).voxels == model_density(alone, grid).voxels.max())[0]
    assert (grid.to_angstrom(peak) - alone.coordinates_angstrom[0]).abs().max() < VOXEL / 2 + 0.01


def test_a_model_fits_its_own_density_perfectly(model, grid):
    density = model_density(model, grid, 3.0)
    found = map_correlations(density.with_voxels(3 * density.voxels + 7), density, model)
    assert (found.mask, found.box, found.peaks) == pytest.approx((1, 1, 1), abs=1e-5)
    torch.testing.assert_close(
        residue_correlations(density, density, model, 3.0), torch.ones(16, dtype=torch.float64), atol=1e-6, rtol=0
    )
    curve = map_model_fsc(density, density, soft_mask(density, model))
    assert mean_fsc(curve, density, 3.0) == pytest.approx(1, abs=1e-5)


def test_a_residue_that_lies_elsewhere_has_the_lowest_correlation(model, grid):
    density = model_density(model, grid, 3.0)
    place = model.coordinates_angstrom.clone()
    place[model.residue == 6] += torch.tensor([0.0, 2.5, 2.5])
    moved = model.at(place)
    found = residue_correlations(density, model_density(moved, grid, 3.0), moved, 3.0)
    assert int(found.argmin()) == 6
    assert found[6] < 0.6
    assert found[[0, 1, 11, 12, 13]].min() > 0.98


def test_occupancy_and_b_factors_are_seen(model, grid):
    full = model_density(model, grid).voxels
    half = model_density(replace(model, occupancy=torch.full((len(model),), 0.5)), grid).voxels
    torch.testing.assert_close(half, full / 2, atol=1e-4, rtol=0)
    blurred = model_density(replace(model, b_factor_angstrom2=torch.full((len(model),), 120.0)), grid).voxels
    assert blurred.max() < 0.6 * full.max()
    assert float(blurred.sum()) == pytest.approx(float(full.sum()), rel=1e-3)


def test_noise_takes_from_the_curve_what_its_strength_says(model, grid):
    """Correlation of S with S + N is sqrt(S / (S + N)) on each shell."""
    truth = model_density(model, grid)
    generator = torch.Generator().manual_seed(4)
    noise = 2.0 * float(truth.voxels.std()) * torch.randn(truth.voxels.shape, generator=generator)
    everything = torch.ones(truth.voxels.shape)
    curve = map_model_fsc(truth.with_voxels(truth.voxels + noise), truth, everything)
    power = radial_amplitude(truth.voxels)[:23] ** 2
    expected = (power / (power + radial_amplitude(noise)[:23] ** 2)).sqrt()
    torch.testing.assert_close(curve[4:22], expected[4:22], atol=0.12, rtol=0)
    assert resolution_at(curve, grid) > resolution_at(map_model_fsc(truth, truth, everything), grid)
    assert mean_fsc(curve, grid, 2.5) < 0.9


def test_a_large_map_holds_the_same_density_around_its_model(model, grid):
    large = DensityGrid(torch.zeros(90, 80, 100), VOXEL, grid.origin_angstrom - torch.tensor([20.0, 19, 31]) * VOXEL)
    found, expected = (model_density(model, which, 3.0).voxels for which in (large, grid))
    inside = found[20:68, 19:63, 31:83]
    assert (inside - expected).abs().max() < 0.02 * expected.max()
    assert found.abs().sum() < 1.1 * inside.abs().sum()
    assert model_density(model.take(torch.tensor([], dtype=torch.int64)), grid).voxels.abs().max() == 0


def test_masks_reach_as_far_as_they_say(model, grid):
    inside = near_atoms(grid, model, 3.0)
    index = torch.cartesian_prod(*[torch.arange(n) for n in grid.voxels.shape])
    distance = torch.cdist(grid.to_angstrom(index), model.coordinates_angstrom).amin(1)
    assert torch.equal(inside.reshape(-1), distance < 3.0)
    soft = soft_mask(grid, model).reshape(-1)
    assert soft[distance < 4].min() == 1
    assert soft[distance > 12].max() == 0


def test_a_mask_gives_way_to_a_neighbour_half_way(grid):
    middle = torch.tensor(grid.voxels.shape) // 2
    own, other = (grid.to_angstrom(middle + torch.tensor([0, 0, x])) for x in (-4, 4))
    share = nearer_share(grid, own[None], other[None])[middle[0], middle[1]]
    assert share[middle[2]] == 0.5
    assert (share[middle[2] - 8 : middle[2]] > 0.5).all() and (share[middle[2] - 8 : middle[2] - 1] == 1).all()
    assert (share[middle[2] + 2 : middle[2] + 9] == 0).all()
    assert (nearer_share(grid, own[None], own.new_zeros(0, 3)) >= 0.5).all()


def test_a_model_outside_of_its_map_is_refused(model, grid):
    away = model.at(model.coordinates_angstrom + 500)
    density = model_density(model, grid)
    with pytest.raises(ValueError, match="outside of the map"):
        map_correlations(density, density, away)
    assert residue_correlations(density, density, away, 3.0).isnan().all()


def test_a_deposited_model_fits_its_real_map_to_its_resolution(real_data):
    folder = real_data / "maps" / "EMD-30342_integrin_3.9A"
    grid, model = read_map(folder / "390_emd_30342_A_z4.mrc"), read_structure(folder / "390_7cec_A.cif")
    density = model_density(model, grid, 3.9)
    assert map_correlations(grid, density, model).mask > 0.75
    curve = map_model_fsc(grid, density, soft_mask(grid, model))
    assert math.isclose(resolution_at(curve, grid), 3.9, abs_tol=0.5)
