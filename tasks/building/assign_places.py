"""One place for every trace, all chosen together: pieces of one chain follow each other and can reach each other."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from kernels.models.polymers import PROTEIN, Polymer
from tasks.building.paths import Limit, as_paths, best_paths
from tasks.building.placements import PLACE_ERROR_ANGSTROM, Placement
from tasks.building.sequences import Target
from tasks.building.trace_chains import Trace

_log = logging.getLogger(__name__)

SPEAKS_FOR_ITSELF = 2.0
"""Log-odds of a placement that needs no neighbours."""
LOWEST_LOG_ODDS = -6.0
"""Of a placement that neighbours may make likely."""
FURTHEST_FROM_BEST = 12.0
MOST_OF_A_TRACE = 8
MOST_TRIMMED = 20
"""Pairs at an end of a piece that may be left out, so that it can follow another."""
LOWEST_JOIN = -1.0
"""Log-odds of the join of a placement that needs its neighbours."""
MOST_JOINS = 5
"""Considered before, and after, each placement that needs its neighbours: the likeliest."""
COST_OF_TRIM = 1.0
"""Log-odds against it, besides what the pairs bring."""
COST_OF_CHAIN = 2.0
"""Log-odds against one more copy of a sequence."""
SAME_TRACE = 2.0
"""Log-odds that pieces of one trace belong to one chain."""


@dataclass(frozen=True)
class Joins:
    """Pairs of placements that a chain can lead through, one after the other."""

    first: np.ndarray
    second: np.ndarray
    log_odds: np.ndarray
    stop: np.ndarray
    """Position behind the last that the first keeps"""
    start: np.ndarray
    """First position that the second keeps"""


@dataclass(frozen=True)
class Piece:
    """A placement in its chain."""

    placement: Placement
    start: int
    """First position that it keeps"""
    stop: int
    """Position behind the last that it keeps"""
    join_log_odds: float
    """Of following the piece before; 0 for the first."""


def chains_of_places(
    placements: Sequence[Placement], traces: Sequence[Trace], targets: Sequence[Target]
) -> list[list[Piece]]:
    """Chosen placements of each copy, in the order of its sequence.

    No residue of a trace has two places; a sequence has no more copies than its target says. Places that speak for
    themselves are chosen first; those that need neighbours, among what these leave free.
    """
    sure = _best_of_each_trace([p for p in placements if p.log_odds > SPEAKS_FOR_ITSELF])
    chains = _chosen(sure, possible_joins(sure, traces), targets)
    fixed = [piece.placement for chain in chains for piece in chain]
    rest = [p for p in placements if LOWEST_LOG_ODDS < p.log_odds <= SPEAKS_FOR_ITSELF and _is_free(p, fixed, targets)]
    everything = [*fixed, *_best_of_each_trace(rest)]
    joins = _around(chains, possible_joins(everything, traces), everything)
    try:
        return _chosen(everything, joins, targets)
    except TimeoutError as error:
        _log.warning("traces without a sure place stay without one: %s", error)
        return chains


def _chosen(placements: Sequence[Placement], joins: Joins, targets: Sequence[Target]) -> list[list[Piece]]:
    if not placements:
        return []
    limits = _one_place_each(placements)
    for s, target in enumerate(targets):
        if target.copies is not None:
            own = [i for i, p in enumerate(placements) if p.sequence == s]
            links = np.flatnonzero(np.isin(joins.first, own)).tolist()
            limits.append(Limit(own, links, target.copies))
    node = np.array([p.log_odds for p in placements]) - COST_OF_CHAIN
    used, chosen = best_paths(node, joins.first, joins.second, joins.log_odds + COST_OF_CHAIN, limits)
    after = {int(joins.second[e]): (int(joins.start[e]), float(joins.log_odds[e])) for e in np.flatnonzero(chosen)}
    before = {int(joins.first[e]): int(joins.stop[e]) for e in np.flatnonzero(chosen)}

    def piece(i: int) -> Piece:
        own = placements[i]
        start, join = after.get(i, (int(own.position[0]), 0.0))
        return Piece(own, start, before.get(i, int(own.position[-1]) + 1), join)

    paths = as_paths(len(placements), joins.first[chosen], joins.second[chosen])
    return [[piece(i) for i in path] for path in paths if used[path[0]]]


def _around(chains: Sequence[Sequence[Piece]], joins: Joins, placements: Sequence[Placement]) -> Joins:
    """Joins that leave the order of what is chosen as it is, and those to placements that these make likely."""
    number = {id(p): i for i, p in enumerate(placements)}
    n_fixed = sum(len(chain) for chain in chains)
    steps = {
        (number[id(a.placement)], number[id(b.placement)]) for chain in chains for a, b in itertools.pairwise(chain)
    }
    first_fixed, second_fixed = joins.first < n_fixed, joins.second < n_fixed
    is_step = np.array([pair in steps for pair in zip(joins.first.tolist(), joins.second.tolist())], dtype=bool)
    own = np.array([p.log_odds for p in placements])
    gain_in, gain_out = np.zeros(len(own)), np.zeros(len(own))
    np.maximum.at(gain_in, joins.second, joins.log_odds)
    np.maximum.at(gain_out, joins.first, joins.log_odds)
    hopeful = own + gain_in + gain_out > 0
    kept = np.where(first_fixed & second_fixed, is_step, hopeful[joins.first] & hopeful[joins.second])
    kept &= is_step | _among_best(joins, joins.first, kept) | _among_best(joins, joins.second, kept)
    return Joins(*(getattr(joins, f.name)[kept] for f in fields(Joins)))


def _among_best(joins: Joins, end: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(join,) whether it is one of the best that are kept of its placement at one end."""
    order = np.lexsort((-joins.log_odds, ~kept, end))
    first_of_end = np.searchsorted(end[order], end[order])
    best = np.zeros(len(end), dtype=bool)
    best[order] = np.arange(len(end)) - first_of_end < MOST_JOINS
    return best & kept


