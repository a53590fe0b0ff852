"""The part of a symmetric map that has to be looked at, and residues found there as one compact set of their mates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels import fourier
from kernels.maps.cutting import cut_around
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.detections import ProteinDetections
from kernels.models.mates import Mates
from kernels.models.neighbours import gathered, pairs_within

_COARSE_ANGSTROM = 8.0
_LEAST_SHARE = 0.1
"""Of the highest density at 8 Å: below it there is no protein."""
_STEP_ANGSTROM = 3.0
_N_ANCHORS = 40
_N_COMPARED = 20_000
_RIM_ANGSTROM = 4.0
"""Beyond the borders of a unit, so that a residue on them is found whole."""
_MARGIN_ANGSTROM = 10.0
"""Of density around the part that is cut out: what a network sees of its surroundings."""
_MERGED_ANGSTROM = 1.9
_ON_AXIS_ANGSTROM = 2.8
"""Nearer to its own mate than any two residues."""


@dataclass(frozen=True, eq=False)
class UnitOfMap:
    """What of a map is enough, since its mates make up the rest: all that is nearer to one anchor than to its mates."""

    mates: Mates
    grid: DensityGrid
    """Cut out of the map around it."""
    anchor_angstrom: Tensor
    """(3,)"""
    occupied: DensityGrid
    """Whether there is any protein, 0 or 1, on a coarse grid of the whole map."""

    def holds(self, places_angstrom: Tensor) -> Tensor:
        """(...) whether places (..., 3) belong to the unit, or lie no more than a residue beyond its borders."""
        places = places_angstrom.cpu().double()
        return _is_nearest(self.mates, self.anchor_angstrom, places) & (self.occupied.values_at(places) > 0.01)


def unit_of_map(grid: DensityGrid, mates: Mates) -> UnitOfMap:
    """The asymmetric unit that fits into the smallest box.

    Raises
    ------
    ValueError
        Where the map holds nothing.
    """
    occupied = _occupied(grid)
    places = occupied.to_angstrom(torch.nonzero(occupied.voxels > 0))
    if not len(places):
        raise ValueError("the map holds no density that stands out; look whether it is the right file")
    chosen = torch.linspace(0, len(places) - 1, min(_N_ANCHORS, len(places))).round().long()
    best: tuple[float, Tensor, Tensor] | None = None
    for anchor in places[chosen]:
        inside = places[_is_nearest(mates, anchor, places)]
        volume = float((inside.amax(0) - inside.amin(0) + 2 * _MARGIN_ANGSTROM).prod())
        if best is None or volume < best[0]:
            best = volume, anchor, inside
    assert best is not None
    return UnitOfMap(mates, cut_around(grid, best[2], _MARGIN_ANGSTROM), best[1], occupied)


def _occupied(grid: DensityGrid) -> DensityGrid:
    smooth = fourier.low_passed(grid.voxels.float(), grid.voxel_size_angstrom, _COARSE_ANGSTROM)
    step = max(1, round(_STEP_ANGSTROM / grid.voxel_size_angstrom))
    # the highest of each block, so that what is thinner than a step is not passed over
    high = torch.nn.functional.max_pool3d(smooth[None], step, ceil_mode=True)[0]
    middle = grid.origin_angstrom + (step - 1) / 2 * grid.voxel_size_angstrom
    return DensityGrid((high > _LEAST_SHARE * high.max()).float(), step * grid.voxel_size_angstrom, middle)


def _is_nearest(mates: Mates, anchor: Tensor, places: Tensor) -> Tensor:
    """(...) whether no mate of the anchor is nearer to places (..., 3) than itself, by more than a rim."""
    others = mates.of(anchor)[1:]
    towards = normalize(others - anchor, dim=-1)
    behind = torch.einsum("oj,...oj->...o", towards, places[..., None, :] - (anchor + others) / 2)
    return (behind < _RIM_ANGSTROM).all(-1)


def one_of_each(detections: ProteinDetections, mates: Mates) -> ProteinDetections:
    """Residues of which none is a mate of another; what was told of several mates is averaged."""
    own_mates = mates.of(detections.alpha_angstrom)
    on_axis = (own_mates[1:] - detections.alpha_angstrom).norm(dim=-1).amin(0) < _ON_AXIS_ANGSTROM
    detections = detections.take(~on_axis)
    n, place = len(detections), detections.alpha_angstrom.double()
    first, second, _ = pairs_within(place, mates.of(place).reshape(-1, 3), _MERGED_ANGSTROM)
    operation, second = second // max(n, 1), second % max(n, 1)
    is_surer = first < second  # they come in the order of their confidence
    leader = gathered(first[is_surer], second[is_surer], n)
    # which operation takes each to its leader
    takes = torch.zeros(n, dtype=torch.int64)
    is_own = first == leader[second]
    takes[second[is_own]] = operation[is_own]
    takes[leader == torch.arange(n)] = 0
    there = moved(detections, mates, takes)
    leaders, number = torch.unique(leader, return_inverse=True)
    weight = there.confidence.double()
    total = torch.zeros(len(leaders), dtype=torch.float64).index_add_(0, number, weight)

    def mean(values: Tensor) -> Tensor:
        weighted = values.double() * weight.reshape(-1, *[1] * (values.ndim - 1))
        summed = torch.zeros(len(leaders), *values.shape[1:], dtype=torch.float64).index_add_(0, number, weighted)
        return (summed / total.reshape(-1, *[1] * (values.ndim - 1))).float()

    return ProteinDetections(
        mean(there.alpha_angstrom),
        there.confidence[leaders],
        mean(there.backbone_offset_angstrom),
        mean(there.next_offset_angstrom),
        mean(there.previous_offset_angstrom),
        mean(there.amino_acid.clamp(min=1e-6).log()).softmax(-1),
        mean(there.secondary_structure),
    )


def everywhere(
    detections: ProteinDetections, mates: Mates, places_angstrom: Tensor, reach_angstrom: float
) -> ProteinDetections:
    """All copies of residues that lie within reach of some places (n, 3), the surest first."""
    n = len(detections)
    operation = torch.arange(len(mates)).repeat_interleave(n)
    copies = moved(detections.take(torch.arange(n).repeat(len(mates))), mates, operation)
    _, near, _ = pairs_within(places_angstrom.double(), copies.alpha_angstrom.double(), reach_angstrom)
    near = near.unique()
    return copies.take(near[copies.confidence[near].argsort(descending=True, stable=True)])


def moved(detections: ProteinDetections, mates: Mates, operation: Tensor) -> ProteinDetections:
    """Each residue where an operation (n,) of its own takes it."""
    return ProteinDetections(
        mates.moved(operation, detections.alpha_angstrom).float(),
        detections.confidence,
        mates.turned(operation, detections.backbone_offset_angstrom).float(),
        mates.turned(operation, detections.next_offset_angstrom).float(),
        mates.turned(operation, detections.previous_offset_angstrom).float(),
        detections.amino_acid,
        detections.secondary_structure,
    )


def symmetry_correlations(grid: DensityGrid, mates: Mates) -> Tensor:
    """(operation,) correlation of the map with itself turned, where it holds something; NaN out of its box."""
    occupied = _occupied(grid)
    places = occupied.to_angstrom(torch.nonzero(occupied.voxels > 0))
    places = places[:: max(1, len(places) // _N_COMPARED)]
    coefficients = spline_coefficients(grid.voxels.float())
    last = torch.tensor(grid.voxels.shape) - 1
    own = sampled(coefficients, grid.to_voxels(places)).double()
    found = []
    for copy in mates.of(places):
        index = grid.to_voxels(copy)
        inside = ((index >= 0) & (index <= last)).all(-1)
        turned = sampled(coefficients, index[inside]).double()
        found.append(torch.corrcoef(torch.stack([own[inside], turned]))[0, 1])
    return torch.stack(found)
