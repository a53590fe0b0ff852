"""The most probable set of paths through candidates: a mixed-integer programme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

MOST_ROUNDS = 20
TIME_LIMIT_S = 15.0
GAP = 1e-3
"""Of the best sum of scores, that is not looked for further."""


Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limit:
    """Of these nodes, less the number of these links, no more may be used.

    Two close candidates: one of them, or both if they are linked. All nodes and links of a kind: that many paths.
    """

    nodes: Sequence[int]
    links: Sequence[int] = ()
    most: int = 1


def best_paths(
    node_score: Floats,
    source: Integers,
    target: Integers,
    link_score: Floats,
    limits: list[Limit] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Nodes and links of the paths with the highest sum of scores; no path is a ring.

    Parameters
    ----------
    node_score
        (node,) what a node adds where it is used.
    source, target, link_score
        (link,) directed links and what each adds.
    limits
        What more is forbidden.

    Returns
    -------
    (node,) and (link,) masks.

    Raises
    ------
    TimeoutError
        Where no solution is found in time.
    """
    n, m = len(node_score), len(source)
    if n == 0:
        return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
    nodes, links = np.arange(n), np.arange(m)
    uses = csr_array((np.ones(n), (nodes, m + nodes)), (n, m + n))
    rows = [
        csr_array((np.ones(m), (source, links)), (n, m + n)) - uses,
        csr_array((np.ones(m), (target, links)), (n, m + n)) - uses,
    ]
    most = [np.zeros(2 * n)]
    if limits:
        row = [r for r, limit in enumerate(limits) for _ in (*limit.nodes, *limit.links)]
        columns = [c for limit in limits for c in (*(m + b for b in limit.nodes), *limit.links)]
        values = [v for limit in limits for v in (*([1.0] * len(limit.nodes)), *([-1.0] * len(limit.links)))]
        rows.append(csr_array((values, (row, columns)), (len(limits), m + n)))
        most.append(np.array([float(limit.most) for limit in limits]))
    for _ in range(MOST_ROUNDS):
        result = milp(
            -np.concatenate([link_score, node_score]),
            integrality=np.ones(m + n),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(vstack(rows).tocsr(), ub=np.concatenate(most)),
            options={"mip_rel_gap": GAP, "time_limit": TIME_LIMIT_S},
        )
        if result.x is None:
            raise TimeoutError(
                f"{n} candidates with {m} links: no set of paths found in {TIME_LIMIT_S:g} s ({result.message})"
            )
        chosen = result.x[:m] > 0.5
        rings = _rings(source[chosen], target[chosen], np.flatnonzero(chosen))
        if not rings:
            return result.x[m:] > 0.5, chosen
        for ring in rings:
            rows.append(csr_array((np.ones(len(ring)), (np.zeros(len(ring), dtype=int), ring)), (1, m + n)))
            most.append(np.array([len(ring) - 1.0]))
    for ring in rings:  # rounds are used up: open what is left where it is weakest
        chosen[min(ring, key=lambda e: link_score[e])] = False
    return result.x[m:] > 0.5, chosen


def _rings(source: Integers, target: Integers, index: Integers) -> list[list[int]]:
    """Links of each closed path; every node has one successor at most."""
    following = {int(s): (int(t), int(e)) for s, t, e in zip(source, target, index)}
    rings, seen = [], set()
    for start in following:
        walk: list[int] = []
        node = start
        while node in following and node not in seen:
            seen.add(node)
            node, link = following[node]
            walk.append(link)
        if walk and node == start:
            rings.append(walk)
    return rings


def as_paths(n: int, source: Integers, target: Integers) -> list[list[int]]:
    """Nodes of each path in order, those that nothing is linked to as paths of one."""
    following = dict(zip(source.tolist(), target.tolist()))
    starts = sorted(set(range(n)) - set(target.tolist()))
    paths = []
    for start in starts:
        path = [start]
        while path[-1] in following:
            path.append(following[path[-1]])
        paths.append(path)
    return paths
