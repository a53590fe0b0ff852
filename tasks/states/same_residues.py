"""Which residue of one model stands for which of another one of the same molecule, wherever the two lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_places import chains_and_numbers, registers, representatives, residue_kinds
from kernels.models.superposition import superposition

_FEWEST_ALIKE = 6
"""Residues of the same letters that make two chains the same."""
_LEAST_ALIKE = 0.7
"""Share of the residues with the same numbers whose letters are the same: mutants and errors of a trace are left."""
_NAME_SHARE = 0.05
"""What equal names of chains count for, in units of the residues that agree: copies of one chain hardly differ."""
_CLEARLY_NEARER, _NEARER_ANGSTROM = 0.5, 5.0
"""How much nearer copies of a chain have to come to each other, to be paired against their names."""


@dataclass(frozen=True, eq=False)
class SameResidues:
    """Pairs of residues, in the order of the first model."""

    first: Tensor
    """(pair,) int64 index in the first model, rising."""
    second: Tensor
    """(pair,) in the second one."""

    def __len__(self) -> int:
        return len(self.first)


def same_residues(first: AtomicModel, second: AtomicModel) -> SameResidues:
    """Residues of two models that stand for each other.

    Chains are paired one to one, in the register in which most letters agree. Copies of a chain go with those of their
    name, unless other pairs lie much nearer to each other after a superposition. What is left of the chains is paired
    again, so that a chain that is traced in parts finds all of itself.

    Only amino acids and nucleotides with a Cα or C4' are paired. Memory: 30 bytes a pair of residues of one letter.
    """
    pairing = _Pairing(first, second)
    found = torch.full((first.n_residues,), -1)
    is_first_round = True
    while True:
        added = pairing.round(found, is_first_round)
        if not (added >= 0).any():
            break
        found = torch.where(added >= 0, added, found)
        is_first_round = False
    rows = torch.nonzero(found >= 0).squeeze(1)
    return SameResidues(rows, found[rows])


class _Pairing:
    """Two models, and which of their chains could be the same."""

    def __init__(self, first: AtomicModel, second: AtomicModel) -> None:
        self.places = representatives(first), representatives(second)
        self.kinds = tuple(
            torch.where(place.isfinite().all(1), residue_kinds(model), -1)
            for model, place in zip((first, second), self.places)
        )
        self.told = chains_and_numbers(first), chains_and_numbers(second)
        self.names = tuple(tuple(dict.fromkeys(r.chain for r in model.residues)) for model in (first, second))

    def round(self, found: Tensor, is_first: bool) -> Tensor:
        """(residue of the first model,) what is found for it now, -1 for nothing."""
        free_1 = (self.kinds[0] >= 0) & (found < 0)
        free_2 = self.kinds[1] >= 0
        free_2[found[found >= 0]] = False
        rows_1, rows_2 = torch.nonzero(free_1).squeeze(1), torch.nonzero(free_2).squeeze(1)
        alike = self.kinds[0][rows_1][:, None] == self.kinds[1][rows_2]
        i, j = torch.nonzero(alike).unbind(1)
        told, count = registers((rows_1[i], rows_2[j]), *self.told)
        enough = count >= _FEWEST_ALIKE
        told, count = told[enough], count[enough]
        pairs: dict[tuple[int, int], Tensor] = {}
        score = torch.zeros(len(self.names[0]), len(self.names[1]), dtype=torch.float64)
        for k in count.argsort(descending=True, stable=True).tolist():
            a, b, offset = told[k].tolist()
            if score[a, b] > 0:
                continue  # the best register of these chains is known
            matches = self._in_register(rows_1, rows_2, a, b, offset)
            if int(count[k]) >= _LEAST_ALIKE * len(matches):
                pairs[a, b] = matches
                score[a, b] = int(count[k]) * (1 + _NAME_SHARE * (self.names[0][a] == self.names[1][b]))
        chosen = self._assigned(score)
        if is_first:
            chosen = self._nearer(score, pairs, chosen)
        added = torch.full_like(found, -1)
        for a, b in chosen:
            added[pairs[a, b][:, 0]] = pairs[a, b][:, 1]
        return added

    def _in_register(self, rows_1: Tensor, rows_2: Tensor, a: int, b: int, offset: int) -> Tensor:
        """(pair, 2) residues of two chains with the same numbers."""
        own_1 = rows_1[self.told[0][0][rows_1] == a]
        own_2 = rows_2[self.told[1][0][rows_2] == b]
        number_1, number_2 = self.told[0][1][own_1] + offset, self.told[1][1][own_2]
        i, j = torch.nonzero(number_1[:, None] == number_2).unbind(1)
        # insertion codes repeat numbers: each residue is taken once
        fresh = torch.ones(len(i), dtype=torch.bool)
        fresh[1:] = i[1:] != i[:-1]
        i, j = i[fresh], j[fresh]
        once = torch.ones(len(j), dtype=torch.bool)
        once[1:] = j[1:] > j[:-1].cummax(0).values
        return torch.stack([own_1[i[once]], own_2[j[once]]], 1)

    @staticmethod
    def _assigned(score: Tensor) -> list[tuple[int, int]]:
        rows, columns = linear_sum_assignment(score.numpy(), maximize=True)
        return [(a, b) for a, b in zip(rows.tolist(), columns.tolist()) if score[a, b] > 0]

    def _nearer(
        self, score: Tensor, pairs: dict[tuple[int, int], Tensor], chosen: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Other pairs of copies where these lie much nearer to each other after one of them was laid on its partner."""
        if len(chosen) < 2:
            return chosen
        a, b = (torch.tensor(side) for side in zip(*pairs))
        centre_1 = torch.stack([self.places[0][p[:, 0]].mean(0) for p in pairs.values()])
        centre_2 = torch.stack([self.places[1][p[:, 1]].mean(0) for p in pairs.values()])
        seed = chosen[0][0]
        best, best_off = chosen, self._apart(chosen, pairs)
        for other in [q for p, q in pairs if p == seed]:
            laid = pairs[seed, other]
            rotation, shift = superposition(
                self.places[0][laid[:, 0]], self.places[1][laid[:, 1]], torch.ones(len(laid), dtype=torch.float64)
            )
            away = (centre_1 @ rotation + shift - centre_2).norm(dim=1)
            near = torch.zeros_like(score)
            near[a, b] = score[a, b] / (1 + away / _NEARER_ANGSTROM)
            offered = self._assigned(near)
            off = self._apart(offered, pairs)
            if len(offered) >= len(best) and off < _CLEARLY_NEARER * best_off and off < best_off - _NEARER_ANGSTROM:
                best, best_off = offered, off
        return best

    def _apart(self, chosen: list[tuple[int, int]], pairs: dict[tuple[int, int], Tensor]) -> float:
        """Root mean square distance of all pairs after a superposition of all."""
        rows = torch.cat([pairs[one] for one in chosen])
        first, second = self.places[0][rows[:, 0]], self.places[1][rows[:, 1]]
        rotation, shift = superposition(first, second, torch.ones(len(rows), dtype=torch.float64))
        return float((first @ rotation + shift - second).square().sum(-1).mean().sqrt())
