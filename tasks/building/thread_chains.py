"""Traces to chains with sequence: places chosen together, gaps filled that the sequence knows, register judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.bridging import bridged
from kernels.models.detections import Detections
from kernels.models.threading import GapCosts, alignment_log_sums, column_scores
from kernels.models.tracing import Hands
from tasks.building.assign_places import Piece, chains_of_places
from tasks.building.placements import (
    LOG_PRIOR_REVERSED,
    Placement,
    Reading,
    Text,
    fitted_temperature,
    placements_of,
    readings,
    shuffled_text,
)
from tasks.building.sequences import Target
from tasks.building.trace_chains import SHORTEST_TRACE, Trace

LONGEST_FILL = 6
"""Residues that the sequence has between two pieces and that are put there without a candidate."""
REGISTER_OFFSET, REGISTER_SLOPE, REGISTER_UNSEEN = 1.05, 0.94, -0.95
"""From the logit of a summed probability to that of a share of right residues; the last for residues without a
candidate. Fitted on simulated detections of eight development structures at three levels of noise."""
TAKEN = -4.0
"""Log-odds against a position that other traces hold in all copies."""


@dataclass(frozen=True)
class ThreadedChain:
    """Residues in the order of their chain."""

    sequence: int | None
    """Index of the target; None where no place on a sequence was found."""
    position: Tensor
    """(residue,) rising, in the sequence, or from 0"""
    alpha_angstrom: Tensor
    """(residue, 3)"""
    candidate: Tensor
    """(residue,) row of the detections, -1 where a residue was put without one"""
    is_reversed: Tensor
    """(residue,) whether the candidate takes its next residue for the previous one"""
    register_probability: Tensor
    """(residue,) that within 3 Å lies this residue of the sequence; 0 where there is none"""
    p_value: Tensor
    """(residue,) of the place of the trace that it comes from; 1 without a sequence"""

    def __len__(self) -> int:
        return len(self.position)


def thread_chains(
    traces: Sequence[Trace], detections: Detections, targets: Sequence[Target], seed: int = 0
) -> list[ThreadedChain]:
    """Chains with sequence, then traces and parts of traces without, each the longest first."""
    if not traces:
        return []
    if not targets:
        return [_unthreaded(t, torch.arange(len(t))) for t in traces]
    text, shuffled = Text.of(targets), shuffled_text(targets, seed)
    temperature = fitted_temperature(traces, detections, text)
    placements = [p for i, t in enumerate(traces) for p in placements_of(i, t, detections, text, shuffled, temperature)]
    chains = chains_of_places(placements, traces, targets)
    register = _Register(traces, detections, targets, text, temperature, chains)
    everything = torch.cat([t.alpha_angstrom for t in traces])
    threaded = [_assembled(chain, traces, detections, register, everything) for chain in chains]
    rest = _left_over(chains, traces)
    return [*sorted(threaded, key=lambda c: (c.sequence, -len(c))), *sorted(rest, key=lambda c: -len(c))]


class _Register:
    """How sure the register of a piece is, given where all others lie."""

    def __init__(
        self,
        traces: Sequence[Trace],
        detections: Detections,
        targets: Sequence[Target],
        text: Text,
        temperature: float,
        chains: list[list[Piece]],
    ) -> None:
        self.text = text
        self.readings = [readings(t, detections, temperature) for t in traces]
        self.targets = targets
        n_columns = len(text.types)
        self.column = {
            (int(s), int(p)): c for c, (s, p) in enumerate(zip(text.sequence.tolist(), text.position.tolist()))
        }
        self.held = torch.zeros(n_columns)
        for chain in chains:
            for piece in chain:
                self.held[self.columns(piece.placement)] += 1
        self.taken_rows: dict[int, list[Placement]] = {}
        for chain in chains:
            for piece in chain:
                self.taken_rows.setdefault(piece.placement.trace, []).append(piece.placement)
        copies = torch.tensor([math.inf if t.copies is None else float(t.copies) for t in targets] + [math.inf])
        self.copies = copies[text.sequence]

    def columns(self, piece: Placement) -> Tensor:
        return self.column[piece.sequence, 0] + piece.position

    def probability(self, piece: Placement, window: tuple[int, int], joined: float) -> Tensor:
        """(pair,) of each pair of a piece.

        Parameters
        ----------
        window
            Positions before and after which the neighbouring pieces of the chain lie.
        joined
            Log-odds of the joins to them.
        """
        own = self.columns(piece)
        others = self.held.clone()
        others[own] -= 1
        enter = torch.where(others >= self.copies, TAKEN, 0.0)
        inside = (
            (self.text.sequence == piece.sequence) & (self.text.position > window[0]) & (self.text.position < window[1])
        )
        enter = torch.where(inside, enter + joined, enter)
        reading = self.readings[piece.trace][int(piece.is_reversed)]
        other_way = self.readings[piece.trace][int(not piece.is_reversed)]
        rows = self._free_rows(piece)
        sums, total = self._sums(reading, rows, enter)
        _, against = self._sums(other_way, rows, enter)
        against = against + (-LOG_PRIOR_REVERSED if piece.is_reversed else LOG_PRIOR_REVERSED)
        nowhere = torch.tensor(math.log(self.text.n_places))
        everything = torch.logsumexp(torch.stack([total, against, nowhere]), 0)
        row_of = {int(r): k for k, r in enumerate(reading.row[torch.isin(reading.row, rows)].tolist())}
        index = torch.tensor([row_of[r] for r in piece.residue.tolist()])
        return torch.exp(sums[index, own] - everything).clamp(0.0, 1.0)

    def _free_rows(self, piece: Placement) -> Tensor:
        """Residues of the trace between those of its other pieces."""
        low, high = int(piece.residue.min()), int(piece.residue.max())
        first, last = 0, len(self.readings[piece.trace][0].row) - 1
        for other in self.taken_rows[piece.trace]:
            if int(other.residue.max()) < low:
                first = max(first, int(other.residue.max()) + 1)
            if int(other.residue.min()) > high:
                last = min(last, int(other.residue.min()) - 1)
        return torch.arange(first, last + 1)

    def _sums(self, reading: Reading, rows: Tensor, enter: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.isin(reading.row, rows)
        begin = reading.costs.begin[chosen].clone()
        end = reading.costs.end[chosen].clone()
        begin[0], end[-1] = 0.0, 0.0
        costs = GapCosts(reading.costs.move[chosen], begin + enter, end)
        return alignment_log_sums(column_scores(reading.log_odds[chosen], self.text.types), costs)


def _assembled(
    chain: list[Piece],
    traces: Sequence[Trace],
    detections: Detections,
    register: _Register,
    everything: Tensor,
) -> ThreadedChain:
    """One copy: its pieces, with what is missing between them."""
    parts: list[ThreadedChain] = []
    for k, piece in enumerate(chain):
        following = chain[k + 1] if k + 1 < len(chain) else None
        before = chain[k - 1].stop - 1 if k else -1
        after = following.start if following else len(register.text.types)
        joined = max(piece.join_log_odds, 0.0) + max(following.join_log_odds if following else 0.0, 0.0)
        probability = register.probability(piece.placement, (before, after), joined)
        part = _of_piece(piece.placement, traces[piece.placement.trace], probability)
        parts.append(_taken(part, (part.position >= piece.start) & (part.position < piece.stop)))
    whole = _concatenated([p for p in parts if len(p)])
    return _calibrated(_filled(whole, detections, everything))


def _calibrated(chain: ThreadedChain) -> ThreadedChain:
    logit = torch.logit(chain.register_probability.double().clamp(1e-3, 1 - 1e-3))
    unseen = REGISTER_UNSEEN * (chain.candidate < 0)
    return replace(chain, register_probability=torch.sigmoid(REGISTER_OFFSET + REGISTER_SLOPE * logit + unseen).float())


def _of_piece(piece: Placement, trace: Trace, probability: Tensor) -> ThreadedChain:
    """Aligned residues, and those between two that were left out where as many positions were."""
    residue, position, sure = [], [], []
    pairs = list(zip(piece.residue.tolist(), piece.position.tolist(), probability.tolist()))
    for k, (r, p, q) in enumerate(pairs):
        if k:
            before_r, before_p, before_q = pairs[k - 1]
            n = abs(r - before_r) - 1
            if n == p - before_p - 1:
                sign = 1 if r > before_r else -1
                residue += [before_r + sign * (i + 1) for i in range(n)]
                position += [before_p + i + 1 for i in range(n)]
                sure += [min(q, before_q)] * n
        residue.append(r)
        position.append(p)
        sure.append(q)
    index = torch.tensor(residue)
    seen = trace.candidate[index] >= 0
    return ThreadedChain(
        piece.sequence,
        torch.tensor(position),
        trace.alpha_angstrom[index],
        trace.candidate[index],
        seen & (trace.is_reversed[index] ^ piece.is_reversed),
        torch.tensor(sure),
        torch.full((len(index),), piece.p_value),
    )


def _taken(chain: ThreadedChain, index: Tensor) -> ThreadedChain:
    return ThreadedChain(
        chain.sequence, chain.position[index], chain.alpha_angstrom[index], chain.candidate[index],
        chain.is_reversed[index], chain.register_probability[index], chain.p_value[index],
    )  # fmt: skip


def _concatenated(parts: Sequence[ThreadedChain]) -> ThreadedChain:
    return ThreadedChain(
        parts[0].sequence,
        *(
            torch.cat([getattr(p, name) for p in parts])
            for name in ("position", "alpha_angstrom", "candidate", "is_reversed", "register_probability", "p_value")
        ),
    )


def _filled(chain: ThreadedChain, detections: Detections, everything: Tensor) -> ThreadedChain:
    """The chain with residues put into gaps of `LONGEST_FILL` and less that they can span without a clash."""
    hands = chain_hands(chain, detections)
    step = chain.position.diff()
    apart = chain.alpha_angstrom.diff(dim=0).norm(dim=1)
    gaps = (step > 1) & (step <= LONGEST_FILL + 1) & (apart < detections.polymer.longest_step_angstrom * step + 1.0)
    parts, done = [], 0
    for i in torch.nonzero(gaps).squeeze(1).tolist():
        n = int(step[i]) - 1
        inner = bridged(hands.take(torch.tensor([i])), hands.take(torch.tensor([i + 1])), n)[0]
        is_end = (torch.cdist(everything, chain.alpha_angstrom[i : i + 2]) < 1e-3).any(1)
        if n > 2 and bool((torch.cdist(inner, everything[~is_end]) < detections.polymer.crowded_angstrom).any()):
            continue
        sure = chain.register_probability[i : i + 2].min()
        fill = ThreadedChain(
            chain.sequence,
            chain.position[i] + 1 + torch.arange(n),
            inner,
            torch.full((n,), -1),
            torch.zeros(n, dtype=torch.bool),
            sure.expand(n),
            chain.p_value[i : i + 2].amax().expand(n),
        )
        parts += [_taken(chain, torch.arange(done, i + 1)), fill]
        done = i + 1
    return _concatenated([*parts, _taken(chain, torch.arange(done, len(chain)))])


def chain_hands(chain: ThreadedChain, detections: Detections) -> Hands:
    """What each residue expects of its neighbours; one without a candidate expects the chain to go on as it came."""
    seen = chain.candidate >= 0
    hands = Hands.of(detections).take(chain.candidate.clamp(min=0), chain.is_reversed)
    place = chain.alpha_angstrom
    onwards = torch.cat([place[:1] - place[:1] + 1e-3, place.diff(dim=0)])
    backwards = torch.cat([-place.diff(dim=0), place[:1] - place[:1] + 1e-3])
    step = detections.polymer.step_angstrom
    unit_on, unit_back = (step * torch.nn.functional.normalize(v, dim=1) for v in (onwards, backwards))
    mask = seen[:, None]
    return Hands(
        place,
        torch.where(mask, hands.ahead_angstrom, unit_on),
        torch.where(mask, hands.back_angstrom, unit_back),
        torch.where(mask, hands.carbon_angstrom, 0.4 * unit_on),
        torch.where(mask, hands.nitrogen_angstrom, 0.4 * unit_back),
        detections.polymer,
    )


def _left_over(chains: list[list[Piece]], traces: Sequence[Trace]) -> list[ThreadedChain]:
    """Stretches of traces that have no place."""
    free = [torch.ones(len(t), dtype=torch.bool) for t in traces]
    for chain in chains:
        for piece in chain:
            residue = piece.placement.residue
            free[piece.placement.trace][int(residue.min()) : int(residue.max()) + 1] = False
    found = []
    for trace, mask in zip(traces, free):
        index = torch.nonzero(mask).squeeze(1)
        cuts = torch.nonzero(index.diff() > 1).squeeze(1) + 1
        for part in torch.tensor_split(index, cuts):
            if len(part) >= SHORTEST_TRACE:
                found.append(_unthreaded(trace, part))
    return found


def _unthreaded(trace: Trace, index: Tensor) -> ThreadedChain:
    n = len(index)
    return ThreadedChain(
        None, torch.arange(n), trace.alpha_angstrom[index], trace.candidate[index], trace.is_reversed[index],
        torch.zeros(n), torch.ones(n),
    )  # fmt: skip
