"""Refinement of a part, and energies of parts."""

import torch

from kernels.models.map_likelihood import map_likelihood
from kernels.models.real_space import Weights, energies, energies_of_groups, refined_in_real_space
from tests.truth.cage_model import cage_subunit, smoothly_displaced
from tests.truth.model_maps import simulated_maps


def moved_and_map():
    maps = simulated_maps(cage_subunit(14), 3.0, padding_angstrom=7)
    model = smoothly_displaced(maps.model, 0.5)
    return maps.model, model, map_likelihood(maps.sharpened, model, 3.0)


def test_only_free_atoms_move_and_they_move_to_the_map():
    truth, model, likelihood = moved_and_map()
    is_free = (model.residue >= 5) & (model.residue < 9)
    place = torch.where(is_free[:, None], model.coordinates_angstrom, truth.coordinates_angstrom)
    found = refined_in_real_space(truth.at(place), likelihood, Weights(), 60, None, is_free).model
    assert torch.equal(found.coordinates_angstrom[~is_free], truth.coordinates_angstrom[~is_free])
    before = (place - truth.coordinates_angstrom)[is_free].norm(dim=-1).mean()
    after = (found.coordinates_angstrom - truth.coordinates_angstrom)[is_free].norm(dim=-1).mean()
    assert after < 0.6 * before


def test_the_energy_of_everything_is_the_sum():
    _, model, likelihood = moved_and_map()
    total = sum(energies(model, likelihood).values())
    whole = energies_of_groups(model, likelihood, torch.zeros(len(model), dtype=torch.int64))
    assert whole.shape == (1,)
    torch.testing.assert_close(float(whole), total, rtol=1e-6, atol=1e-3)


def test_what_two_groups_share_is_counted_for_both():
    _, model, likelihood = moved_and_map()
    half = (model.residue >= 7).long()
    both = energies_of_groups(model, likelihood, half)
    alone = [energies_of_groups(model, likelihood, torch.where(half == k, 0, -1))[0] for k in range(2)]
    torch.testing.assert_close(both, torch.stack(alone), rtol=1e-9, atol=1e-6)
    far = torch.full((len(model),), -1)
    far[model.residue == 0], far[model.residue == 13] = 0, 1
    assert energies_of_groups(model, likelihood, far).shape == (2,)
