"""Parts of a molecule that its map shows less well than the rest, each with a mask for a local refinement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.map_fit import nearer_share, soft_mask_around
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within, pieces
from kernels.models.residue_places import representatives
from kernels.models.residue_ranges import residue_ranges
from tasks.verdict.unbuilt import UnbuiltDensity

_WORSE, _WORSE_ANGSTROM = 1.2, 0.4
"""Than the median of the model: both, for a residue to belong to a weak part."""
_TOUCHING_ANGSTROM = 10.0
_FEWEST = 40
"""Residues: smaller parts do not align by themselves."""
_LARGEST_SHARE = 0.7
_LEAST_BUILT = 0.2
"""Of a part: what holds less of the model may be no protein, as a micelle."""


@dataclass(frozen=True, eq=False)
class FoundPart:
    """Residues, and the soft mask around them."""

    is_part: Tensor
    """(residue,)"""
    ranges: tuple[str, ...]
    """See `residue_ranges`."""
    resolution_angstrom: float
    rest_angstrom: float
    mask: Tensor
    """(z, y, x) float32, 0 to 1: what is nearer to the part than to what is resolved as the most is, and to copies."""
    is_around: Tensor
    """(residue,) of the part, or touching it: it fades into what is well resolved."""
    n_unbuilt: int = 0
    """Residues that its density has room for, beside those that were built."""


def weak_parts(
    model: AtomicModel,
    local_resolution_angstrom: Tensor,
    grid: DensityGrid,
    mates: Mates,
    unbuilt: UnbuiltDensity | None = None,
) -> list[FoundPart]:
    """The largest first; none where the resolution is the same everywhere.

    Parameters
    ----------
    local_resolution_angstrom
        (residue,)
    unbuilt
        Density without a model, which is of a part as residues are: of what is badly seen, little is built.
    """
    place = representatives(model)
    known = local_resolution_angstrom.isfinite() & place.isfinite().all(-1)
    if not bool(known.any()):
        return []
    usual = float(local_resolution_angstrom[known].median())
    n, weight = model.n_residues, torch.ones(model.n_residues)
    if unbuilt is not None:
        place = torch.cat([place, unbuilt.places_angstrom])
        local_resolution_angstrom = torch.cat([local_resolution_angstrom, unbuilt.local_resolution_angstrom])
        weight = torch.cat([weight, torch.full((len(unbuilt.places_angstrom),), unbuilt.residues_a_place)])
        known = torch.cat([known, unbuilt.local_resolution_angstrom > 0])
    is_weak = known & (local_resolution_angstrom > max(_WORSE * usual, usual + _WORSE_ANGSTROM))
    part = _groups(place, is_weak)
    rigid = model.take_residues((known & ~is_weak)[:n])
    rest = torch.cat([rigid.coordinates_angstrom, mates.of(model.coordinates_angstrom)[1:].flatten(0, 1)])
    rows = torch.nonzero(known[:n]).squeeze(1)
    found = []
    for number in torch.unique(part[is_weak]).tolist():
        own = part == number
        n_own, n_built = float(weight[own].sum()), int(own[:n].sum())
        if n_own < _FEWEST or n_own >= _LARGEST_SHARE * float(weight.sum()) or n_built < _LEAST_BUILT * n_own:
            continue
        places = torch.cat([model.take_residues(own[:n]).coordinates_angstrom, place[n:][own[n:]]])
        mask = (soft_mask_around(grid, places) * nearer_share(grid, places, rest)).float()
        ranges = residue_ranges(model, rows, own[:n][rows])
        resolution = float(local_resolution_angstrom[own].median())
        near = _near(place[:n], place[own])
        found.append(FoundPart(own[:n], ranges, resolution, usual, mask, near, round(n_own) - n_built))
    return sorted(found, key=lambda p: -int(p.is_part.sum()) - p.n_unbuilt)


def _near(place: Tensor, part: Tensor) -> Tensor:
    """(residue,) whether its place touches those of a part."""
    rows = torch.nonzero(place.isfinite().all(-1)).squeeze(1)
    found = torch.zeros(len(place), dtype=torch.bool)
    found[rows[pairs_within(place[rows], part, _TOUCHING_ANGSTROM)[0]]] = True
    return found


def _groups(place: Tensor, chosen: Tensor) -> Tensor:
    """(residue,) number of the group of those that are chosen, which touch each other; -1 for all others."""
    rows = torch.nonzero(chosen).squeeze(1)
    i, j, _ = pairs_within(place[rows], place[rows], _TOUCHING_ANGSTROM)
    part = torch.full((len(chosen),), -1)
    part[rows] = pieces(i, j, len(rows))
    return part
