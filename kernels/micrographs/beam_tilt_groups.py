"""Groups of exposures that were taken with the same beam tilt, told by the shifts of beam or image.

A microscope that takes several exposures around one stage position shifts the beam to each of them and tilts it a
little by that. Shifts to the same place in the template of shots form one group, whose aberrations belong together.
How many places there are is not known; each shift has some jitter, and all places wander while a session lasts. So
places are discovered among exposures that lie close in time, and followed from there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNKNOWN = -1
"""Label of an exposure that belongs to no cluster."""

_MIN_MEMBERS = 5
_MIN_GAP = 2.0
"""The largest seen on one cloud (normal, uniform, drifting) of 10 to 800 exposures is 1.6 in 2880 trials."""
_BODY_SHARE = 0.9
"""Share of a tree's edges that are sure to join neighbours in one cluster; outliers are less than the rest."""
_DISCOVERY_SIZES = (50, 100, 200, 400, 800)
"""Exposures among which places are looked for; the first that shows them counts, since drift blurs the later ones."""
_ENOUGH_FOR_ONE = 800
"""Exposures among which no places were found until all are said to be of one."""
_COVERED_SHARE = 0.85
"""Share of the exposures that the discovered places have to explain."""
_LEAST_TURNS = 0.2
"""Share of exposures that are of another place than the one before them."""
_OWN_GAIN, _COMMON_GAIN, _SPREAD_GAIN = 0.2, 0.5, 0.02
"""How fast a place follows its own exposures, all places one visit to each of them, and the jitter the residuals."""
_RADIUS_IN_JITTERS = 6.0
_RADIUS_IN_SPACINGS = 0.2
"""An exposure is of a place within the larger of the two radii; spacing is the distance to the next place."""
_REPLAYED = 2000
"""Known exposures that are gone through before the first new one, to have places and jitter where they are now."""


def continue_groups(shift: Tensor, number: Tensor, n_used: int = 0) -> Tensor:
    """Group numbers of exposures, where some are known; nobody's number changes.

    Parameters
    ----------
    shift
        (exposure, yx) in any unit, in order of acquisition.
    number
        (exposure,) known numbers, from 1; 0 where there is none yet.
    n_used
        Numbers up to this one are taken; new places get the following ones in order of first appearance.

    Returns
    -------
    (exposure,) numbers; 0 where it cannot be told yet: outliers, places with fewer than 5 exposures, and all of a
    session whose places do not show (before 800 exposures, from which on all are one group).
    """
    if shift.ndim != 2 or shift.shape[1] != 2 or number.shape != shift.shape[:1]:
        raise ValueError(
            f"shifts {tuple(shift.shape)} and numbers {tuple(number.shape)}, expected (exposure, 2) and (exposure,)"
        )
    if not bool(torch.isfinite(shift).all()):
        raise ValueError("a shift is not finite; leave its exposure out")
    points = shift.detach().cpu().numpy().astype(np.float64)
    result = number.detach().cpu().numpy().astype(np.int64).copy()
    new = np.flatnonzero(result == 0)
    if not len(new):
        return number.clone()
    n_used = max(n_used, int(result.max()))
    if result.any():
        start = max(0, int(new[0]) - _REPLAYED)
        places = _Places.of_members(points, result, start)
    else:
        start, label = 0, _discover(points)
        if label is None:
            return number.clone()
        places = _Places()
        for cluster in range(label.max() + 1):
            n_used += 1
            members = np.flatnonzero(label == cluster)
            places.add(n_used, points[members[: 2 * _MIN_MEMBERS]])
            result[members] = n_used
    _follow(points, result, places, start, n_used)
    return torch.from_numpy(result).to(number)


def _discover(points: NDArray) -> NDArray | None:
    """Labels of the first exposures among which places show; None where there are too few exposures."""
    n = len(points)
    if n < 2 * _MIN_MEMBERS:
        return None
    for size in (*(s for s in _DISCOVERY_SIZES if s < n), min(n, _DISCOVERY_SIZES[-1])):
        for still in (points[:size], _without_drift(points[:size])):
            label = shift_clusters(torch.from_numpy(still)).numpy()
            if label.max() > 0 and (label != UNKNOWN).mean() >= _COVERED_SHARE and _is_template(label):
                return label
    return np.zeros(_ENOUGH_FOR_ONE, np.int64) if n >= _ENOUGH_FOR_ONE else None


def _is_template(label: NDArray) -> bool:
    """Whether the places take turns; one place whose shift jumps now and then gives clusters one after the other."""
    known = label[label != UNKNOWN]
    return float((known[1:] != known[:-1]).mean()) >= _LEAST_TURNS


def _without_drift(points: NDArray) -> NDArray:
    """Shifts less a drift at constant speed, told from how nearest neighbours differ by the time between them."""
    time = np.arange(len(points), dtype=np.float64)
    still = points
    for _ in range(6):
        distance = np.hypot(*(still[:, None] - still[None]).transpose(2, 0, 1))
        np.fill_diagonal(distance, np.inf)
        near = np.argpartition(distance, 3, axis=1)[:, :3]
        lag = (time[near] - time[:, None]).reshape(-1, 1)
        way = (still[near] - still[:, None]).reshape(-1, 2)
        is_same = np.hypot(*way.T) <= 2 * np.median(np.hypot(*way.T))
        speed = (lag * way)[is_same].sum(0) / (lag[is_same] ** 2).sum()
        still = still - speed * time[:, None]
    return still


