"""Stretches of chain laid on sequences: local alignment of type profiles, with gaps where a trace may have slipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.models.polymers import PROTEIN, Polymer

UNKNOWN = -1
"""A position of a sequence whose type is not known: fits everything equally."""
BREAK = -2
"""Between two sequences: fits nothing."""
MOVES = ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (1, 1))
"""From one aligned pair to the next: residues of the trace, and positions of the sequence, that are left out."""
_N_BREAKS = 1 + max(lost for _, lost in MOVES)
IMPOSSIBLE = -1e4
Floats = NDArray[np.float64]


def sequence_text(sequences: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences one after the other, so that one alignment serves all.

    Parameters
    ----------
    sequences
        Each (position,) int64 index into the polymer's letters, or `UNKNOWN`.

    Returns
    -------
    (column,) types, with breaks around every sequence; index of each column's sequence; position in it; -1 in breaks.
    """
    breaks = torch.full((_N_BREAKS,), BREAK)
    nowhere = torch.full((_N_BREAKS,), -1)
    types, owner, position = [breaks], [nowhere], [nowhere]
    for index, sequence in enumerate(sequences):
        types += [sequence, breaks]
        owner += [torch.full((len(sequence),), index), nowhere]
        position += [torch.arange(len(sequence)), nowhere]
    return torch.cat(types), torch.cat(owner), torch.cat(position)


def profile_log_odds(types: Tensor, trust: Tensor, temperature: float, polymer: Polymer = PROTEIN) -> Tensor:
    """(n, type) log-odds of each type against the background.

    Parameters
    ----------
    types
        (n, type) probabilities of a network that may be too sure of itself, or not sure enough.
    trust
        (n,) probability that they tell of a residue of the chain at all; 0 for a residue without a candidate.
    temperature
        Above 1 where the network is too sure.
    """
    sharp = torch.softmax(torch.log(types.clamp(min=1e-4)) / temperature, -1)
    odds = sharp / torch.tensor(polymer.background, dtype=sharp.dtype, device=sharp.device)
    return torch.log(trust[:, None] * odds + (1 - trust[:, None]))


def column_scores(log_odds: Tensor, types: Tensor) -> Tensor:
    """(row, column) log-odds of every residue (row, type) at every column of a text (column,)."""
    columns, padded = _as_columns(log_odds, types)
    return torch.from_numpy(padded[:, columns])


def _as_columns(log_odds: Tensor, types: Tensor) -> tuple[NDArray[np.int64], Floats]:
    """Columns of a table (row, type + 2), with `UNKNOWN` and `BREAK` behind the types."""
    n_types = log_odds.shape[1]
    table = torch.nn.functional.pad(log_odds.double(), (0, 2)).numpy()
    table[:, n_types + 1] = IMPOSSIBLE
    return torch.where(types >= 0, types, torch.where(types == UNKNOWN, n_types, n_types + 1)).numpy(), table


@dataclass(frozen=True)
class GapCosts:
    """Log probabilities of what a trace may have done wrong, and of beginning and ending an alignment within it."""

    move: Tensor
    """(row, move) of coming to a row by each of `MOVES`."""
    begin: Tensor
    """(row, 1), or (row, column) where some columns are likelier than others"""
    end: Tensor
    """(row,)"""


@dataclass(frozen=True)
class Alignment:
    """Residues of a trace on columns of a text, both rising."""

    row: Tensor
    column: Tensor
    score: float
    """Log-odds against unrelated types, costs included."""


