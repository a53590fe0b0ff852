"""Known errors are put right by one round of rebuilding, and what is right stays as it is."""

from dataclasses import replace

import pytest
import torch

from kernels.models.register import RegisterShift
from tasks.rebuilding.rebuild import rebuilt, without_repeats
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.wrong_models import doubtful_about, with_flipped_peptide, with_shifted_sequence


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(36), 2.8, padding_angstrom=7)


def test_a_peptide_is_turned_back_and_nothing_else_moves(maps):
    truth = maps.model
    wrong = with_flipped_peptide(truth, 12)
    done = rebuilt(wrong, doubtful_about(truth, 12), maps.half_1, 2.8)
    (outcome,) = done.outcomes
    assert (outcome.first, outcome.last, outcome.is_changed) == ("11", "15", True)
    assert outcome.energy_gain > 4
    oxygen = [model.positions("O")[12, 0] for model in (done.model, truth, wrong)]
    assert (oxygen[0] - oxygen[1]).norm() < 0.8 < 3 < (oxygen[2] - oxygen[1]).norm()
    assert done.model.names == truth.names
    outside = (truth.residue < 10) | (truth.residue > 14)
    assert torch.equal(done.model.coordinates_angstrom[outside], wrong.coordinates_angstrom[outside])


def test_what_is_right_is_kept(maps):
    truth = maps.model
    done = rebuilt(truth, doubtful_about(truth, *range(14, 20)), maps.half_1, 2.8, [truth.amino_acid])
    assert [outcome.shift for outcome in done.outcomes] == [None]
    backbone = (done.model.positions("N", "CA", "C", "O") - truth.positions("N", "CA", "C", "O")).norm(dim=-1)
    assert backbone.max() < 0.8
    nothing = rebuilt(truth, doubtful_about(truth), maps.half_1, 2.8)
    assert nothing.outcomes == () and nothing.model.names == truth.names


def test_a_stretch_with_the_wrong_numbers_is_numbered_anew(maps):
    truth = maps.model
    late = with_shifted_sequence(maps, 20, 36, -1)  # as if one residue had been counted twice before it
    wrong = replace(late, residues=tuple(replace(r, number=r.number - (i >= 20)) for i, r in enumerate(late.residues)))
    wrong = wrong.take_residues(torch.arange(36) != 19)
    done = rebuilt(wrong, doubtful_about(wrong, *range(20, 35)), maps.half_1, 2.8, [truth.amino_acid])
    assert [r.number for r in done.model.residues] == [*range(1, 20), *range(21, 37)]
    assert torch.equal(done.model.amino_acid, truth.amino_acid[torch.arange(36) != 19])
    error = done.model.positions("CA") - truth.positions("CA")[torch.arange(36) != 19]
    assert error[:, 0].norm(dim=-1).max() < 0.8
    assert done.n_left_out == 0


def test_shifted_residues_whose_number_is_taken_are_left_out():
    model = cage_subunit(12)
    numbers = [1, 2, 3, 4, 4, 5, 6, 8, 9, 10, 11, 12]
    model = replace(model, residues=tuple(replace(r, number=n) for r, n in zip(model.residues, numbers)))
    kept = without_repeats(model, {0: RegisterShift(4, 7, -1, 5.0)})
    assert kept.tolist() == [True] * 4 + [False] + [True] * 7


def test_no_residue_leaves_the_map(maps):
    low = maps.half_1.origin_angstrom + 9.0
    cut = replace(maps.half_1, voxels=maps.half_1.voxels[9:, 9:, 9:], origin_angstrom=low)
    model = maps.model.take_residues(torch.arange(36) < 20)
    is_out = (model.coordinates_angstrom < low).any(-1)
    assert is_out.any()  # a part of the model stands where the map ends
    done = rebuilt(model, doubtful_about(model, 10), cut, 2.8)
    assert (done.model.coordinates_angstrom >= low).all()
    assert done.n_left_out == model.n_residues - done.model.n_residues > 0
