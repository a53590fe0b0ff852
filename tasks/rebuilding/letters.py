"""Which part of which sequence each residue of a model lies on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.register import MOST_SHIFT

_LEAST_MATCHING = 0.5
"""Of a chain's residues, for the sequence that it is taken to have."""


def letters_around(model: AtomicModel, sequences: Sequence[Tensor]) -> Tensor:
    """(residue, 2 · `MOST_SHIFT` + 1) type that stands at each residue's place in its sequence, or up to four beside.

    The place is told by the number of the residue; that of the first letter is told by all residues of its chain.
    A chain that fits no sequence is taken for its own: what it lost between two numbers is not known then.

    Parameters
    ----------
    sequences
        Each (position,) int64 index into `residues.AMINO_ACIDS`, -1 where a letter leaves it open.

    Returns
    -------
    -1 where nothing is known.
    """
    number = torch.tensor([r.number for r in model.residues], dtype=torch.int64)
    chains = [r.chain for r in model.residues]
    found = torch.full((model.n_residues, 2 * MOST_SHIFT + 1), -1, dtype=torch.int64)
    for chain in dict.fromkeys(chains):
        is_mine = torch.tensor([c == chain for c in chains]) & (model.amino_acid >= 0)
        if not is_mine.any():
            continue
        own, types = number[is_mine], model.amino_acid[is_mine]
        fits = [_best_offset(own, types, sequence) for sequence in sequences if len(sequence)]
        best = max(range(len(fits)), key=lambda i: fits[i][0], default=-1)
        if best >= 0 and fits[best][0] >= _LEAST_MATCHING * len(own):
            text, start = [s for s in sequences if len(s)][best], fits[best][1]
        else:
            start = int(own.min())
            text = torch.full((int(own.max()) - start + 1,), -1, dtype=torch.int64)
            text[own - start] = types
        at = own[:, None] - start + torch.arange(-MOST_SHIFT, MOST_SHIFT + 1)
        inside = (at >= 0) & (at < len(text))
        found[is_mine] = torch.where(inside, text[at.clamp(0, len(text) - 1)], -1)
    return found


def _best_offset(number: Tensor, types: Tensor, sequence: Tensor) -> tuple[int, int]:
    """Matching residues at the best number of the sequence's first letter, and that number."""
    starts = torch.arange(int(number.min()) - len(sequence) + 1, int(number.max()) + 1)
    at = number[None] - starts[:, None]
    inside = (at >= 0) & (at < len(sequence))
    same = (sequence[at.clamp(0, len(sequence) - 1)] == types) & inside
    count = same.sum(1)
    return int(count.max()), int(starts[count.argmax()])
