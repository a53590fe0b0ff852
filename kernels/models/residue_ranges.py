"""Residues of a model in words, as stretches of its chains."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_places import chains_and_numbers


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
        end = "" if first is last else f"-{last.number}{last.insertion_code}"
        told.append(f"{first.chain}/{first.number}{first.insertion_code}{end}")
    return tuple(told)
