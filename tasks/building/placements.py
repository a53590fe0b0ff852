"""Where each trace may lie on each sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.detections import Detections
from kernels.models.polymers import Polymer
from kernels.models.threading import (
    IMPOSSIBLE,
    MOVES,
    Alignment,
    GapCosts,
    alignment_log_sums,
    best_alignments,
    best_scores,
    column_scores,
    extreme_value_p,
    profile_log_odds,
    sequence_text,
)
from tasks.building.sequences import Target
from tasks.building.trace_chains import Trace

LOG_PRIOR_REVERSED = -4.0
"""Of a whole trace that runs from the C to the N terminus."""
TEMPERATURES = (0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 2.6)
N_SHUFFLED = 40
N_PLACEMENTS = 10
"""Of a trace in one direction, at most."""
_N_FOR_TEMPERATURE = 12
PLACE_ERROR_ANGSTROM = 0.9
"""Of a distance between two residues of traces."""
_END_INSIDE = -3.0
"""Log probability that an alignment begins, or ends, inside a trace: that the trace leaves its chain there."""


@dataclass(frozen=True)
class Text:
    """All sequences as one."""

    types: Tensor
    """(column,)"""
    sequence: Tensor
    """(column,) index of the target, -1 between two"""
    position: Tensor
    """(column,)"""

    @staticmethod
    def of(targets: Sequence[Target]) -> Text:
        return Text(*sequence_text([t.types for t in targets]))

    @property
    def n_places(self) -> int:
        """Columns at which a trace may begin, in both directions."""
        return 2 * int((self.sequence >= 0).sum())


@dataclass(frozen=True)
class Reading:
    """A trace read in one direction, ready to be laid on sequences."""

    row: Tensor
    """(row,) residue of the trace"""
    log_odds: Tensor
    """(row, type)"""
    costs: GapCosts
    is_reversed: bool


@dataclass(frozen=True)
class Placement:
    """Residues of a trace laid on a sequence."""

    trace: int
    is_reversed: bool
    sequence: int
    residue: Tensor
    """(pair,) of the trace; falling where reversed"""
    position: Tensor
    """(pair,) rising, in the sequence"""
    pair_log_odds: Tensor
    """(pair,) of the types alone"""
    log_odds: float
    """Of this place against a trace of another chain, with all places equally likely before."""
    p_value: float
    """That a shuffled sequence has a place as good."""


def readings(trace: Trace, detections: Detections, temperature: float) -> list[Reading]:
    """The trace as it runs, and backwards."""
    is_seen = trace.candidate >= 0
    row = trace.candidate.clamp(min=0)
    trust = torch.where(is_seen, detections.confidence[row].clamp(0.05, 0.97), 0.0)
    log_odds = profile_log_odds(detections.types[row], trust, temperature, detections.polymer)
    forwards = torch.arange(len(trace))
    found = []
    for is_reversed, order in ((False, forwards), (True, forwards.flip(0))):
        link = trace.link_log_odds.float()
        link = link.flip(0) if is_reversed else link
        costs = _gap_costs(trace.alpha_angstrom[order], link, trust[order], detections.polymer)
        found.append(Reading(order, log_odds[order], costs, is_reversed))
    return found


def _gap_costs(place: Tensor, link: Tensor, trust: Tensor, polymer: Polymer) -> GapCosts:
    """Slips happen at weak links and bridges, and leave steps that are too long or too short for what they join."""
    n = len(place)
    weak = torch.full((n,), 6.0)
    weak[1:] = link.clamp(0.0, 6.0)
    invented = torch.where(trust > 0, -3.0 - 2.0 * trust, -2.0)
    before = torch.cat([torch.zeros(1), invented.cumsum(0)])  # of the rows up to this one
    move = torch.full((n, len(MOVES)), IMPOSSIBLE)
    for k, (n_invented, n_lost) in enumerate(MOVES):
        row = torch.arange(1 + n_invented, n)
        source = row - 1 - n_invented
        apart = (place[row] - place[source]).norm(dim=1)
        cost = before[row] - before[source + 1]
        if n_invented and n_lost:  # a residue in the wrong place: neither lost nor invented
            cost = cost - 1.0
        elif n_lost:
            short = (polymer.over_one_angstrom[0] - apart).clamp(min=0) / PLACE_ERROR_ANGSTROM
            cost = cost - 2.5 - 0.6 * weak[row] - (n_lost - 1) - 0.5 * short**2
        elif n_invented:
            long = (apart - polymer.step_angstrom).clamp(min=0) / PLACE_ERROR_ANGSTROM
            cost = torch.where(long < 3.0, cost - 0.5 * long**2, IMPOSSIBLE)
        move[row, k] = cost
    begin = torch.full((n, 1), _END_INSIDE)
    begin[0] = 0.0
    end = torch.full((n,), _END_INSIDE)
    end[-1] = 0.0
    return GapCosts(move, begin, end)


def fitted_temperature(traces: Sequence[Trace], detections: Detections, text: Text) -> float:
    """Of the types, such that the longest traces are likeliest to come from the sequences."""
    longest = sorted(traces, key=len, reverse=True)[:_N_FOR_TEMPERATURE]
    best, chosen = -math.inf, 1.0
    for temperature in TEMPERATURES:
        total = 0.0
        for trace in longest:
            reading = readings(trace, detections, temperature)[0]
            log_sum = alignment_log_sums(column_scores(reading.log_odds, text.types), reading.costs)[1]
            total += float(torch.logaddexp(log_sum - math.log(text.n_places), torch.tensor(0.0)))
        if total > best:
            best, chosen = total, temperature
    return chosen


def placements_of(
    index: int, trace: Trace, detections: Detections, text: Text, shuffled: Tensor, temperature: float
) -> list[Placement]:
    """Likely places of one trace, the best first."""
    found: list[tuple[Reading, Alignment, Tensor]] = []
    chance = []
    for reading in readings(trace, detections, temperature):
        chance.append(best_scores(reading.log_odds, shuffled, reading.costs, N_SHUFFLED))
        scores = column_scores(reading.log_odds, text.types)
        found += [(reading, a, scores[a.row, a.column]) for a in best_alignments(scores, reading.costs, N_PLACEMENTS)]
    by_chance = torch.stack(chance).amax(0)
    placed = []
    for reading, alignment, pairs in found:
        prior = (LOG_PRIOR_REVERSED if reading.is_reversed else 0.0) - math.log(text.n_places)
        placed.append(
            Placement(
                index,
                reading.is_reversed,
                int(text.sequence[alignment.column[0]]),
                reading.row[alignment.row],
                text.position[alignment.column],
                pairs,
                alignment.score + prior,
                extreme_value_p(alignment.score, by_chance),
            )
        )
    return sorted(placed, key=lambda p: -p.log_odds)


def shuffled_text(targets: Sequence[Target], seed: int) -> Tensor:
    """(column,) texts of the same sequences with their residues in any order, `N_SHUFFLED` of them in a row."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(N_SHUFFLED):
        orders = [t.types[torch.randperm(len(t.types), generator=generator)] for t in targets]
        parts.append(sequence_text(orders)[0])
    return torch.cat(parts)
