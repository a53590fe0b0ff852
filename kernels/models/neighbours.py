"""Which points lie near which: pairs within a distance, found by cells."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def pairs_within(first: Tensor, second: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of a point of ``first`` and one of ``second`` that are less than ``radius`` apart.

    Space is cut into cubes of that size, so that only the 27 cubes around a point are searched.

    Parameters
    ----------
    first, second
        (n, 3) and (m, 3) finite positions, in the unit of ``radius``.

    Returns
    -------
    (pair,) int64 indices into ``first``, rising; into ``second``; and the distances. A set paired with itself holds
    every point with itself, and every pair twice.
    """
    empty = torch.zeros(0, dtype=torch.int64, device=first.device)
    if len(first) == 0 or len(second) == 0:
        return empty, empty, first.new_zeros(0)
    corner = torch.minimum(first.amin(0), second.amin(0)) - radius
    cell_1, cell_2 = ((points - corner).div(radius).floor().long() for points in (first, second))
    extent = torch.maximum(cell_1.amax(0), cell_2.amax(0)) + 2
    stride = torch.stack([extent[1] * extent[2], extent[2], torch.ones_like(extent[0])])
    key_2, order = (cell_2 * stride).sum(-1).sort()
    key_1 = (cell_1 * stride).sum(-1)
    found_1, found_2 = [], []
    rows = torch.arange(len(first), device=first.device)
    for z, y in itertools.product((-1, 0, 1), repeat=2):  # the three cells along x follow each other in the keys
        key = key_1 + z * stride[0] + y * stride[1]
        start, end = torch.searchsorted(key_2, key - 1), torch.searchsorted(key_2, key + 1, right=True)
        count = end - start
        found_1.append(rows.repeat_interleave(count))
        within = torch.arange(len(found_1[-1]), device=first.device) - (count.cumsum(0) - count).repeat_interleave(
            count
        )
        found_2.append(order[start.repeat_interleave(count) + within])
    i, j = torch.cat(found_1), torch.cat(found_2)
    distance = (first[i] - second[j]).norm(dim=-1)
    kept = distance < radius
    i, j, distance = i[kept], j[kept], distance[kept]
    rising = i.argsort(stable=True)
    return i[rising], j[rising], distance[rising]


def nearest_first(i: Tensor, j: Tensor, distance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Pairs of `pairs_within` as a table of each point's partners, the nearest first.

    Returns
    -------
    (n, most) int64 partners, -1 where a point has fewer; and their distances, infinite there.
    """
    by_distance = distance.argsort()
    order = by_distance[i[by_distance].argsort(stable=True)]
    i, j, distance = i[order], j[order], distance[order]
    count = torch.bincount(i, minlength=n)
    most = int(count.max()) if len(i) else 0
    column = torch.arange(len(i), device=i.device) - (count.cumsum(0) - count)[i]
    partners = torch.full((n, most), -1, dtype=torch.int64, device=i.device)
    lengths = distance.new_full((n, most), torch.inf)
    partners[i, column], lengths[i, column] = j, distance
    return partners, lengths


def gathered(surer: Tensor, other: Tensor, n: int) -> Tensor:
    """(n,) leader of each of n things that stand in the order of how sure they are; a leader leads itself.

    Parameters
    ----------
    surer, other
        (pair,) what is so near to each other that only the surer one may lead, which comes first.
    """
    group = torch.full((n,), -1, dtype=torch.int64, device=surer.device)
    is_open = torch.ones(n, dtype=torch.bool, device=surer.device)
    while is_open.any():
        # who has no open vote before it within reach leads; all leaders of a round are further apart than the radius
        blocked = torch.zeros_like(is_open)
        active = is_open[surer] & is_open[other]
        blocked[other[active]] = True
        leads = is_open & ~blocked
        group[leads] = torch.nonzero(leads).squeeze(1)
        follows = leads[surer] & is_open[other]
        group[other[follows]] = surer[follows]
        is_open &= ~leads
        is_open[other[follows]] = False
    return group


def pieces(i: Tensor, j: Tensor, n: int) -> Tensor:
    """(n,) the lowest of all things that each of n things is connected with, itself included.

    Parameters
    ----------
    i, j
        (pair,) things that touch; one order of a pair is enough.

    Source
    ------
    Zhang, Azad & Hu, SIAM PP 2020: each tree of the forest is hung onto the lowest one that it touches, then flattened.
    """
    parent = torch.arange(n, device=i.device)
    if not len(i):
        return parent
    while True:
        low = torch.minimum(parent[i], parent[j])
        found = parent.clone()
        for end in (parent[i], parent[j], i, j):
            found.scatter_reduce_(0, end, low, "amin")
        found = found[found]
        if torch.equal(found, parent):
            return parent
        parent = found
