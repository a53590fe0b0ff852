"""Pockets, channels and voids of a molecule: where a small probe finds room and a large one does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.contacts import RADII_ANGSTROM
from kernels.models.neighbours import pairs_within, pieces

METAL_ANGSTROM = 1.4
"""Radius of atoms of other elements."""
_LINING_ANGSTROM = 1.2
"""Between the surface of an atom and the pocket that it lines: two voxels."""
_DEPTH_VOXELS = 0.25
"""Of the outermost voxels below the surface that they stand for: balls of 3 to 8 Å in a block have their volume with
it to 4 %, and 0.15 Å too small a radius without."""
_CHUNK = 3_000_000
_MOST_VOXELS = 100_000_000


@dataclass(frozen=True)
class Probes:
    """What counts as a pocket. The numbers are those of KVFinder, but for the smallest volume."""

    small_angstrom: float = 1.4
    """Of water."""
    large_angstrom: float = 4.0
    """What it reaches from outside is no pocket."""
    rim_angstrom: float = 2.4
    """So far below the surface of the large probe a pocket begins: shallow grooves connect everything."""
    spacing_angstrom: float = 0.6
    smallest_angstrom3: float = 30.0
    """About a water."""


@dataclass(frozen=True, eq=False)
class Pockets:
    """The largest first."""

    place_angstrom: Tensor
    """(voxel, 3) (z, y, x), pocket after pocket."""
    pocket: Tensor
    """(voxel,) int64 the pocket of each."""
    volume_angstrom3: Tensor
    """(pocket,)"""
    is_lining: Tensor
    """(pocket, residue) bool"""

    def __len__(self) -> int:
        return len(self.volume_angstrom3)

    @property
    def centre_angstrom(self) -> Tensor:
        """(pocket, 3)"""
        total = torch.zeros(len(self), 3, dtype=torch.float64).index_add_(0, self.pocket, self.place_angstrom)
        return total / torch.bincount(self.pocket, minlength=len(self))[:, None]


def radii(elements: tuple[str, ...]) -> Tensor:
    """(atom,) radii in Å of heavy atoms without their hydrogens' own."""
    return torch.tensor([RADII_ANGSTROM.get(e, METAL_ANGSTROM) for e in elements], dtype=torch.float64)


def grid_shape(places: Tensor, probes: Probes) -> tuple[int, ...]:
    """Voxels of the box of a search."""
    extent = places.amax(0) - places.amin(0) + 2 * _margin(probes)
    return tuple(math.ceil(float(e) / probes.spacing_angstrom) for e in extent)


def _margin(probes: Probes) -> float:
    return max(RADII_ANGSTROM.values()) + 2 * probes.large_angstrom + 2 * probes.spacing_angstrom


def pockets(places: Tensor, radius: Tensor, residue: Tensor, n_residues: int, probes: Probes | None = None) -> Pockets:
    """Pockets of a molecule.

    Parameters
    ----------
    places, radius, residue
        (atom, 3) in (z, y, x) and Å, (atom,) in Å, and (atom,) index of the residue that the atom belongs to.

    Raises
    ------
    ValueError
        For a box of more voxels than 100 million.

    Memory: 45 bytes a voxel of the box, which reaches 10 Å beyond the molecule.

    Source
    ------
    Oliveira et al., BMC Bioinformatics 2014, 15:197 (KVFinder): what a small probe reaches and a large one does not.
    Other than there the large probe comes from outside, so that a void may be of any size.
    """
    probes = probes or Probes()
    shape, spacing = grid_shape(places, probes), probes.spacing_angstrom
    if math.prod(shape) > _MOST_VOXELS:
        raise ValueError(
            f"pockets: a box of {' x '.join(map(str, shape))} voxels of {spacing:g} Å; expected at most"
            f" {_MOST_VOXELS // 1_000_000} million; take wider voxels"
        )
    origin = places.amin(0) - _margin(probes)
    free = ~_painted((places - origin) / spacing, (radius + probes.small_angstrom) / spacing, shape)
    room = _widened(free, probes.small_angstrom / spacing)
    wide = ~_widened(~free, (probes.large_angstrom - probes.small_angstrom) / spacing)
    bulk = _widened(_from_outside(wide), (probes.large_angstrom + probes.rim_angstrom) / spacing)
    voxel, pocket = _connected(room & ~bulk)
    volume = torch.bincount(pocket).double() * spacing**3
    order = volume.argsort(descending=True, stable=True)
    order = order[volume[order] >= probes.smallest_angstrom3]
    rank = torch.full((len(volume),), -1).index_put_((order,), torch.arange(len(order)))
    kept = torch.nonzero(rank[pocket] >= 0).squeeze(1)
    kept = kept[rank[pocket[kept]].argsort(stable=True)]
    found, place = rank[pocket[kept]], voxel[kept] * spacing + origin
    is_lining = _lining(place, found, places, radius, residue, (len(order), n_residues))
    return Pockets(place, found, volume[order], is_lining)


