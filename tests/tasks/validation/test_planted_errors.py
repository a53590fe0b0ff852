"""Planted errors are where they are said to be, and nowhere else."""

import pytest
import torch

from kernels.models.map_fit import map_model_fsc, mean_fsc, model_density, soft_mask
from tasks.validation.planted_errors import KINDS, UNCLEAR, plant_errors
from tasks.validation.simulated_map import simulate_map
from tests.truth.ideal_proteins import ideal_protein

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV" * 2


@pytest.fixture(scope="module")
def planted():
    truth = ideal_protein(SEQUENCE.replace("P", "S"))
    generator = torch.Generator().manual_seed(5)
    grid = simulate_map(truth, 3.0, generator)
    return truth, grid, plant_errors(truth, grid, 0.3, generator)


def test_every_kind_of_error_is_planted_and_most_residues_are_right(planted):
    _, _, found = planted
    counts = torch.bincount(found.error[found.error != UNCLEAR], minlength=len(KINDS))
    assert (counts > 0).all()
    assert 0.25 < float((found.error != 0).double().mean()) < 0.5


def test_what_is_right_stands_where_it_did_and_what_is_wrong_does_not(planted):
    truth, _, found = planted
    model, right = found.model, found.error == 0
    assert model.n_residues == truth.n_residues
    moved = (model.positions("CA") - truth.positions("CA"))[:, 0].norm(dim=-1)
    assert moved[right].max() < 1.4  # of loops, those that moved by less than 0.75 Å; and the jitter
    assert moved[found.error == 3].min() > 0.9
    oxygen = (model.positions("O") - truth.positions("O"))[:, 0].norm(dim=-1)
    assert oxygen[found.error == 2].min() > 2.0
    same = torch.tensor([a.name == b.name for a, b in zip(model.residues, truth.residues)])
    assert same[right].all()
    assert not same[found.error == 1].any()


def test_the_map_ends_at_its_resolution(planted):
    truth, grid, _ = planted
    curve = map_model_fsc(grid, model_density(truth, grid), soft_mask(grid, truth))
    length = max(grid.voxels.shape) * grid.voxel_size_angstrom
    assert curve[int(length / 4.5)] > 0.6
    assert mean_fsc(curve, grid, 3.0) > 0.5
    assert float(curve[int(length / 2.6) :].abs().mean()) < 0.35
