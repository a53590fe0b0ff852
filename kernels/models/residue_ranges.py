"""Residues of a model in words, as stretches of its chains."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.residue_places import chains_and_numbers

_RANGE = re.compile(r"(.*)/(-?\d+\w?)(?:-(-?\d+\w?))?")


def residue_ranges(model: AtomicModel, known: Tensor, chosen: Tensor) -> tuple[str, ...]:
    """Stretches of chosen residues, ``A/12-87``, or ``A/12`` for a single one; insertion codes stand behind numbers.

    A stretch ends with its chain, and where a residue is not chosen. One of which nothing is known ends none, as one
    that the model lacks ends none.

    Parameters
    ----------
    known
        (row,) indices of residues, rising.
    chosen
        (row,) bool, which of those.
    """
    chain = chains_and_numbers(model)[0][known]
    run = torch.unique_consecutive(torch.stack([chain, chosen.long()], 1), dim=0, return_inverse=True)[1]
    told = []
    for one in torch.unique(run[chosen]).tolist():
        inside = known[run == one].tolist()
        first, last = model.residues[inside[0]], model.residues[inside[-1]]
        told.append(f"{first.chain}/{residue_number(first)}" + ("" if first is last else f"-{residue_number(last)}"))
    return tuple(told)


def rows_of_ranges(model: AtomicModel, told: Iterable[str]) -> list[range]:
    """Indices of the residues from the first to the last of each stretch; what the model has not is left out."""
    index = {(residue.chain, residue_number(residue)): i for i, residue in enumerate(model.residues)}
    found = []
    for match in filter(None, map(_RANGE.fullmatch, told)):
        chain, start, end = match.groups()
        first, last = index.get((chain, start)), index.get((chain, end or start))
        if first is not None and last is not None:
            found.append(range(first, last + 1))
    return found


def residue_number(residue: Residue) -> str:
    """Its number with its insertion code: ``11A``."""
    return f"{residue.number}{residue.insertion_code}"
