"""Candidates to stretches of chain: the most probable links first, then the ends that are left, in rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.models.bridging import bridged
from kernels.models.detections import Detections
from kernels.models.neighbours import pairs_within
from kernels.models.polymers import PROTEIN, Polymer
from kernels.models.tracing import Density, Hands, LinkNoise, Links, link_noise, links_between
from tasks.building.paths import Integers, Limit, as_paths, best_paths

SHARE_OF_GAP = (0.85, 0.05)
"""Of candidates: whose next candidate is their neighbour, and whose next one has one residue between."""
SHARE_OF_GAP_AT_ENDS = (0.4, 0.25, 0.1, 0.05)
"""The same for the ends that are left when the first links are chosen; the rest are termini and longer gaps."""
CROWD_OF_ENDS = 0.3
"""Density of unrelated ends near an end, relative to ends strewn among the candidates; least breaks for few wrong
links on simulated detections of development structures (2.6 % and 0.7 per 100 residues at typical noise)."""
WEAKEST_LINK = -3.0
"""Log-odds of links that are considered; a weak one may lead to a strong one."""
WEIGHT_OF_CONFIDENCE = 0.5
"""Of its logit, since a bad place has low confidence and bad links for the same reason."""
COST_OF_REVERSAL = (3.0, 0.3)
"""Log-odds against a stretch that is told the wrong way round, and per residue of it."""
SHORTEST_TRACE = 4
"""Residues; shorter stretches are dropped."""
_N_ROUNDS = 4


@dataclass(frozen=True)
class Trace:
    """A stretch of chain from the N to the C terminus, or from the 5' to the 3' end."""

    candidate: Tensor
    """(residue,) int64 row of the detections, -1 for residues that were put between two"""
    is_reversed: Tensor
    """(residue,) whether the candidate takes its next residue for the previous one"""
    alpha_angstrom: Tensor
    """(residue, 3) Cα or C4'"""
    link_log_odds: Tensor
    """(residue - 1,) of each link; that of the bridge for the links of residues that were put between"""
    polymer: Polymer = PROTEIN

    def __len__(self) -> int:
        return len(self.candidate)


@dataclass(frozen=True)
class _Stretch:
    """Candidates in order, as tuples of plain numbers."""

    candidate: tuple[int, ...]
    is_reversed: tuple[bool, ...]
    missing: tuple[int, ...]
    """After each but the last."""
    log_odds: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.candidate)

    def turned(self) -> _Stretch:
        return _Stretch(
            self.candidate[::-1], tuple(not r for r in self.is_reversed[::-1]), self.missing[::-1], self.log_odds[::-1]
        )


def trace_chains(detections: Detections, density_at: Density | None = None) -> list[Trace]:
    """Stretches of chain through the candidates, the longest first.

    Every candidate has one successor and one predecessor at most and lies on no ring; up to three residues that have
    no candidate are put between two ends; candidates that fit nowhere, and stretches of less than `SHORTEST_TRACE`,
    are dropped.

    Parameters
    ----------
    density_at
        Density of the map at positions; without it geometry alone decides.

    Raises
    ------
    TimeoutError
        Where links are not chosen in time; candidates that crowd make it so.
    """
    if len(detections) == 0:
        return []
    hands = Hands.of(detections)
    noise = link_noise(hands, detections.confidence, density_at)
    use = (WEIGHT_OF_CONFIDENCE * torch.logit(detections.confidence.double().clamp(0.02, 0.98))).numpy()
    stretches = _linked_candidates(hands, use, noise, density_at)
    for _ in range(_N_ROUNDS):
        before = len(stretches)
        stretches = _linked_stretches(hands, use, stretches, noise, density_at)
        if len(stretches) == before:
            break
    kept = [s for s in stretches if len(s) >= SHORTEST_TRACE]
    return [_placed(hands, s) for s in sorted(kept, key=len, reverse=True)]


def _linked_candidates(hands: Hands, use: np.ndarray, noise: LinkNoise, density_at: Density | None) -> list[_Stretch]:
    links = links_between(hands, hands, noise, SHARE_OF_GAP, noise.crowd_per_angstrom3, density_at)
    links = links.take(links.log_odds > WEAKEST_LINK)
    source, target, odds = links.source.numpy(), links.target.numpy(), links.log_odds.double().numpy()
    used, chosen = best_paths(use, source, target, odds, _crowded(hands, source, target))
    single = [_Stretch((i,), (False,), (), ()) for i in range(len(hands))]
    return [s for s in _joined(single, links.take(torch.from_numpy(chosen))) if len(s) > 1 or used[s.candidate[0]]]


def _crowded(hands: Hands, source: Integers, target: Integers) -> list[Limit]:
    """Pairs that are too close, each with the links between them: of such candidates one is none, unless linked."""
    place = hands.alpha_angstrom
    first, second, _ = pairs_within(place, place, hands.polymer.crowded_angstrom)
    pairs: dict[tuple[int, int], list[int]] = {(i, j): [] for i, j in zip(first.tolist(), second.tolist()) if i < j}
    for link, (i, j) in enumerate(zip(source.tolist(), target.tolist())):
        pairs.get((min(i, j), max(i, j)), []).append(link)
    return [Limit(pair, links) for pair, links in pairs.items()]


