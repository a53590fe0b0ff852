"""Parts of a molecule that its map shows less well than the rest, each with a mask for a local refinement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.map_fit import soft_mask
from kernels.models.merging import representatives
from kernels.models.neighbours import pairs_within, pieces
from kernels.models.residue_ranges import residue_ranges

_WORSE, _WORSE_ANGSTROM = 1.2, 0.4
"""Than the median of the model: both, for a residue to belong to a weak part."""
_TOUCHING_ANGSTROM = 10.0
_FEWEST = 40
"""Residues: smaller parts do not align by themselves."""
_LARGEST_SHARE = 0.7


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
    """(z, y, x) float32, 0 to 1."""


def weak_parts(model: AtomicModel, local_resolution_angstrom: Tensor, grid: DensityGrid) -> list[FoundPart]:
    """The largest first; none where the resolution is the same everywhere.

    Parameters
    ----------
    local_resolution_angstrom
        (residue,)
    """
    place = representatives(model)
    known = local_resolution_angstrom.isfinite() & place.isfinite().all(-1)
    if not bool(known.any()):
        return []
    usual = float(local_resolution_angstrom[known].median())
    weak = known & (local_resolution_angstrom > max(_WORSE * usual, usual + _WORSE_ANGSTROM))
    part = _groups(place, weak)
    rows = torch.nonzero(known).squeeze(1)
    found = []
    for number in torch.unique(part[weak]).tolist():
        own = part == number
        if int(own.sum()) >= _FEWEST and float(own.double().mean()) < _LARGEST_SHARE:
            mask = soft_mask(grid, model.take_residues(own)).float()
            ranges = residue_ranges(model, rows, own[rows])
            found.append(FoundPart(own, ranges, float(local_resolution_angstrom[own].median()), usual, mask))
    return sorted(found, key=lambda p: -int(p.is_part.sum()))


def _groups(place: Tensor, chosen: Tensor) -> Tensor:
    """(residue,) number of the group of those that are chosen, which touch each other; -1 for all others."""
    rows = torch.nonzero(chosen).squeeze(1)
    i, j, _ = pairs_within(place[rows], place[rows], _TOUCHING_ANGSTROM)
    part = torch.full((len(chosen),), -1)
    part[rows] = pieces(i, j, len(rows))
    return part