def _painted(middle: Tensor, reach: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(z, y, x) whether a voxel lies in one of some balls; everything in units of voxels."""
    flat = torch.zeros(math.prod(shape), dtype=torch.bool)
    stride = torch.tensor([shape[1] * shape[2], shape[2], 1])
    for size in torch.unique(reach).tolist():
        own = middle[reach == size]
        half = math.ceil(size + 0.5)
        axis = torch.arange(-half, half + 1)
        around = torch.cartesian_prod(axis, axis, axis)
        around = around[around.double().norm(dim=1) <= size + 0.9]  # the middle is up to 0.87 off its voxel
        for part in own.split(max(1, _CHUNK // len(around))):
            nearest = part.round()
            off = (nearest - part)[:, None] + around
            inside = off.square().sum(-1) < size**2
            index = (nearest.long() @ stride)[:, None] + around @ stride
            flat[index[inside]] = True
    return flat.reshape(shape)


def _widened(inside: Tensor, reach: float) -> Tensor:
    """Everything within a distance, in voxels, of a mask: exact squared distances, axis by axis."""
    reach += _DEPTH_VOXELS
    far = float((reach + 2) ** 2 * 4)
    square = torch.where(inside, 0.0, far)
    window = math.floor(reach)
    for axis in range(3):
        best = square.clone()
        for step in range(1, window + 1):
            n = square.shape[axis] - step
            near, away = square.narrow(axis, 0, n) + step**2, square.narrow(axis, step, n) + step**2
            upper, lower = best.narrow(axis, step, n), best.narrow(axis, 0, n)
            torch.minimum(upper, near, out=upper)
            torch.minimum(lower, away, out=lower)
        square = best
    return square <= reach**2


def _from_outside(free: Tensor) -> Tensor:
    """What of a mask is connected by faces with the faces of the box, sweep by sweep along the axes."""
    reached = torch.zeros_like(free)
    for axis in range(3):
        for end in (0, free.shape[axis] - 1):
            reached.select(axis, end).copy_(free.select(axis, end))
    while True:
        before = int(reached.sum())
        for axis in range(3):
            line, mark = free.movedim(axis, -1), reached.movedim(axis, -1)
            starts = ~line
            starts[..., 0] = True
            run = starts.reshape(-1).cumsum(0) - 1  # a run begins at every blocked voxel and at the start of a line
            is_hit = torch.zeros(int(run[-1]) + 1, dtype=torch.bool)
            is_hit[run[mark.reshape(-1)]] = True
            mark |= is_hit[run].reshape(line.shape) & line
        if int(reached.sum()) == before:
            return reached


def _connected(inside: Tensor) -> tuple[Tensor, Tensor]:
    """(voxel, 3) voxels of a mask, and the piece of each, numbered from 0; connected by faces."""
    voxel = torch.nonzero(inside)
    number = torch.full(inside.shape, -1)
    number[inside] = torch.arange(len(voxel))
    i, j = [], []
    for axis in range(3):
        n = inside.shape[axis] - 1
        a, b = number.narrow(axis, 0, n), number.narrow(axis, 1, n)
        both = (a >= 0) & (b >= 0)
        i.append(a[both])
        j.append(b[both])
    _, piece = torch.unique(pieces(torch.cat(i), torch.cat(j), len(voxel)), return_inverse=True)
    return voxel, piece


def _lining(
    place: Tensor, pocket: Tensor, atoms: Tensor, radius: Tensor, residue: Tensor, shape: tuple[int, int]
) -> Tensor:
    """(pocket, residue) whether one of its atoms is at the pocket."""
    found = torch.zeros(shape, dtype=torch.bool)
    reach = float(radius.max()) + _LINING_ANGSTROM if len(radius) else 0.0
    for part in torch.arange(len(place)).split(50_000):
        i, j, distance = pairs_within(place[part], atoms, reach)
        near = distance < radius[j] + _LINING_ANGSTROM
        found[pocket[part][i[near]], residue[j[near]]] = True
    return found