def _linked_stretches(
    hands: Hands, use: np.ndarray, stretches: list[_Stretch], noise: LinkNoise, density_at: Density | None
) -> list[_Stretch]:
    """Stretches, and candidates that are left over, joined at their ends, forwards or backwards."""
    both = _with_spares(hands, stretches)
    n = len(both)
    both = both + [s.turned() for s in both]
    tails, heads = (
        hands.take(torch.tensor([s.candidate[end] for s in both]), torch.tensor([s.is_reversed[end] for s in both]))
        for end in (-1, 0)
    )
    chance = [1.0 if len(s) > 1 else 1 / (1 + np.exp(-use[s.candidate[0]] / WEIGHT_OF_CONFIDENCE)) for s in both[:n]]
    crowd = CROWD_OF_ENDS * noise.crowd_per_angstrom3 * sum(chance) / len(hands)
    links = links_between(tails, heads, noise, SHARE_OF_GAP_AT_ENDS, crowd, density_at)
    links = links.take((links.log_odds > 0) & (links.source % n != links.target % n))
    own = np.array([1e-3 if len(s) > 1 else use[s.candidate[0]] for s in both])
    constant, per_residue = COST_OF_REVERSAL
    own[n:] -= [constant + per_residue * len(s) for s in both[n:]]
    used, chosen = best_paths(
        own,
        links.source.numpy(),
        links.target.numpy(),
        links.log_odds.double().numpy(),
        [Limit((f, f + n)) for f in range(n)] + _crowded_spares(hands, both, n),
    )
    return _joined(both, links.take(torch.from_numpy(chosen)), used)


def _with_spares(hands: Hands, stretches: list[_Stretch]) -> list[_Stretch]:
    """Stretches, and as stretches of one the candidates that are not in their way."""
    long = [s for s in stretches if len(s) > 1]
    taken = torch.tensor([i for s in long for i in s.candidate], dtype=torch.int64)
    free = torch.ones(len(hands), dtype=torch.bool)
    free[pairs_within(hands.alpha_angstrom[taken], hands.alpha_angstrom, hands.polymer.crowded_angstrom)[1]] = False
    return long + [_Stretch((i,), (False,), (), ()) for i in torch.nonzero(free).squeeze(1).tolist()]


def _crowded_spares(hands: Hands, stretches: list[_Stretch], n: int) -> list[Limit]:
    single = [f for f, s in enumerate(stretches[:n]) if len(s) == 1]
    place = hands.alpha_angstrom[torch.tensor([stretches[f].candidate[0] for f in single], dtype=torch.int64)]
    first, second, _ = pairs_within(place, place, hands.polymer.crowded_angstrom)
    pairs = [(single[i], single[j]) for i, j in zip(first.tolist(), second.tolist()) if i < j]
    return [Limit((i, j, i + n, j + n)) for i, j in pairs]


def _joined(stretches: list[_Stretch], links: Links, used: np.ndarray | None = None) -> list[_Stretch]:
    """Each path as one stretch; of paths of one, those that are used."""
    about = {
        s: (m, o) for s, m, o in zip(links.source.tolist(), links.missing.tolist(), links.log_odds.double().tolist())
    }
    whole = []
    for path in as_paths(len(stretches), links.source.numpy(), links.target.numpy()):
        if used is not None and not used[path[0]]:
            continue
        parts = [stretches[f] for f in path]
        joints = [about[f] for f in path[:-1]] + [None]
        whole.append(
            _Stretch(
                tuple(i for p in parts for i in p.candidate),
                tuple(r for p in parts for r in p.is_reversed),
                tuple(m for p, j in zip(parts, joints) for m in (*p.missing, *(() if j is None else j[:1]))),
                tuple(o for p, j in zip(parts, joints) for o in (*p.log_odds, *(() if j is None else j[1:]))),
            )
        )
    return whole


def _placed(hands: Hands, stretch: _Stretch) -> Trace:
    """The stretch with the residues that are missing in it."""
    own = hands.take(torch.tensor(stretch.candidate), torch.tensor(stretch.is_reversed))
    candidate, is_reversed, place, odds = [stretch.candidate[0]], [stretch.is_reversed[0]], [own.alpha_angstrom[:1]], []
    for i, (missing, log_odds) in enumerate(zip(stretch.missing, stretch.log_odds)):
        before, after = own.take(torch.tensor([i])), own.take(torch.tensor([i + 1]))
        candidate += [-1] * missing + [stretch.candidate[i + 1]]
        is_reversed += [False] * missing + [stretch.is_reversed[i + 1]]
        place += [bridged(before, after, missing)[0], after.alpha_angstrom]
        odds += [log_odds] * (missing + 1)
    links = torch.tensor(odds, dtype=torch.float64)
    return Trace(torch.tensor(candidate), torch.tensor(is_reversed), torch.cat(place), links, hands.polymer)