def _is_free(placement: Placement, fixed: Sequence[Placement], targets: Sequence[Target]) -> bool:
    """Whether its residues have no other place, and its positions are not held in all copies."""
    if any(p.trace == placement.trace and _overlap(p, placement) for p in fixed):
        return False
    copies = targets[placement.sequence].copies
    same = [p for p in fixed if p.sequence == placement.sequence]
    low, high = int(placement.position[0]) + 2, int(placement.position[-1]) - 2
    holding = sum(int(p.position[0]) <= high and int(p.position[-1]) >= low for p in same)
    return copies is None or holding < copies


def _best_of_each_trace(placements: Sequence[Placement]) -> list[Placement]:
    """The best placements of each trace; of two that share few residues, each without what fits the other better."""
    of_trace: dict[int, list[Placement]] = {}
    for p in sorted(placements, key=lambda p: -p.log_odds):
        own = of_trace.setdefault(p.trace, [])
        if len(own) >= MOST_OF_A_TRACE:
            continue
        for k, other in enumerate(own):
            parted = _parted(other, p)
            if parted is not None and parted[1].log_odds > SPEAKS_FOR_ITSELF:
                own[k], p = parted
        if not any(_overlap(o, p) and p.log_odds < o.log_odds - FURTHEST_FROM_BEST for o in own):
            own.append(p)
    return [p for own in of_trace.values() for p in own]


def _parted(first: Placement, second: Placement) -> tuple[Placement, Placement] | None:
    """Two placements of a trace cut where they meet; None where one has less than half of its residues left.

    Where a trace changes from one chain to another, both places run on by some types that fit by chance.
    """
    low, high = (first, second) if first.residue.double().mean() < second.residue.double().mean() else (second, first)
    start, stop = int(high.residue.min()), int(low.residue.max()) + 1
    if start >= stop:
        return None
    kept = [
        float(low.pair_log_odds[low.residue < c].sum() + high.pair_log_odds[high.residue >= c].sum())
        for c in range(start, stop + 1)
    ]
    cut = start + max(range(len(kept)), key=lambda k: kept[k])
    parts = _with_pairs(low, low.residue < cut), _with_pairs(high, high.residue >= cut)
    if any(len(part.residue) < 0.5 * len(whole.residue) for part, whole in zip(parts, (low, high))):
        return None
    return parts if low is first else (parts[1], parts[0])


def _with_pairs(placement: Placement, kept: Tensor) -> Placement:
    return replace(
        placement,
        residue=placement.residue[kept],
        position=placement.position[kept],
        pair_log_odds=placement.pair_log_odds[kept],
        log_odds=placement.log_odds - float(placement.pair_log_odds[~kept].sum()),
    )


def _overlap(first: Placement, second: Placement) -> bool:
    return bool(torch.isin(first.residue, second.residue).any())


def _one_place_each(placements: Sequence[Placement]) -> list[Limit]:
    """Placements that use the same residue of a trace exclude each other."""
    users: dict[tuple[int, int], set[int]] = {}
    for i, p in enumerate(placements):
        for residue in range(int(p.residue.min()), int(p.residue.max()) + 1):
            users.setdefault((p.trace, residue), set()).add(i)
    groups = sorted({frozenset(g) for g in users.values() if len(g) > 1}, key=len, reverse=True)
    widest: list[frozenset[int]] = []
    for group in groups:
        if not any(group <= other for other in widest):
            widest.append(group)
    return [Limit(sorted(group)) for group in widest]


