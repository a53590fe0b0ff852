"""Cα of a stretch of chain traced anew through the density between its two ends, which stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.neighbours import nearest_first, pairs_within
from kernels.models.polymers import PROTEIN
from kernels.models.tracing import Density

_SHORTEST_OVER_ONE, _, _, _LONGEST_OVER_ONE = PROTEIN.over_one_angstrom
_SPACING_ANGSTROM = 1.0
_REACH_ANGSTROM = 6.0
"""How far from where a stretch stands now its Cα atoms are looked for."""
_CLEAR_ANGSTROM = 2.6
"""Between a Cα and atoms of other residues."""
_STEP_TOLERANCE_ANGSTROM = 0.45
_LEAST_DENSITY = 0.25
_MOST_PLACES = 1200
_MOST_STEPS = 64
"""From one place."""
_BETWEEN_WEIGHT = 1.0
"""Of the density along a step beside that at the Cα."""
_CANDIDATE_REACH_ANGSTROM, _CANDIDATE_WEIGHT = 1.6, 1.0


@dataclass(frozen=True, eq=False)
class Ends:
    """What a stretch hangs on; positions in Å, (z, y, x)."""

    before: Tensor
    """(2, 3) Cα of the two residues before it."""
    after: Tensor
    """(2, 3) Cα of the two residues after it."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Where a Cα may stand, as a network sees it."""

    alpha_angstrom: Tensor
    """(n, 3)"""
    confidence: Tensor
    """(n,)"""


def retraced(
    now_angstrom: Tensor, ends: Ends, others_angstrom: Tensor, density: Density, candidates: Candidates | None = None
) -> Tensor | None:
    """(residue, 3) Cα of the path between the ends that has the most density, steps and bends as chains have them.

    The path is the best of all over a lattice (dynamic programming over steps), so that it needs not be near the
    present one; it is as good as the lattice is fine, and wants refinement.

    Parameters
    ----------
    now_angstrom
        (residue, 3) Cα as they stand, with so many residues as there have to be.
    others_angstrom
        (atom, 3) atoms that are in the way.
    density
        1 is a strong place; best blurred somewhat.

    Returns
    -------
    None where no path of this many steps leads from end to end.
    """
    n = len(now_angstrom)
    place = _places(now_angstrom, others_angstrom, density, candidates)
    if n < 2 or len(place) < n:
        return None
    worth = density(place).double().clamp(max=1.5) + _seen(place, candidates)
    i, j, distance = pairs_within(place, place, PROTEIN.step_angstrom + _STEP_TOLERANCE_ANGSTROM)
    kept = (distance - PROTEIN.step_angstrom).abs() < _STEP_TOLERANCE_ANGSTROM
    i, j, distance = i[kept], j[kept], distance[kept]
    if not len(i):
        return None
    between = torch.stack([torch.lerp(place[i], place[j], share) for share in (0.33, 0.67)], 1)
    gain = _BETWEEN_WEIGHT * density(between).double().clamp(max=1.5).mean(1)
    steps, _ = nearest_first(i, j, -gain, len(place))  # the best steps first
    steps = steps[:, :_MOST_STEPS]
    table = torch.full((len(place), len(place)), -torch.inf, dtype=torch.float64)
    table[i, j] = gain
    return _best_path(place, worth, steps, table, ends, n)


def _places(now: Tensor, others: Tensor, density: Density, candidates: Candidates | None) -> Tensor:
    low, high = now.amin(0) - _REACH_ANGSTROM, now.amax(0) + _REACH_ANGSTROM
    axes = [torch.arange(float(a), float(b), _SPACING_ANGSTROM, dtype=torch.float64) for a, b in zip(low, high)]
    place = torch.cartesian_prod(*axes)
    if candidates is not None:
        place = torch.cat([candidates.alpha_angstrom.to(place), place])
    near = torch.unique(pairs_within(place, now, _REACH_ANGSTROM)[0])
    place = place[near]
    place = place[density(place) > _LEAST_DENSITY]
    clear = torch.ones(len(place), dtype=torch.bool)
    clear[pairs_within(place, others, _CLEAR_ANGSTROM)[0]] = False
    place = place[clear]
    if len(place) > _MOST_PLACES:
        worth = density(place) + _seen(place, candidates)
        place = place[worth.topk(_MOST_PLACES).indices]
    return place