def _follow(points: NDArray, result: NDArray, places: _Places, start: int, n_used: int) -> None:
    """Go through the exposures in order: the places follow them, and what is near none waits to be a place."""
    waiting: list[int] = []
    for i in range(start, len(points)):
        if result[i]:
            places.follow(points[i], int(result[i]))
            continue
        result[i] = places.nearest(points[i])
        if result[i]:
            places.follow(points[i], int(result[i]))
            continue
        waiting = [*waiting[-4 * _DISCOVERY_SIZES[0] :], i]
        if len(waiting) < _MIN_MEMBERS:
            continue
        members = _new_place(points[waiting], places.jitter)
        if members is not None and len(places.numbers) == 1 and _are_in_a_row(np.array(waiting)[members]):
            result[np.array(waiting)[members]] = places.numbers[0]  # the only place there is has jumped
            places.centres = np.median(points[waiting][members], axis=0)[None]
            waiting = [j for j in waiting if not result[j]]
        elif members is not None:
            n_used += 1
            places.add(n_used, points[waiting][members])
            result[np.array(waiting)[members]] = n_used
            waiting = [j for j in waiting if not result[j]]


def _new_place(points: NDArray, jitter: float) -> NDArray | None:
    """Members of the place that the last of the waiting points makes full; its points lie as densely as in others."""
    distance = np.hypot(*(points - points[-1]).T)
    members = np.flatnonzero(distance <= 0.5 * _RADIUS_IN_JITTERS * jitter)
    return members if len(members) >= _MIN_MEMBERS else None


def _are_in_a_row(members: NDArray) -> bool:
    return bool((np.diff(members) == 1).all())


class _Places:
    """Where the places are now, and the jitter about them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.centres = np.zeros((0, 2))
        self.variance = 0.0
        """Of the jitter along one axis."""

    @classmethod
    def of_members(cls, points: NDArray, number: NDArray, at: int) -> _Places:
        """As known exposures show them at one of the exposures; places seen only later from their first exposures."""
        places = cls()
        for value in np.unique(number[number > 0]):
            members = np.flatnonzero(number == value)
            before = members[members < at][-2 * _MIN_MEMBERS :]
            places.add(int(value), points[before if len(before) else members[: 2 * _MIN_MEMBERS]])
        return places

    @property
    def jitter(self) -> float:
        """Standard deviation along one axis; places of equal shifts have a tiny one of their distance."""
        least = 1e-3 * float(self._distances().min()) if len(self.centres) > 1 else 1e-9 * np.abs(self.centres).max()
        return max(float(np.sqrt(self.variance)), least, 1e-12)

    def add(self, number: int, members: NDArray) -> None:
        """A new place from its exposures in order; their steps tell the jitter also while the place drifts."""
        steps = (np.diff(members, axis=0) ** 2).sum(1)
        own = float(np.median(steps)) / (4 * np.log(2)) if len(steps) else self.variance
        n = len(self.numbers)
        self.variance = own if n == 0 else (n * self.variance + own) / (n + 1)
        self.numbers.append(number)
        self.centres = np.concatenate([self.centres, np.median(members, axis=0)[None]])

    def follow(self, point: NDArray, number: int) -> None:
        """Move this place and, by less, all of them towards an exposure of it."""
        k = self.numbers.index(number)
        residual = point - self.centres[k]
        length = float(np.hypot(*residual))
        limit = _RADIUS_IN_JITTERS * self.jitter
        if length > limit:  # an exposure that was numbered before; it may be far off
            residual = residual * (limit / length)
        self.variance += _SPREAD_GAIN * (0.5 * float((residual**2).sum()) - self.variance)
        self.centres += min(0.1, _COMMON_GAIN / len(self.numbers)) * residual
        self.centres[k] += _OWN_GAIN * residual

    def nearest(self, point: NDArray) -> int:
        """Number of the place that a point belongs to, 0 where it is too far from all of them."""
        distance = np.hypot(*(self.centres - point).T)
        k = int(np.argmin(distance))
        spacing = float(self._distances()[k].min()) if len(self.centres) > 1 else 0.0
        radius = max(_RADIUS_IN_JITTERS * self.jitter, _RADIUS_IN_SPACINGS * spacing)
        return self.numbers[k] if distance[k] <= radius else 0

    def _distances(self) -> NDArray:
        """(place, place) distances, infinite to itself."""
        between = np.hypot(*(self.centres[:, None] - self.centres[None]).transpose(2, 0, 1))
        np.fill_diagonal(between, np.inf)
        return np.asarray(between)


def shift_clusters(shift: Tensor, min_members: int = _MIN_MEMBERS, min_gap: float = _MIN_GAP) -> Tensor:
    """Well separated clusters of shifts, whatever their number and shape.

    The shifts are joined by the shortest tree, where the distance of two is at least that of each to its fourth
    neighbour, so that stray shifts build no bridges. Where two parts of at least ``min_members`` meet, the edge between
    them is either of the size of the jitter, or, between clusters, of the size of the template; where these lengths,
    sorted, jump by a factor of ``min_gap``, the tree is cut, and each part is looked at again (shots within a hole,
    holes within a template).

    Parameters
    ----------
    shift
        (exposure, yx) in any unit; up to a few thousand, all pairs of which are looked at.
    min_members
        Smaller clusters are not told from outliers.
    min_gap
        Larger than 1.

    Returns
    -------
    (exposure,) labels from 0 in order of first appearance, `UNKNOWN` for outliers and for clusters that are too small.
    Where nothing is separated, all but outliers are 0.

    Source
    ------
    The distance is the mutual reachability of Campello et al., PAKDD 2013, LNCS 7819:160.
    """
    if shift.ndim != 2 or shift.shape[1] != 2:
        raise ValueError(f"shifts have shape {tuple(shift.shape)}, expected (exposure, 2)")
    n = len(shift)
    labels = np.full(n, UNKNOWN)
    if n >= min_members:
        edges = _shortest_tree(_mutual_reachability(shift.detach().double().cpu(), min_members - 1).numpy())
        found: list[NDArray] = []
        todo = [(np.arange(n), edges)]
        while todo:
            members, inside = todo.pop()
            level, is_gap = _cut_level(inside, members, min_members, min_gap)
            parts = [part for part in _parts(inside, members, level) if len(part[0]) >= min_members]
            if is_gap:
                todo += parts
            else:
                found += [part for part, _ in parts]
        for label, members in enumerate(sorted(found, key=lambda part: int(part.min()))):
            labels[members] = label
    return torch.from_numpy(labels)


def _mutual_reachability(shift: Tensor, k: int) -> Tensor:
    """(exposure, exposure) the larger of their distance and of each one's distance to its k-th neighbour."""
    distance = torch.cdist(shift, shift, compute_mode="donot_use_mm_for_euclid_dist")
    core = distance.kthvalue(min(k + 1, len(shift)), dim=1).values
    return torch.maximum(distance, torch.maximum(core[:, None], core[None, :]))