def possible_joins(placements: Sequence[Placement], traces: Sequence[Trace]) -> Joins:
    """All pairs of placements that a chain can lead through, one after the other."""
    if not placements:
        nothing = np.zeros(0, dtype=int)
        return Joins(nothing, nothing, np.zeros(0), nothing, nothing)
    sequence = torch.tensor([p.sequence for p in placements])
    start, end = (torch.tensor([int(p.position[k]) for p in placements]) for k in (0, -1))
    head, tail = (torch.stack([_alpha(p, traces, k) for p in placements]) for k in (0, -1))
    everywhere, polymer = torch.cat([t.alpha_angstrom for t in traces]), traces[0].polymer
    step, apart = start[None, :] - end[:, None], torch.cdist(tail, head).double()
    odds = between_log_odds(step.clamp(min=1), apart, everywhere, polymer)
    follows = (sequence[:, None] == sequence) & (end[None, :] > end[:, None]) & (start[None, :] > start[:, None])
    in_reach = (step > 0) & (apart <= _reach(step, polymer))
    sure = torch.tensor([p.log_odds > SPEAKS_FOR_ITSELF for p in placements])
    both_sure = sure[:, None] & sure
    first, second = torch.nonzero(follows & in_reach & (both_sure | (odds > LOWEST_JOIN)), as_tuple=True)
    columns = (first, second, odds[first, second], end[first] + 1, start[second])
    rows = list(zip(*(v.tolist() for v in columns)))
    trimmed = follows & both_sure & ~in_reach & (step > -2 * MOST_TRIMMED) & (step < MOST_TRIMMED)
    for i, j in torch.nonzero(trimmed).tolist():
        trim = _best_trim(placements[i], placements[j], traces, everywhere)
        if trim is not None:
            rows.append((i, j, *trim))
    table = np.array(rows, dtype=float).reshape(-1, 5)
    in_order = _in_order(placements).numpy()
    pairs = table[:, 0].astype(int), table[:, 1].astype(int)
    return Joins(*pairs, table[:, 2] + SAME_TRACE * in_order[pairs], table[:, 3].astype(int), table[:, 4].astype(int))


def _reach(step: Tensor, polymer: Polymer) -> Tensor:
    return polymer.longest_step_angstrom * step + 2 * PLACE_ERROR_ANGSTROM


def _best_trim(
    first: Placement, second: Placement, traces: Sequence[Trace], everywhere: Tensor
) -> tuple[float, int, int] | None:
    """Log-odds of a join that leaves out some of the end of the first and of the start of the second; and where.

    Ends of traces may run on into another chain, and types that fit by chance.
    """
    n, m = (min(MOST_TRIMMED, len(p.position) // 2) for p in (first, second))
    ends = torch.arange(len(first.position) - 1, len(first.position) - 2 - n, -1)
    starts = torch.arange(m + 1)
    loss_first = torch.cat([torch.zeros(1), first.pair_log_odds.flip(0).cumsum(0)[:n]])
    loss_second = torch.cat([torch.zeros(1), second.pair_log_odds.cumsum(0)[:m]])
    step = second.position[starts][None, :] - first.position[ends][:, None]
    tails, heads = (traces[p.trace].alpha_angstrom[p.residue[i]] for p, i in ((first, ends), (second, starts)))
    apart = torch.cdist(tails, heads).double()
    polymer = traces[first.trace].polymer
    gain = between_log_odds(step.clamp(min=1), apart, everywhere, polymer)
    gain = gain - loss_first[:, None] - loss_second - COST_OF_TRIM
    gain[(step < 1) | (apart > _reach(step, polymer))] = -torch.inf
    best = int(gain.argmax())
    i, j = best // gain.shape[1], best % gain.shape[1]
    if not math.isfinite(float(gain[i, j])):
        return None
    return float(gain[i, j]), int(first.position[ends[i]]) + 1, int(second.position[starts[j]])


def _alpha(placement: Placement, traces: Sequence[Trace], pair: int) -> Tensor:
    return traces[placement.trace].alpha_angstrom[int(placement.residue[pair])]


def _in_order(placements: Sequence[Placement]) -> Tensor:
    """(first, second) whether they are pieces of one trace that run the same way, the first before the second."""
    trace = torch.tensor([p.trace for p in placements])
    sign = torch.tensor([-1 if p.is_reversed else 1 for p in placements])
    start, end = (torch.tensor([int(p.residue[k]) for p in placements]) * sign for k in (0, -1))
    return (trace[:, None] == trace) & (sign[:, None] == sign) & (start[None, :] > end[:, None])


def between_log_odds(step: Tensor, apart: Tensor, place: Tensor, polymer: Polymer = PROTEIN) -> Tensor:
    """Log-odds of a distance in Å between residues ``step`` apart in sequence, against any two residues of a model.

    Parameters
    ----------
    place
        (residue, 3) all Cα or C4'.
    """
    some = place[:: max(1, len(place) // 400)].double()
    distances = torch.pdist(some) if len(some) > 2 else torch.tensor([20.0, 30.0], dtype=torch.float64)
    mean, spread = distances.mean(), distances.std().clamp(min=3.0)
    last = len(polymer.between_mean_angstrom) - 1
    expected = torch.tensor(polymer.between_mean_angstrom, dtype=torch.float64)[step.clamp(max=last)]
    width = torch.tensor(polymer.between_spread_angstrom, dtype=torch.float64)[step.clamp(max=last)]
    width = (width**2 + PLACE_ERROR_ANGSTROM**2).sqrt()

    def log_normal(middle: Tensor, deviation: Tensor) -> Tensor:
        return -0.5 * ((apart - middle) / deviation) ** 2 - torch.log(deviation)

    # never more spread than any two residues: a long loop says nothing
    width, expected = torch.minimum(width, spread), torch.minimum(expected, mean)
    return log_normal(expected, width) - log_normal(mean, spread)
