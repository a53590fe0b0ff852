"""Rows of a prediction that a model disagrees with, named as the prediction's own residues are."""

from dataclasses import replace

import torch

from kernels.models.disagreement import Compared
from kernels.models.merging import Reading, Register
from kernels.models.residue_ranges import rows_of_ranges
from tasks.verdict.comparing import ComparedPrediction
from tasks.verdict.disagreements import disagreements
from tests.truth.peptides import helix

NUMBERS = ((51, ""), (52, ""), (52, "A"), (52, "B"), (53, ""), (54, ""), (54, "A"), (55, ""), (56, ""), (57, ""))
NOT_BUILT = range(2, 7)


def test_the_ends_of_a_row_have_their_insertion_codes():
    made = helix("ALEKDIRQLA")
    named = [replace(r, chain="H", number=n, insertion_code=code) for r, (n, code) in zip(made.residues, NUMBERS)]
    predicted = replace(made, residues=tuple(named))
    is_built = torch.tensor([i not in NOT_BUILT for i in range(len(NUMBERS))])
    match = torch.nonzero(is_built).squeeze(1)
    built = predicted.take_residues(is_built)
    known = torch.where(is_built, 0.95, torch.nan).double()
    everywhere = torch.ones(len(NUMBERS), dtype=torch.float64)
    compared = Compared(torch.where(is_built, 1.0, torch.nan), known, 0.95 * everywhere, 90 * everywhere)
    reading = Reading(predicted, 0.95 * everywhere)
    register = Register(torch.zeros_like(match), match, match, torch.ones_like(match, dtype=torch.bool))
    beside = ComparedPrediction(compared, register, replace(reading, model=built), reading)
    (row,) = disagreements(predicted, built, beside)
    assert (row.chain, row.first, row.last, row.n_residues, row.side) == ("H", "52A", "54A", 5, "not built")
    assert rows_of_ranges(predicted, [f"{row.chain}/{row.first}-{row.last}"]) == [NOT_BUILT]
