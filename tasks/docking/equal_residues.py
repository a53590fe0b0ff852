"""Which residues of one chain are those of another: of the same protein, of a copy of it, of a chain made of copies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import rmsd

_SAME_SHARE = 0.8
"""Of the residues of a chain, by name, in another copy of the same protein."""
_MOST_COPIES = 12
"""In one chain."""


def rmsd_to_copies(placed: AtomicModel, truth: Sequence[AtomicModel]) -> float:
    """Of a chain as it stands, to the nearest copy of the same protein among chains; infinite where there is none."""
    own = places_of_residues(placed)
    found = [math.inf]
    for chain in truth:
        known = places_of_residues(chain)
        for pairs in equal_residues(placed, chain):
            rows, columns = torch.tensor(pairs).T
            found.append(rmsd(own[rows], known[columns]))
    return min(found)


def equal_residues(first: AtomicModel, second: AtomicModel) -> list[list[tuple[int, int]]]:
    """Rows of residues of two chains that are the same, in each way in which the chains can be the same.

    The numbers of a copy differ by a constant. Where a chain is made of several copies, as some files write a dimer
    with 500 added to the numbers of its second half, each of them can be the next one and the last the first.
    """
    known = {(r.number, r.insertion_code): i for i, r in enumerate(second.residues)}
    by_name: dict[str, list[int]] = {}
    for r in second.residues:
        by_name.setdefault(r.name, []).append(r.number)
    shifts = Counter(number - r.number for r in first.residues for number in by_name.get(r.name, ()))
    least = _SAME_SHARE * first.n_residues
    found = []
    for shift, count in shifts.items():
        if count < least / _MOST_COPIES:
            continue
        pairs = []
        for i, r in enumerate(first.residues):
            # the next copy, or where there is none the first one
            numbers = [r.number + shift, *(r.number - n * shift for n in range(_MOST_COPIES, 0, -1) if shift)]
            there = next((known[k, r.insertion_code] for k in numbers if (k, r.insertion_code) in known), None)
            if there is not None and second.residues[there].name == r.name:
                pairs.append((i, there))
        if len(pairs) >= least:
            found.append(pairs)
    return found
