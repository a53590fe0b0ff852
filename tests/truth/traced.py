"""Traced stretches compared with the chains that they should follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.detections import ProteinDetections
from kernels.scores import matched_points
from tests.truth.protein_detections import KnownChain

REACH_ANGSTROM = 3.0
SEEN_ANGSTROM = 2.0
_APART = 100_000


@dataclass(frozen=True)
class TraceFigures:
    """Counts of one specimen; they add up over specimens."""

    n_residues: int
    n_traced: int
    """Residues of the traces."""
    n_recovered: int
    """True residues that a traced one stands for, one-to-one within 3 Å."""
    n_neighbours: int
    """True neighbours in sequence that are both among the candidates, within 2 Å."""
    n_broken: int
    """Of them: not next to each other in a trace."""
    n_slips: int
    """Pairs along a trace between which it has lost or invented up to four residues."""
    n_wrong: int
    """Pairs along a trace of other chains, or far or backwards along the same."""
    n_traces: int
    n_chains: int


def positions_in_truth(place: Tensor, chains: Sequence[KnownChain], radius: float = REACH_ANGSTROM) -> Tensor:
    """(point,) 100,000 times the chain's index plus the position in its sequence; -1 where there is no residue."""
    true = torch.cat([c.alpha_angstrom for c in chains])
    key = torch.cat([c.position + _APART * k for k, c in enumerate(chains)])
    match = matched_points(place.double(), true.double(), radius)
    return torch.where(match >= 0, key[match.clamp(min=0)], -1)


def trace_figures(
    traces: Sequence[Tensor], chains: Sequence[KnownChain], detections: ProteinDetections
) -> TraceFigures:
    """Compare Cα (residue, 3) of each trace with the chains."""
    lengths = [len(t) for t in traces]
    key = positions_in_truth(torch.cat([*traces, torch.zeros(0, 3)]), chains)
    linked, slips, wrong = set(), 0, 0
    for own in key.split(lengths):
        steps = torch.nonzero(own >= 0).squeeze(1)
        for i, j in zip(steps.tolist(), steps[1:].tolist()):
            before, after, expected = int(own[i]), int(own[j]), j - i
            if abs(after - before) == 1:
                linked.add(min(before, after))
            if after - before != expected:
                is_slip = 0 < after - before <= expected + 4
                slips, wrong = slips + is_slip, wrong + (not is_slip)
    seen = set(positions_in_truth(detections.alpha_angstrom, chains, SEEN_ANGSTROM).tolist())
    neighbours = {k for k in seen if k >= 0 and k + 1 in seen}
    return TraceFigures(
        n_residues=sum(len(c.position) for c in chains),
        n_traced=sum(lengths),
        n_recovered=int((key >= 0).sum()),
        n_neighbours=len(neighbours),
        n_broken=len(neighbours - linked),
        n_slips=slips,
        n_wrong=wrong,
        n_traces=len(traces),
        n_chains=len(chains),
    )