_Edges = list[tuple[float, int, int]]
"""Length and the two exposures of each edge, from short to long."""


def _shortest_tree(distance: NDArray) -> _Edges:
    """Edges of the minimum spanning tree, by Prim's method."""
    n = len(distance)
    nearest, parent = np.full(n, np.inf), np.zeros(n, np.int64)
    is_left = np.ones(n, dtype=bool)
    edges: _Edges = []
    current = 0
    for _ in range(n - 1):
        is_left[current] = False
        is_shorter = is_left & (distance[current] < nearest)
        nearest[is_shorter] = distance[current][is_shorter]
        parent[is_shorter] = current
        nearest[current] = np.inf
        current = int(np.argmin(nearest))
        edges.append((float(nearest[current]), int(parent[current]), current))
    return sorted(edges)


def _cut_level(edges: _Edges, members: NDArray, min_members: int, min_gap: float) -> tuple[float, bool]:
    """Length above which edges are cut, and whether it separates clusters or only outliers."""
    join, _ = _forest(members)
    small: list[float] = []
    large: list[float] = []
    for length, i, j in edges:
        (large if join(i, j) >= min_members else small).append(length)
    body = small[int(np.ceil(_BODY_SHARE * len(small))) - 1] if small else 0.0
    levels = [body, *(length for length in large if length > body)]
    jumps = [upper / max(lower, 1e-12 * upper) for lower, upper in pairwise(levels)]
    if jumps and max(jumps) >= min_gap:
        i = int(np.argmax(jumps))
        return float(np.sqrt(max(levels[i], 1e-12 * levels[i + 1]) * levels[i + 1])), True
    return min_gap * levels[-1], False


def _parts(edges: _Edges, members: NDArray, level: float) -> list[tuple[NDArray, _Edges]]:
    """The parts that edges up to a length leave together, each with its own edges."""
    join, root_of = _forest(members)
    kept = [edge for edge in edges if edge[0] <= level]
    for _, i, j in kept:
        join(i, j)
    found: dict[int, tuple[list[int], _Edges]] = {}
    for i in members.tolist():
        found.setdefault(root_of(i), ([], []))[0].append(i)
    for edge in kept:
        found[root_of(edge[1])][1].append(edge)
    return [(np.array(part), inside) for part, inside in found.values()]


def _forest(members: NDArray) -> tuple[Callable[[int, int], int], Callable[[int], int]]:
    """Two functions on parts that begin as single members: join two (the size of the smaller), and find a part."""
    root = {i: i for i in members.tolist()}
    size = dict.fromkeys(root, 1)

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    def join(i: int, j: int) -> int:
        i, j = find(i), find(j)
        if size[i] < size[j]:
            i, j = j, i
        root[j] = i
        size[i] += size[j]
        return size[j]

    return join, find
