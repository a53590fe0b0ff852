"""Models follow motions that a map shows, from coarse to fine, and keep what springs hold."""

import itertools

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.flexible_fitting import Bending, bent, blurs
from kernels.models.map_fit import model_density
from kernels.rotations import from_rotation_vector
from tests.truth.cage_model import cage_subunit

RESOLUTION = 7.0


@pytest.fixture(scope="module")
def case():
    model = cage_subunit(70)
    low, high = model.coordinates_angstrom.amin(0) - 20, model.coordinates_angstrom.amax(0) + 20
    empty = DensityGrid(torch.zeros([int(n) for n in ((high - low) / 2.3).ceil()]), 2.3, low)
    return model, model_density(model, empty, RESOLUTION)


def rmsd(a, b) -> float:
    return float((a.coordinates_angstrom - b.coordinates_angstrom).square().sum(-1).mean().sqrt())


@pytest.mark.parametrize(("coarsest", "resolution"), [(20.0, 4.0), (10.0, 6.0), (10.0, 12.0)])
def test_blurs_fall_to_the_resolution_of_the_map(coarsest, resolution):
    found = blurs(coarsest, resolution)
    assert found[0] == max(coarsest, resolution) and found[-1] == resolution
    assert all(0.6 < b / a < 1 for a, b in itertools.pairwise(found))


def test_a_right_model_stays(case):
    model, grid = case
    found = bent(model, grid, RESOLUTION)
    assert rmsd(found.model, model) < 0.4
    assert float(found.strain_angstrom.mean()) < 0.2


def test_a_turned_model_turns_back_without_strain(case):
    model, grid = case
    middle = model.coordinates_angstrom.mean(0)
    turn = from_rotation_vector(torch.tensor([0.1, -0.15, 0.1], dtype=torch.float64))
    moved = model.at((model.coordinates_angstrom - middle) @ turn.T + middle + 2.0)
    found = bent(moved, grid, RESOLUTION, bending=Bending(coarsest_angstrom=14.0))
    assert rmsd(moved, model) > 3 > 0.5 > rmsd(found.model, model)
    assert float(found.strain_angstrom.mean()) < 0.3
    assert found.correlation > found.correlation_before + 0.1


def test_a_fit_goes_on_from_where_another_left_the_residues(case):
    model, grid = case
    there = bent(model, grid, RESOLUTION).places_angstrom
    moved = model.at(model.coordinates_angstrom + 3.0)
    found = bent(moved, grid, RESOLUTION, bending=Bending(coarsest_angstrom=RESOLUTION), start_angstrom=there)
    assert rmsd(found.model, model) < 0.4