def best_alignments(scores: Tensor, costs: GapCosts, n_best: int) -> list[Alignment]:
    """The best local alignments of (row, column) scores, no two of which share a pair; the best first."""
    n_rows, n_columns = scores.shape
    table, (begin, move_cost, end) = scores.double().numpy(), _as_arrays(costs)
    values = np.empty((n_rows, n_columns))
    came = np.empty((n_rows, n_columns), dtype=np.int8)
    origins = np.empty((n_rows, n_columns), dtype=np.int64)
    columns = np.arange(n_columns)
    for i in range(n_rows):
        options = _arrivals(values, begin, move_cost, i)
        came[i] = options.argmax(0)
        values[i] = options[came[i], columns] + table[i]
        origins[i] = i * n_columns + columns
        for k, (invented, lost) in enumerate(MOVES):
            if i > invented:
                by = np.flatnonzero(came[i] == k + 1)
                origins[i, by] = origins[i - 1 - invented, by - 1 - lost]
    ends, origin = (values + end[:, None]).ravel(), origins.ravel()
    best_end = np.full(len(ends), IMPOSSIBLE)
    np.maximum.at(best_end, origin, ends)
    found = []
    for start in np.argsort(-best_end, kind="stable")[:n_best].tolist():
        if best_end[start] <= 0:
            break
        last = int(np.flatnonzero((origin == start) & (ends == best_end[start]))[0])
        found.append(_traced_back(came, last // n_columns, last % n_columns, float(best_end[start])))
    return found


def _as_arrays(costs: GapCosts) -> tuple[Floats, Floats, Floats]:
    """Rows are short and follow each other: torch would wake its threads for each."""
    return costs.begin.double().numpy(), costs.move.double().numpy(), costs.end.double().numpy()


def _arrivals(values: Floats, begin: Floats, move_cost: Floats, i: int) -> Floats:
    """(1 + move, column) scores of coming to row ``i``: as the first pair, or by a move from an earlier one."""
    options = np.full((1 + len(MOVES), values.shape[1]), IMPOSSIBLE)
    options[0] = begin[i]
    for k, (invented, lost) in enumerate(MOVES):
        if i > invented:
            options[k + 1, 1 + lost :] = values[i - 1 - invented, : -1 - lost] + move_cost[i, k]
    return options


def _traced_back(came: NDArray[np.int8], row: int, column: int, score: float) -> Alignment:
    rows, columns = [row], [column]
    while (move := int(came[row, column])) > 0:
        invented, lost = MOVES[move - 1]
        row, column = row - 1 - invented, column - 1 - lost
        rows.append(row)
        columns.append(column)
    return Alignment(torch.tensor(rows[::-1]), torch.tensor(columns[::-1]), score)


def best_scores(log_odds: Tensor, types: Tensor, costs: GapCosts, n_parts: int) -> Tensor:
    """(part,) score of the best local alignment in each part of a text (column,) of equally long parts."""
    columns, table = _as_columns(log_odds, types)
    begin, move_cost, end = _as_arrays(costs)
    values = np.empty((len(table), len(columns)))
    best = np.full(len(columns), IMPOSSIBLE)
    for i in range(len(table)):
        values[i] = _arrivals(values, begin, move_cost, i).max(0) + table[i, columns]
        np.maximum(best, values[i] + end[i], out=best)
    return torch.from_numpy(best).reshape(n_parts, -1).amax(1)


def alignment_log_sums(scores: Tensor, costs: GapCosts) -> tuple[Tensor, Tensor]:
    """Summed odds of local alignments, as logarithms.

    Returns
    -------
    (row, column) of all that contain a pair; and of all together.
    """
    table, (begin, move_cost, end) = scores.double().numpy(), _as_arrays(costs)
    forwards = _ending_with(table, begin, move_cost)
    # a move into a row is, seen from the other end, one into the row that it came from
    mirrored = np.full_like(move_cost, IMPOSSIBLE)
    for k, (invented, _) in enumerate(MOVES):
        mirrored[1 + invented :, k] = move_cost[1 + invented :, k][::-1]
    backwards = _ending_with(table[::-1, ::-1], end[::-1, None], mirrored)[::-1, ::-1]
    whole = forwards + end[:, None]
    total = whole.max() + np.log(np.exp(whole - whole.max()).sum())
    return torch.from_numpy(forwards + backwards - table), torch.tensor(total)


def _ending_with(table: Floats, begin: Floats, move_cost: Floats) -> Floats:
    """(row, column) log of the summed odds of all alignments whose last pair this is."""
    values = np.empty(table.shape)
    for i in range(len(table)):
        options = _arrivals(values, begin, move_cost, i)
        top = options.max(0)
        values[i] = top + np.log(np.exp(options - top).sum(0)) + table[i]
    return values


def extreme_value_p(score: float, by_chance: Tensor) -> float:
    """Probability that a best score of unrelated sequences is no less, from a Gumbel distribution fitted to some.

    Source
    ------
    Fit by moments: the standard deviation is π / √6 times the scale, the mean lies 0.5772 scales above the mode.
    """
    scale = max(float(by_chance.std()) * math.sqrt(6) / math.pi, 0.3)
    mode = float(by_chance.mean()) - 0.5772 * scale
    return -math.expm1(-math.exp(min(-(score - mode) / scale, 50.0)))
