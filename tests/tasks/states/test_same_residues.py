"""Residues of two models find each other by their chains and sequences, wherever the models lie."""

from dataclasses import replace

import torch

from kernels.models.atomic_model import AtomicModel, Residue, joined
from tasks.states.same_residues import same_residues
from tests.truth.cage_model import cage_subunit
from tests.truth.states import laid_elsewhere

SUBUNIT = cage_subunit(60)
STEP = torch.tensor([0.0, 0.0, 60.0], dtype=torch.float64)


def renamed(model: AtomicModel, chain: str, offset: int = 0) -> AtomicModel:
    return replace(model, residues=tuple(replace(r, chain=chain, number=r.number + offset) for r in model.residues))


def row_of(names: str) -> AtomicModel:
    """Copies of one chain in a row that does not look the same from its other end."""
    places = (0.0, 1.0, 2.5, 5.0)
    return joined(
        [renamed(SUBUNIT.at(SUBUNIT.coordinates_angstrom + k * STEP), name) for k, name in zip(places, names)]
    )


def paired_chains(first: AtomicModel, second: AtomicModel) -> set[tuple[str, str]]:
    same = same_residues(first, second)
    return {(first.residues[i].chain, second.residues[j].chain) for i, j in zip(same.first, same.second)}


def test_other_numbers_and_names_of_chains_are_seen_through():
    second = laid_elsewhere(renamed(SUBUNIT, "Q", 200))
    same = same_residues(SUBUNIT, second)
    assert same.first.tolist() == same.second.tolist() == list(range(60))


def test_gaps_and_mutations_leave_the_others_paired():
    there = torch.ones(60, dtype=torch.bool)
    there[20:30] = False
    second = SUBUNIT.take_residues(there)
    second = replace(second, residues=tuple(replace(r, name="ALA") if r.number < 6 else r for r in second.residues))
    same = same_residues(SUBUNIT, laid_elsewhere(second))
    assert [SUBUNIT.residues[i].number for i in same.first] == [second.residues[j].number for j in same.second]
    assert len(same) == 50


def test_a_chain_that_was_traced_in_parts_finds_all_of_them():
    rows = torch.arange(60)
    parts = [renamed(SUBUNIT.take_residues(rows < 25), "A"), renamed(SUBUNIT.take_residues(rows >= 32), "B", -31)]
    same = same_residues(SUBUNIT, laid_elsewhere(joined(parts)))
    assert same.first.tolist() == [*range(25), *range(32, 60)]
    assert same.second.tolist() == list(range(53))


def test_copies_of_a_chain_go_by_their_names_where_they_lie_alike():
    assert paired_chains(row_of("ABCD"), laid_elsewhere(row_of("ABCD"))) == set(zip("ABCD", "ABCD"))


def test_copies_of_a_chain_go_by_their_places_where_the_names_are_others():
    assert paired_chains(row_of("ABCD"), laid_elsewhere(row_of("CADB"))) == set(zip("ABCD", "CADB"))


def test_a_copy_that_one_state_lacks_is_left_alone():
    assert paired_chains(row_of("ABCD"), laid_elsewhere(row_of("ABC"))) == set(zip("ABC", "ABC"))


def test_insertion_codes_are_no_other_residues():
    second = list(SUBUNIT.residues)
    second[30] = replace(second[29], name=second[30].name, insertion_code="A")
    same = same_residues(SUBUNIT, replace(SUBUNIT, residues=tuple(second)))
    assert 29 in same.first.tolist() and len(same.second.unique()) == len(same) >= 58


def test_other_molecules_and_ligands_share_nothing():
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    names = [SUBUNIT.residues[i].name for i in order]
    shuffled = tuple(Residue("A", name, i + 1) for i, name in enumerate(names))
    assert len(same_residues(SUBUNIT, replace(SUBUNIT, residues=shuffled))) == 0
    waters = tuple(Residue("W", "HOH", i + 1) for i in range(60))
    assert len(same_residues(SUBUNIT, replace(SUBUNIT, residues=waters))) == 0
