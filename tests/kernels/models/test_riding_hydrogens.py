"""Hydrogens that ride stand where they were placed, keep off others, and are cleared away from them."""

import pytest
import torch
from torch.testing import assert_close

from kernels.models.all_atoms import cleared, linked_by_trace
from kernels.models.bonds import Separation, bonds
from kernels.models.clashes import find_clashes
from kernels.models.contacts import Contacts
from kernels.models.hydrogen_rotors import turn_rotors
from kernels.models.hydrogens import place_hydrogens
from kernels.models.mates import Mates
from kernels.models.riding_hydrogens import RidingHydrogens
from kernels.rotations import random_rotations, symmetry_group
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


@pytest.fixture(scope="module")
def model():
    return cage_subunit(20)


def test_hydrogens_ride_with_their_residues(model):
    separation = Separation(bonds(model), len(model))
    placed = place_hydrogens(model, separation.partners)
    placed = turn_rotors(model.coordinates_angstrom, placed, Contacts(model, separation))
    riding = RidingHydrogens.of(model)
    place = model.coordinates_angstrom
    assert_close(riding.places(place)[len(model) :], placed.coordinates_angstrom, atol=1e-6, rtol=0)
    turn = random_rotations(1, torch.Generator().manual_seed(1))[0].to(place)
    moved = riding.places(place @ turn.T + 7.0)
    assert_close(moved, riding.places(place) @ turn.T + 7.0, atol=1e-6, rtol=0)
    assert_close(riding.carrier[len(model) :], placed.parent)


def test_pairs_that_clash_are_among_those_that_want_room(model):
    riding, found = RidingHydrogens.of(model), find_clashes(model)
    with_hydrogen = found.is_hydrogen.any(1)
    assert with_hydrogen.any()  # the ideal subunit has some
    met = riding.meetings(model.coordinates_angstrom)
    everywhere = riding.places(model.coordinates_angstrom)
    gap = (everywhere[met.first] - everywhere[met.second]).norm(dim=-1)
    carriers = torch.stack([riding.carrier[met.first], riding.carrier[met.second]], -1)[gap < met.room_angstrom]
    wanted = {tuple(sorted(pair)) for pair in carriers.tolist()}
    assert {tuple(sorted(pair)) for pair in found.atom[with_hydrogen].tolist()} <= wanted


def test_meetings_with_copies_are_those_within_the_whole(model):
    mates = Mates(symmetry_group("C2"), model.coordinates_angstrom.mean(0) + torch.tensor([0.0, 4.0, 4.0]))
    riding = RidingHydrogens.of(model)
    place = model.coordinates_angstrom
    met = riding.meetings(place, mates)
    among = met.operation > 0
    assert among.any() and bool((met.share[among] == 0.5).all())
    both = set(zip(met.first[among].tolist(), met.second[among].tolist()))
    assert both == {(j, i) for i, j in both}  # a twofold axis: each meeting from both sides
    copies = mates.of(riding.places(place))[1]
    gap = (riding.places(place)[met.first[among]] - copies[met.second[among]]).norm(dim=-1)
    assert bool((gap < met.room_angstrom[among] + 0.8).all())


def test_clashes_of_hydrogens_are_cleared_and_atoms_stay_in_their_density():
    maps = simulated_maps(cage_subunit(30), 3.5, padding_angstrom=8)
    generator = torch.Generator().manual_seed(3)
    place = maps.model.coordinates_angstrom
    shaken = maps.model.at(place + 0.15 * torch.randn(place.shape, generator=generator, dtype=place.dtype))
    before = find_clashes(shaken)
    after = cleared(shaken, maps.sharpened, 3.5, linked_by_trace(shaken)).model
    assert before.score > 10 and find_clashes(after).score < 3
    assert (after.coordinates_angstrom - place).norm(dim=-1).square().mean().sqrt() < 0.5
