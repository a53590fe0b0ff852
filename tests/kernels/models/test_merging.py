"""A traced model with a gap, and a prediction with a moved domain and a wrong loop, become one."""

from dataclasses import replace

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.mates import Mates
from kernels.models.merging import BENT, PREDICTED, TRACED, Reading, bent_onto, beside, merged, register
from kernels.rotations import from_rotation_vector
from tests.truth.cage_model import cage_subunit

GAP, SHIFTED, LOOP, HINGE = slice(30, 40), slice(60, 68), slice(12, 18), 45


def alpha(model: AtomicModel) -> torch.Tensor:
    return model.positions("CA")[:, 0]


def mask(n: int, *where: slice) -> torch.Tensor:
    found = torch.zeros(n, dtype=torch.bool)
    for part in where:
        found[part] = True
    return found


@pytest.fixture(scope="module")
def truth() -> AtomicModel:
    return cage_subunit(80)


@pytest.fixture(scope="module")
def traced(truth) -> Reading:
    """Without the gap, in chains of its own; each residue of the shifted stretch bears the name of the one before."""
    n = truth.n_residues
    names = [r.name for r in truth.residues]
    names[SHIFTED] = names[SHIFTED.start - 1 : SHIFTED.stop - 1]
    residues = tuple(Residue("X" if i < GAP.start else "Y", name, i + 101) for i, name in enumerate(names))
    model = replace(truth, residues=residues).take_residues(~mask(n, GAP))
    chance = torch.where(mask(n, SHIFTED), 0.1, 0.95)[~mask(n, GAP)]
    return Reading(model, chance)


@pytest.fixture(scope="module")
def predicted(truth) -> Reading:
    """One domain moved about the hinge, up to 7 Å, and a loop that is elsewhere."""
    place = truth.coordinates_angstrom.clone()
    turn = from_rotation_vector(torch.tensor([0.0, 0.25, 0.1], dtype=torch.float64))
    about = alpha(truth)[HINGE]
    moved = truth.residue >= HINGE
    place[moved] = (place[moved] - about) @ turn.T + about
    place[mask(truth.n_residues, LOOP)[truth.residue]] += 6.0
    chance = torch.where(torch.arange(truth.n_residues) >= HINGE, 0.4, 0.9)
    chance[LOOP] = 0.05
    return Reading(truth.at(place), chance)


@pytest.fixture(scope="module")
def bent(truth, traced, predicted) -> Reading:
    model = bent_onto(predicted.model, traced, register(traced.model, predicted.model).match)
    off = (alpha(model) - alpha(truth)).norm(dim=1)
    return Reading(model, torch.where(off < 1.0, 0.9, 0.2))


def named(index: int) -> str:
    return chr(ord("A") + index)


def test_registers_are_found_whatever_the_numbers(truth, traced, predicted):
    found = register(traced.model, predicted.model)
    here = torch.nonzero(~mask(truth.n_residues, GAP)).squeeze(1)
    assert (found.match == here).all()
    assert found.is_alike[here < SHIFTED.start].all()
    assert not found.is_alike[mask(truth.n_residues, SHIFTED)[here]].all()


def test_a_prediction_goes_along_with_what_was_traced(truth, predicted, bent):
    off = (alpha(predicted.model) - alpha(truth)).norm(dim=1)
    assert off[HINGE + 15 :].max() > 5
    now = (alpha(bent.model) - alpha(truth)).norm(dim=1)
    inside = ~mask(truth.n_residues, LOOP, slice(LOOP.start - 3, LOOP.stop + 3))
    assert now[inside].max() < 2.2 and now[inside].mean() < 0.6


def test_each_residue_is_from_where_it_is_best(truth, traced, predicted, bent):
    done = merged(traced, predicted, bent, register(traced.model, predicted.model), named)
    assert [r.number for r in done.model.residues] == [r.number for r in truth.residues]
    assert [r.name for r in done.model.residues] == [r.name for r in truth.residues]
    assert {r.chain for r in done.model.residues} == {r.chain for r in truth.residues}
    assert (alpha(done.model) - alpha(truth)).norm(dim=1).max() < 1.5
    assert (done.source[LOOP] == TRACED).all()
    assert (done.source[GAP] != TRACED).all() and (done.source[SHIFTED] == BENT).all()
    assert done.n_left_out == 0 and done.n_replaced == (done.source[~mask(80, GAP)] != TRACED).sum()


def test_nothing_is_added_that_the_map_does_not_support(truth, traced, predicted, bent):
    nowhere = Reading(predicted.model, torch.full((80,), 0.05))
    also = Reading(bent.model, torch.full((80,), 0.05))
    done = merged(traced, nowhere, also, register(traced.model, predicted.model), named)
    assert done.n_left_out == 10 + 8  # the gap, and where the shifted stretch stands
    assert not (set(range(GAP.start + 1, GAP.stop + 1)) & {r.number for r in done.model.residues})
    assert (done.source == TRACED).all()


def test_what_stands_for_nothing_predicted_stays_and_gets_a_name_of_its_own(truth, traced, predicted, bent):
    water = Residue("X", "HOH", 500)
    apart = AtomicModel(
        (water, water), torch.tensor([0, 1]), ("O", "O"), ("O", "O"),
        torch.stack([alpha(truth)[GAP.start + 2] + 0.5, alpha(truth)[5] + 30.0]), torch.full((2,), 20.0), torch.ones(2),
    )  # fmt: skip
    stranger = replace(truth, residues=tuple(replace(r, chain="S") for r in truth.residues)).at(
        truth.coordinates_angstrom + 60.0
    )
    model = joined([traced.model, stranger, apart])
    reading = Reading(model, torch.cat([traced.probability, torch.full((80,), 0.6), torch.full((2,), torch.nan)]))
    done = merged(reading, predicted, bent, register(model, predicted.model), named)
    chains = [r.chain for r in done.model.residues]
    assert chains.count(truth.residues[0].chain) == 80
    others = [r for r in done.model.residues if r.chain != truth.residues[0].chain]
    assert sum(r.name == "HOH" for r in others) == 1  # the other one stood in the gap
    assert sum(r.name != "HOH" for r in others) == 80


def test_a_more_probable_stranger_keeps_its_place(truth, traced, predicted, bent):
    """A chain that reads the density of the gap in another way, here back to front."""
    order = torch.arange(80).flip(0)
    back = truth.in_order(order).take_residues(mask(80, GAP).flip(0))
    back = replace(
        back, residues=tuple(replace(r, chain="S", name="TRP", number=i) for i, r in enumerate(back.residues))
    )
    for chance, n_strange in ((0.97, 10), (0.1, 0)):
        reading = Reading(joined([traced.model, back]), torch.cat([traced.probability, torch.full((10,), chance)]))
        low = Reading(bent.model, torch.where(mask(80, GAP), 0.6, bent.probability))
        done = merged(reading, low, low, register(reading.model, predicted.model), named)
        assert sum(r.name == "TRP" and r.chain != truth.residues[0].chain for r in done.model.residues) == n_strange
        assert ((done.source[GAP] == BENT) | (done.source[GAP] == PREDICTED)).all() or n_strange


def test_chains_are_moved_to_the_copy_that_is_predicted(truth):
    grid = DensityGrid(torch.zeros(64, 64, 64), 2.0, torch.zeros(3, dtype=torch.float64))
    mates = Mates.about("C3", grid)
    elsewhere = truth.at(mates.of(truth.coordinates_angstrom)[1])
    back = beside(elsewhere, truth, mates)
    assert (back.coordinates_angstrom - truth.coordinates_angstrom).norm(dim=1).max() < 1e-6
