"""Residues of a symmetric map as one compact set: of each the mate that stands where its chain goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from torch import Tensor

from kernels.models.asymmetric_unit import moved
from kernels.models.atomic_model import AtomicModel
from kernels.models.detections import ProteinDetections
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within
from kernels.models.tracing import Density, Hands, link_noise, links_between

_SHARE_OF_GAP = (0.8, 0.07, 0.03, 0.01)
"""Prior shares of residues whose next one that was found lies one, two, three or four further on."""
_NEIGHBOUR_ANGSTROM = 15.0
_SAME_PLACE_ANGSTROM = 2.8
_STRANGER = -30.0
"""Log-odds of a tie that nothing but its shortness speaks for: below those of all links."""


@dataclass(frozen=True)
class Ties:
    """What may stand beside what."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    operation: NDArray[np.int64]
    """That takes the second to where it stands beside the first."""
    weight: NDArray[np.float64]
    """Any; of two ties the higher one is kept."""


def compact(detections: ProteinDetections, mates: Mates, density_at: Density | None = None) -> ProteinDetections:
    """Each residue moved to where it stands beside what it is most probably linked to.

    The likeliest links make a tree, along which every residue follows the one before it; pieces that no link holds
    together follow their nearest neighbours.

    Parameters
    ----------
    detections
        Of which none is a mate of another.
    density_at
        Density of the map at positions.
    """
    n = len(detections)
    if n < 2 or len(mates) == 1:
        return detections
    hands = Hands.of(detections)
    noise = link_noise(hands, detections.confidence, density_at)
    everywhere = _hands_of_mates(detections, mates)
    links = links_between(hands, everywhere, noise, _SHARE_OF_GAP, noise.crowd_per_angstrom3, density_at)
    place = hands.alpha_angstrom.double()
    first, second, apart = pairs_within(place, mates.of(place).reshape(-1, 3), _NEIGHBOUR_ANGSTROM)
    before, row = torch.cat([links.source, first]).numpy(), torch.cat([links.target, second]).numpy()
    weight = torch.cat([links.log_odds.double().clamp(min=_STRANGER), _STRANGER - apart])
    ties = Ties(before, row % n, row // n, weight.numpy())
    return moved(detections, mates, operations_along(ties, n, mates))


def _hands_of_mates(detections: ProteinDetections, mates: Mates) -> Hands:
    n = len(detections)
    operation = torch.arange(len(mates)).repeat_interleave(n)
    return Hands.of(moved(detections.take(torch.arange(n).repeat(len(mates))), mates, operation))


def operations_along(ties: Ties, n: int, mates: Mates) -> Tensor:
    """(n,) int64 operation that takes each of n things to its place beside those that it is tied to most firmly.

    Of what hangs together, the first stays where it is.
    """
    ties = _firmest(ties, mates)
    cost = 1.0 + ties.weight.max(initial=0.0) - ties.weight
    tree = minimum_spanning_tree(csr_array((cost, (ties.first, ties.second)), shape=(n, n)))
    step = dict(zip(zip(ties.first.tolist(), ties.second.tolist()), ties.operation.tolist()))
    inverse, product = mates.inverse.tolist(), mates.product.tolist()
    found = [0] * n
    _, piece = connected_components(tree, directed=False)
    for root in np.unique(piece, return_index=True)[1].tolist():
        order, parents = breadth_first_order(tree, root, directed=False)
        for i in order[1:].tolist():
            parent = int(parents[i])
            taken = step[parent, i] if parent < i else inverse[step[i, parent]]
            found[i] = product[found[parent]][taken]
    return torch.tensor(found)


def _firmest(ties: Ties, mates: Mates) -> Ties:
    """One tie of each pair, the first before the second; none of a thing with its own mates."""
    is_turned = ties.first > ties.second
    operation = np.where(is_turned, mates.inverse.numpy()[ties.operation], ties.operation)
    first, second = np.minimum(ties.first, ties.second), np.maximum(ties.first, ties.second)
    order = np.lexsort((-ties.weight, second, first))
    order = order[first[order] != second[order]]
    is_best = np.ones(len(order), dtype=bool)
    is_best[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
    kept = order[is_best]
    return Ties(first[kept], second[kept], operation[kept], ties.weight[kept])


def is_apart_from_mates(model: AtomicModel, mates: Mates) -> Tensor:
    """(residue,) whether no copy of a chain that stands before it in the model has a residue in the same place.

    Residues that were put into a gap may lie where a mate of another trace lies; the first chains are the surest.
    """
    place = model.positions("CA")[:, 0]
    names = list(dict.fromkeys(r.chain for r in model.residues))
    chain = torch.tensor([names.index(r.chain) for r in model.residues], dtype=torch.int64)
    first, second, _ = pairs_within(place, mates.of(place)[1:].reshape(-1, 3), _SAME_PLACE_ANGSTROM)
    second = second % max(len(place), 1)
    is_apart = torch.ones(len(place), dtype=torch.bool)
    is_apart[first[chain[second] < chain[first]]] = False
    return is_apart
