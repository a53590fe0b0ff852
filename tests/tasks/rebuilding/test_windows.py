"""Which residues are built anew together, and how they go back into the model."""

import pytest
import torch

from tasks.rebuilding.letters import letters_around
from tasks.rebuilding.windows import doubtful_residues, part_of, replaced, windows_about
from tests.truth.cage_model import cage_subunit
from tests.truth.modelled_session import Modelled, two_helices, validation_of


def doubtful(n, *rows):
    found = torch.zeros(n, dtype=torch.bool)
    found[list(rows)] = True
    return found


def test_windows_reach_two_residues_further_and_not_into_another_chain():
    model = two_helices()
    n_first = sum(r.chain == "A" for r in model.residues)
    found = windows_about(model, doubtful(model.n_residues, 5, 6, 20, n_first - 1))
    assert found.n == 3
    assert found.rows(0).tolist() == [3, 4, 5, 6, 7, 8]
    assert found.rows(1).tolist() == [18, 19, 20, 21, 22]
    assert found.rows(2).tolist() == [n_first - 3, n_first - 2, n_first - 1]
    assert int(found.is_doubtful.sum()) == 4


def test_regions_that_nearly_touch_are_one_window():
    found = windows_about(cage_subunit(40), doubtful(40, 10, 16))
    assert found.n == 1
    assert found.rows(0).tolist() == list(range(8, 19))


def test_nothing_doubtful_is_no_window():
    assert windows_about(cage_subunit(10), doubtful(10)).n == 0


def test_a_part_holds_what_is_near_and_goes_back_unchanged():
    model = cage_subunit(60)
    windows = windows_about(model, doubtful(60, 30))
    part = part_of(model, windows)
    assert 5 < part.model.n_residues < 60
    assert int((part.window >= 0).sum()) == 5
    inside = part.window >= 0
    back = replaced(model, part.rows[inside], part.model.take_residues(inside))
    assert back.names == model.names and back.residues == model.residues
    assert torch.equal(back.coordinates_angstrom, model.coordinates_angstrom)


def test_a_validation_of_another_model_is_refused():
    model = two_helices()
    told = validation_of(Modelled(model, torch.full((model.n_residues,), 0.9)))
    with pytest.raises(ValueError, match="validate this model first"):
        doubtful_residues(model, told)  # it says nothing of the last residue


def test_letters_are_those_of_the_sequence_around_the_number():
    model = cage_subunit(20)
    types = model.amino_acid
    sequence = torch.cat([torch.tensor([12, 7, 7]), types, torch.tensor([3, 4])])
    found = letters_around(model, [torch.tensor([1, 2, 3]), sequence])
    assert torch.equal(found[:, 4], types)
    assert found[0].tolist() == [-1, 12, 7, 7, *types[:5].tolist()]
    assert found[-1].tolist() == [*types[-5:].tolist(), 3, 4, -1, -1]


def test_a_chain_without_sequence_is_its_own():
    model = cage_subunit(12)
    found = letters_around(model, [])
    assert torch.equal(found[:, 4], model.amino_acid)
    assert (found[0, :4] == -1).all()
