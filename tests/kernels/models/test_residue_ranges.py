"""Stretches by hand: ends of chains, gaps, insertion codes and residues of which nothing is known."""

from dataclasses import replace

import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_ranges import residue_ranges, rows_of_ranges
from tests.truth.peptides import helix

CHAINS_AND_NUMBERS = (
    ("A", 10, ""), ("A", 11, ""), ("A", 11, "A"), ("A", 12, ""), ("A", 20, ""), ("B", 1, ""), ("B", 2, ""),
    ("B", 3, ""),
)  # fmt: skip


def model() -> AtomicModel:
    made = helix("ALEKDIRQ")
    named = [replace(r, chain=c, number=n, insertion_code=i) for r, (c, n, i) in zip(made.residues, CHAINS_AND_NUMBERS)]
    return replace(made, residues=tuple(named))


def told(known: list[int], chosen: list[int]) -> tuple[str, ...]:
    return residue_ranges(model(), torch.tensor(known), torch.tensor([row in chosen for row in known]))


def test_stretches_end_where_a_residue_is_not_chosen_and_with_their_chain():
    assert told([*range(8)], [0, 1, 3, 4, 5, 7]) == ("A/10-11", "A/12-20", "B/1", "B/3")
    assert told([*range(8)], []) == ()


def test_insertion_codes_are_told():
    assert told([*range(8)], [0, 1, 2]) == ("A/10-11A",)
    assert told([*range(8)], [2]) == ("A/11A",)


def test_a_residue_of_which_nothing_is_known_ends_no_stretch():
    assert told([0, 1, 3, 5, 7], [0, 1, 3, 7]) == ("A/10-12", "B/3")


def test_stretches_lead_back_to_their_residues():
    chosen = [0, 1, 3, 4, 5, 7]
    rows = rows_of_ranges(model(), told([*range(8)], chosen))
    assert [list(some) for some in rows] == [[0, 1], [3, 4], [5], [7]]
    assert rows_of_ranges(model(), ("A/11A-12", "C/1-4", "A/2-5", "B", "B/2-3 of the prediction")) == [range(2, 4)]


def test_numbers_below_zero_are_read():
    made = model()
    odd = replace(made, residues=tuple(replace(r, number=r.number - 12) for r in made.residues))
    assert residue_ranges(odd, torch.arange(8), torch.arange(8) < 3) == ("A/-2--1A",)
    assert rows_of_ranges(odd, ("A/-2--1A", "A/0-8", "B/-11")) == [range(3), range(3, 5), range(5, 6)]
