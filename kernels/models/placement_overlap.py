"""How much placed bodies, and their copies in a symmetric map, stand in each other's way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within

_NEAR_ANGSTROM = 3.5
"""Cα atoms of chains that touch are 3.8 Å and more apart; of two chains in one place half of them are nearer."""


def overlaps(places_angstrom: Sequence[Tensor], mates: Mates | None = None) -> Tensor:
    """(body, body) largest share of the residues of the first that stand where the second one's do, or the reverse.

    In a symmetric map the second stands for all of its copies, and on the diagonal for all but itself.

    Parameters
    ----------
    places_angstrom
        For each body (residue, 3) its residues, as Cα atoms.
    """
    n = len(places_angstrom)
    if n == 0:
        return torch.zeros(0, 0, dtype=torch.float64)
    everything = torch.cat([p.double() for p in places_angstrom])
    sizes = torch.tensor([len(p) for p in places_angstrom])
    body = torch.arange(n).repeat_interleave(sizes)
    share = torch.zeros(n, n, dtype=torch.float64)
    copies = everything[None] if mates is None else mates.of(everything)
    for number, copy in enumerate(copies):
        point, other, _ = pairs_within(everything, copy, _NEAR_ANGSTROM)
        met = torch.unique(point * n + body[other])
        count = torch.zeros(n, n, dtype=torch.float64)
        count.index_put_((body[met // n], met % n), torch.ones(len(met), dtype=torch.float64), accumulate=True)
        found = count / sizes[:, None]
        if number == 0:
            found.fill_diagonal_(0)
        share = torch.maximum(share, found)
    return torch.maximum(share, share.T)