def _seen(place: Tensor, candidates: Candidates | None) -> Tensor:
    """(place,) what candidates nearby speak for a Cα there."""
    worth = torch.zeros(len(place), dtype=torch.float64)
    if candidates is None or not len(candidates.confidence):
        return worth
    i, j, distance = pairs_within(place, candidates.alpha_angstrom.to(place), _CANDIDATE_REACH_ANGSTROM)
    spoken = candidates.confidence[j].double() * (1 - (distance / _CANDIDATE_REACH_ANGSTROM).square())
    return worth.scatter_reduce(0, i, _CANDIDATE_WEIGHT * spoken, "amax")


def _best_path(place: Tensor, worth: Tensor, steps: Tensor, gain: Tensor, ends: Ends, n: int) -> Tensor | None:
    """Viterbi over steps (place, way): the bend between two steps is told by the places at their far ends."""
    never = torch.tensor(-torch.inf, dtype=torch.float64)
    there = steps >= 0
    to = steps.clamp(min=0)
    far = torch.cdist(place, place)
    fits = (far >= _SHORTEST_OVER_ONE) & (far <= _LONGEST_OVER_ONE)
    own = torch.where(there, gain.gather(1, to) + worth[to], never)  # (place, way) of going that way
    is_start = _fits_end(place, ends.before[1], ends.before[0])
    is_last = _fits_end(place, ends.after[0], ends.after[1])
    second = (place - ends.before[1]).norm(dim=-1)
    bends_at_start = (second >= _SHORTEST_OVER_ONE) & (second <= _LONGEST_OVER_ONE)
    best = torch.where(is_start[:, None] & bends_at_start[to], worth[:, None] + own, never)
    back: list[Tensor] = []
    # what comes into a place by each of its ways, seen from the place: ways are symmetric but for the cut at the best
    reverse = torch.full_like(gain, -1, dtype=torch.int64)
    rows = torch.arange(len(place))[:, None].expand_as(to)
    ways = torch.arange(to.shape[1])[None].expand_as(to)
    reverse[rows[there], to[there]] = ways[there]
    into = reverse[to, rows]  # (place, way) index of the way back
    allowed = fits[to[:, :, None], to[:, None, :]] & there[:, :, None] & (into >= 0)[:, :, None]
    for _ in range(n - 2):
        arriving = torch.where(into >= 0, best[to, into.clamp(min=0)], never)  # (place, way it came by)
        options = torch.where(allowed, arriving[:, :, None], never)
        value, chosen = options.max(1)
        back.append(chosen)
        best = value + own
    third = (place - ends.after[0]).norm(dim=-1)
    bends_at_end = (third >= _SHORTEST_OVER_ONE) & (third <= _LONGEST_OVER_ONE)
    ended = torch.where(bends_at_end[:, None] & is_last[to], best, never)
    if not torch.isfinite(ended).any():
        return None
    at, way = divmod(int(ended.argmax()), ended.shape[1])
    path = [int(to[at, way]), at]
    for chosen in reversed(back):
        came_by = int(chosen[at, way])
        previous = int(to[at, came_by])
        way = int(into[at, came_by])
        at = previous
        path.append(at)
    return place[path[::-1]]


def _fits_end(place: Tensor, end: Tensor, beyond: Tensor) -> Tensor:
    """(place,) whether a Cα there can follow the last one that stays, and the one behind that."""
    step = ((place - end).norm(dim=-1) - PROTEIN.step_angstrom).abs() < _STEP_TOLERANCE_ANGSTROM + 0.25
    bend = (place - beyond).norm(dim=-1)
    return step & (bend >= _SHORTEST_OVER_ONE - 0.3) & (bend <= _LONGEST_OVER_ONE + 0.3)
