"""Waters and ions among the peaks of unexplained density: what stands around a peak decides what it can be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.blobs import Peaks, blobs
from kernels.models.neighbours import gathered, pairs_within

_POLAR = ("N", "O")
_CARBON_ANGSTROM = 3.0
_POLAR_ANGSTROM = (2.4, 3.4)
"""Lengths of hydrogen bonds; a little slack is in them for errors of the model."""
_REACH_ANGSTROM = 4.0
_CROWD_SHARE = 0.6
_CROWD_STEP = 1.25

COORDINATION = {
    # ion: (distance to oxygen, to nitrogen, to sulfur; least and most neighbours)
    "MG": (2.08, 2.20, 2.60, 4, 6),
    "MN": (2.17, 2.25, 2.55, 4, 6),
    "FE": (2.10, 2.15, 2.30, 4, 6),
    "CO": (2.10, 2.15, 2.30, 4, 6),
    "NI": (2.08, 2.10, 2.25, 4, 6),
    "CU": (2.02, 2.03, 2.20, 3, 6),
    "ZN": (2.05, 2.08, 2.33, 3, 6),
    "CA": (2.39, 2.50, 2.90, 5, 8),
    "NA": (2.41, 2.50, 2.90, 4, 6),
    "K": (2.82, 2.90, 3.20, 5, 8),
    "CL": (3.15, 3.22, 3.60, 2, 6),
}
"""Distances in Å. Source: Harding, Acta Cryst. 2006, D62:678 (table 2 and text); chloride: Carugo, BMC Struct. Biol.
2014, 14:19. The least number is lower than in crystals of small molecules: not all waters are seen."""
_ION_SLACK_ANGSTROM = 0.30
_MOST_DEVIATION_ANGSTROM = 0.20
"""Root mean square over the neighbours."""
_ION_CARBON_ANGSTROM = 2.7


@dataclass(frozen=True)
class WaterCriteria:
    """What a peak must have to be a water."""

    least_sigma: float = 4.5
    least_half_sigma: float = 1.5
    """In each half map, of that half's own noise."""
    least_roundness: float = 0.25
    share: tuple[float, float] = (0.25, 2.0)
    """Of the density of a water with the model's B-factor."""
    most_crowd: float = 4.0
    """Volume at 60 % of its height, in those that a lone atom would fill."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What stands near each of some places."""

    nearest_polar_angstrom: Tensor
    """(place,) infinite where none is within 4 Å."""
    nearest_polar: Tensor
    """(place,) int64 index of that atom, -1 where there is none."""
    nearest_other_angstrom: Tensor
    """(place,) of the nearest carbon or sulfur."""
    n_polar: Tensor
    """(place,) polar atoms within hydrogen-bond length."""


def surroundings(places: Tensor, atoms: AtomicModel) -> Surroundings:
    """Of places (place, 3) among the atoms of a model."""
    n = len(places)
    polar = torch.tensor([e in _POLAR for e in atoms.elements], dtype=torch.bool)
    i, j, distance = pairs_within(places, atoms.coordinates_angstrom, _REACH_ANGSTROM)
    is_polar = polar[j]

    def least(chosen: Tensor) -> Tensor:
        start = torch.full((n,), torch.inf, dtype=torch.float64)
        return start.scatter_reduce(0, i[chosen], distance[chosen].double(), "amin")

    nearest = least(is_polar)
    atom = torch.full((n,), -1, dtype=torch.int64)
    is_nearest = is_polar & (distance == nearest[i])
    atom[i[is_nearest]] = j[is_nearest]
    bound = is_polar & (distance > _POLAR_ANGSTROM[0]) & (distance < _POLAR_ANGSTROM[1])
    return Surroundings(nearest, atom, least(~is_polar), torch.bincount(i[bound], minlength=n))


def crowding(grid: DensityGrid, peaks: Peaks, lone_volume_angstrom3: float) -> Tensor:
    """(peak,) volume of the piece of density that a peak belongs to at 60 % of its height, in those of a lone atom.

    Parameters
    ----------
    grid
        Density in which the peaks were found.
    """
    found = torch.ones(len(peaks), dtype=torch.float64)
    if not len(peaks):
        return found
    wanted = _CROWD_SHARE * peaks.height.double()
    step = ((wanted / wanted.min()).log() / math.log(_CROWD_STEP)).round().long()
    voxel = grid.to_voxels(peaks.place_angstrom).round().long()
    size = torch.tensor(grid.voxels.shape)
    flat = (voxel[:, 0] * size[1] + voxel[:, 1]) * size[2] + voxel[:, 2]
    for k in step.unique().tolist():
        pieces = blobs(grid, float(wanted.min()) * _CROWD_STEP**k)
        number = torch.full((grid.voxels.numel(),), -1, dtype=torch.int64)
        number[(pieces.voxel[:, 0] * size[1] + pieces.voxel[:, 1]) * size[2] + pieces.voxel[:, 2]] = pieces.blob
        chosen = torch.nonzero(step == k).squeeze(1)
        piece = number[flat[chosen]]
        volume = torch.where(piece >= 0, pieces.volume_angstrom3[piece.clamp(min=0)], 0.0)
        found[chosen] = volume.double() / lone_volume_angstrom3
    return found


