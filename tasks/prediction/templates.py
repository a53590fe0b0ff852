"""A fitted model as a template: which of its chains are shown for which that are predicted, and what of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.residues import AMINO_ACID_LETTERS
from tasks.formats.template import TemplateChain
from tasks.prediction.request import Chain, Request

_SAME_SHARE = 0.9
"""Of a chain's residues that the letters of a sequence stand for, for it to be one of that protein."""
_SHORTEST_STRETCH = 5
"""Residues in a row: engines lay a template on a sequence by its letters, which fewer do not tell."""
_FEWEST_SHOWN = 20
"""Residues of a chain that an engine can learn anything from."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A chain of the model, and where its residues stand in a sequence."""

    chain: str
    place: Tensor
    """(residue of the model,) from 1, 0 where it is none of the chain's or another amino acid than the letter's."""
    share: float
    """Of its amino acids that are those of the sequence."""
    is_shown: Tensor
    """(residue of the model,)"""

    @property
    def n_shown(self) -> int:
        return int(self.is_shown.sum())


def templates_of(
    model: AtomicModel, is_trusted: Tensor, request: Request, what: str
) -> tuple[tuple[TemplateChain, ...], dict[str, str]]:
    """What an engine is shown of a model (residue,): of each chain that it predicts, the one that is best known.

    Copies of a chain that are all in the model keep their place to each other.

    Returns
    -------
    Templates, and the name of the chain of the model that each was made of.

    Raises
    ------
    ValueError
        Where no chain is of a sequence that is predicted, or none is known well enough; ``what`` names the model.
    """
    free = [chain for chain, letters in model.sequences.items() if letters.isupper()]
    found, sources, best, most = [], {}, (0.0, "no chain"), 0
    for part, names in zip(request.parts, request.chain_names()):
        if not isinstance(part, Chain) or part.kind != "protein":
            continue
        candidates = [_candidate(model, is_trusted, chain, part.letters) for chain in free]
        best = max([best, *((c.share, f"chain {c.chain}") for c in candidates)])
        own = sorted((c for c in candidates if c.share >= _SAME_SHARE), key=lambda c: -c.n_shown)[: part.copies]
        most = max([most, *(c.n_shown for c in own)])
        own = [c for c in candidates if c in own and c.n_shown >= _FEWEST_SHOWN]
        free = [chain for chain in free if chain not in {c.chain for c in own}]
        for name, candidate in zip(names, own):
            found.append(TemplateChain(name, part.letters, _numbered(model, candidate)))
            sources[name] = candidate.chain
    if not found and best[0] < _SAME_SHARE:
        raise ValueError(
            f"{what} cannot be a template: the chain most like a sequence that is predicted, {best[1]}, shares"
            f" {best[0]:.0%} of its residues, expected {_SAME_SHARE:.0%}; give a model of this protein"
        )
    if not found:
        raise ValueError(
            f"{what} cannot be a template: its validation trusts {most} residues of the chain that is known best, in"
            f" stretches of {_SHORTEST_STRETCH} and more; expected {_FEWEST_SHOWN}; give a model that the map supports"
        )
    return tuple(found), sources


def _candidate(model: AtomicModel, is_trusted: Tensor, chain: str, letters: str) -> _Candidate:
    """A chain whose numbers are shifted by what brings most of its amino acids to their letters."""
    of_chain = torch.tensor([r.chain == chain and not r.insertion_code for r in model.residues])
    rows = torch.nonzero(of_chain & (model.amino_acid >= 0)).squeeze(1)
    number = torch.tensor([r.number for r in model.residues])[rows]
    kind = torch.tensor([AMINO_ACID_LETTERS.find(letter) for letter in letters])
    same = model.amino_acid[rows][:, None] == kind
    offset = torch.arange(1, len(letters) + 1) - number[:, None]
    shift = int(offset[same].mode().values) if bool(same.any()) else 0
    at = number + shift
    fits = (at >= 1) & (at <= len(letters))
    fits &= kind[at.clamp(1, len(letters)) - 1] == model.amino_acid[rows]
    place = torch.zeros(model.n_residues, dtype=torch.int64)
    place[rows] = torch.where(fits, at, 0)
    share = float(fits.double().mean()) if len(rows) else 0.0
    return _Candidate(chain, place, share, _in_stretches(place, is_trusted & (place > 0), len(letters)))


def _in_stretches(place: Tensor, is_shown: Tensor, n_letters: int) -> Tensor:
    """(residue,) without those that stand in too short a stretch of the sequence."""
    known = torch.zeros(n_letters + 1, dtype=torch.bool)
    known[place[is_shown]] = True
    value, length = torch.unique_consecutive(known, return_counts=True)
    is_long = (value & (length >= _SHORTEST_STRETCH)).repeat_interleave(length)
    return is_shown & is_long[place]


def _numbered(model: AtomicModel, candidate: _Candidate) -> AtomicModel:
    order = torch.nonzero(candidate.is_shown).squeeze(1)
    order = order[candidate.place[order].argsort(stable=True)]
    shown = model.in_order(order)
    places = candidate.place[order].tolist()
    return replace(shown, residues=tuple(replace(r, number=at) for r, at in zip(shown.residues, places)))
