"""Which hits of its parts make up one copy of a structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.docking.hits import Hit
from tasks.docking.targets import Link, Target

_MOVED_COSTS = 0.02
"""Correlation that a part has to gain for leaving its place in the whole."""
_STRETCH_COSTS = 0.002
"""The same for each Å by which a link between parts differs from what the structure has."""
_MOST = 200
MOST_OVERLAP = 0.12
"""Share of the residues of a body that may stand where another one's do: chains that touch, placed 2 Å off."""


@dataclass(frozen=True, eq=False)
class PlacedCopy:
    """A copy of a target: the hits that place it, by their numbers."""

    hits: tuple[int, ...]
    score: float
    """Residues times correlation times probability, less what it costs to move parts."""


def possible_copies(target: Target, hits: Sequence[Hit], overlap: Tensor, least_confidence: float) -> list[PlacedCopy]:
    """Every copy that is worth a look, the best first.

    Parameters
    ----------
    overlap
        (hit, hit) of `kernels.models.placement_overlap.overlaps`.
    """
    sizes = [len(target.rows(part)) for part in range(target.n_parts)]
    usable = [i for i, hit in enumerate(hits) if hit.probability >= least_confidence and overlap[i, i] <= MOST_OVERLAP]
    found = [PlacedCopy((i,), _explained(hits[i], sizes)) for i in usable if hits[i].part is None]
    links = list(target.links())
    partial: list[tuple[dict[int, int], float]] = [({}, 0.0)]
    for part in range(target.n_parts if target.n_parts > 1 else 0):
        own = [i for i in usable if hits[i].part == part]
        longer = []
        for state, score in partial:
            fits = [i for i in own if _is_free(i, state, overlap) and _reaches(i, state, hits, links)]
            gains = [
                sizes[part] * (hits[i].correlation - _MOVED_COSTS - _stretch(i, state, hits, links))
                * hits[i].probability
                for i in fits
            ]  # fmt: skip
            longer += [({**state, part: i}, score + gain) for i, gain in zip(fits, gains)]
            if not fits or not state:
                longer.append((state, score))
        partial = sorted(longer, key=lambda one: -one[1])[:_MOST]
    found += [PlacedCopy(tuple(state.values()), score) for state, score in partial if state]
    return sorted(found, key=lambda one: -one.score)[:_MOST]


def _explained(hit: Hit, sizes: Sequence[int]) -> float:
    """Of a whole, part by part, so that it compares with parts that stand alone."""
    each = hit.part_correlations if len(hit.part_correlations) == len(sizes) else (hit.correlation,) * len(sizes)
    return hit.probability * sum(n * c for n, c in zip(sizes, each))


def _is_free(number: int, state: dict[int, int], overlap: Tensor) -> bool:
    return all(float(overlap[number, other]) <= MOST_OVERLAP for other in state.values())


def _across(number: int, state: dict[int, int], hits: Sequence[Hit], links: Sequence[Link]) -> list[tuple[Link, float]]:
    """Links between a hit and those of other parts, and how long they are."""
    part = hits[number].part
    found = []
    for link in links:
        for own, own_row, other, other_row in (
            (link.first_part, link.first, link.second_part, link.second),
            (link.second_part, link.second, link.first_part, link.first),
        ):
            if own == part and other in state:
                apart = hits[number].places[own_row] - hits[state[other]].places[other_row]
                found.append((link, float(apart.norm())))
    return found


def _reaches(number: int, state: dict[int, int], hits: Sequence[Hit], links: Sequence[Link]) -> bool:
    return all(length <= link.longest_angstrom for link, length in _across(number, state, hits, links))


def _stretch(number: int, state: dict[int, int], hits: Sequence[Hit], links: Sequence[Link]) -> float:
    """What the links to other parts cost."""
    return _STRETCH_COSTS * sum(
        abs(length - link.usual_angstrom) for link, length in _across(number, state, hits, links)
    )


def conflicts(copies: Sequence[PlacedCopy], overlap: Tensor) -> Tensor:
    """(copy, copy) whether two of them cannot both be there."""
    n_hits = len(overlap)
    member = torch.zeros(len(copies), n_hits, dtype=torch.float64)
    for row, copy in enumerate(copies):
        member[row, list(copy.hits)] = 1
    clash = ((overlap > MOST_OVERLAP) | torch.eye(n_hits, dtype=torch.bool)).double()
    return (member @ clash @ member.T) > 0