def lone_volume(pairs: Tensor, step_angstrom: float = 0.1) -> float:
    """Volume in Å³ of a lone atom at 60 % of its height, from how atoms' evidence falls with distance."""
    below = torch.nonzero(pairs < _CROWD_SHARE * pairs[0])
    radius = float(below[0]) * step_angstrom
    return 4 / 3 * math.pi * radius**3


def waters(
    peaks: Peaks,
    share: Tensor,
    half_sigma: Tensor | None,
    crowd: Tensor,
    atoms: AtomicModel,
    criteria: WaterCriteria = WaterCriteria(),
) -> tuple[Tensor, Tensor]:
    """(water,) indices of peaks that are waters, the highest first; and (water,) whether a water binds it, not atoms.

    Parameters
    ----------
    share
        (peak,) of the density of a whole water.
    half_sigma
        (half, peak) of the half maps, where there are any.
    crowd
        (peak,) of `crowding`.
    atoms
        All that stands around, mates and ligands included.
    """
    is_good = (
        (peaks.height >= criteria.least_sigma)
        & (peaks.roundness >= criteria.least_roundness)
        & (share >= criteria.share[0])
        & (share <= criteria.share[1])
        & (crowd <= criteria.most_crowd)
    )
    if half_sigma is not None:
        is_good &= half_sigma.amin(0) >= criteria.least_half_sigma
    around = surroundings(peaks.place_angstrom, atoms)
    low, high = _POLAR_ANGSTROM
    is_good &= (around.nearest_polar_angstrom >= low) & (around.nearest_other_angstrom >= _CARBON_ANGSTROM)
    candidates = torch.nonzero(is_good).squeeze(1)
    is_first = around.nearest_polar_angstrom[candidates] <= high
    place = peaks.place_angstrom[candidates]
    # the surer first, and those that atoms bind before those that other waters bind
    order = (~is_first).long().argsort(stable=True)
    candidates, is_first, place = candidates[order], is_first[order], place[order]
    i, j, _ = pairs_within(place, place, low)
    leads = gathered(i[i < j], j[i < j], len(place)) == torch.arange(len(place))
    candidates, is_first, place = candidates[leads], is_first[leads], place[leads]
    reached = is_first.clone()
    i, j, _ = pairs_within(place, place, high)
    while True:
        wider = reached.clone()
        wider[j[reached[i]]] = True
        if torch.equal(wider, reached):
            break
        reached = wider
    return candidates[reached], ~is_first[reached]


@dataclass(frozen=True, eq=False)
class IonFit:
    """How well an ion would be coordinated at each of some places."""

    n_bound: Tensor
    """(place,) neighbours at the ion's distance."""
    deviation_angstrom: Tensor
    """(place,) of their distances from the ion's, root mean square; infinite without any."""
    is_possible: Tensor
    """(place,) enough neighbours, and nothing too near."""


def ion_fit(ion: str, places: Tensor, atoms: AtomicModel, others: Tensor) -> IonFit:
    """Of an ion at places (place, 3).

    Parameters
    ----------
    atoms
        All that stands around, mates included.
    others
        (peak, 3) peaks that may be waters.
    """
    to_oxygen, to_nitrogen, to_sulfur, least, most = COORDINATION[ion]
    ideal = {"O": to_oxygen, "N": to_nitrogen, "S": to_sulfur}
    known = torch.tensor([ideal.get(e, math.nan) for e in atoms.elements], dtype=torch.float64)
    place = torch.cat([atoms.coordinates_angstrom, others])
    known = torch.cat([known, torch.full((len(others),), to_oxygen, dtype=torch.float64)])
    i, j, distance = pairs_within(places, place, _REACH_ANGSTROM)
    kept = distance > 0.3
    i, j, distance = i[kept], j[kept], distance[kept].double()
    off = distance - known[j]
    binds = off.abs() < _ION_SLACK_ANGSTROM
    n = len(places)
    n_bound = torch.bincount(i[binds], minlength=n)
    squares = torch.zeros(n, dtype=torch.float64).index_add_(0, i[binds], off[binds].square())
    too_near = (known[j].isnan() & (distance < _ION_CARBON_ANGSTROM)) | (off < -_ION_SLACK_ANGSTROM)
    is_crowded = torch.zeros(n, dtype=torch.bool)
    is_crowded[i[too_near]] = True
    deviation = torch.where(n_bound > 0, (squares / n_bound.clamp(min=1)).sqrt(), torch.inf)
    is_likely = (n_bound >= least) & (n_bound <= most + 1) & (deviation < _MOST_DEVIATION_ANGSTROM)
    return IonFit(n_bound, deviation, is_likely & ~is_crowded)
