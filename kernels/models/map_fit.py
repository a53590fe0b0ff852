"""How well a model fits its map: density of the model, correlations, Fourier shell correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.fsc import masked_fsc
from kernels.maps.grid import DensityGrid
from kernels.masks import distance_outside, falling_edge
from kernels.models.atomic_model import AtomicModel
from kernels.models.hydrogens import hydrogen_counts
from kernels.specimen.potential import PENG_COEFFICIENTS, Atoms, density_map

_NEAREST_ELEMENT = {"NA": "MG", "K": "CA", "CO": "FE", "NI": "FE", "AS": "SE", "B": "C", "SI": "P", "AL": "MG"}
"""Elements without scattering factors here, as the one that is nearest in weight; all others count as zinc."""
_MARGIN_ANGSTROM = 12.0
"""Around a model, beyond which its density counts as nothing, so that a small model in a large map costs little."""
_MASK_ANGSTROM = 3.0
"""Around every atom, for correlations inside of the molecule."""
_SOFT_MASK_ANGSTROM = (5.0, 6.0)
"""Reach around every atom, and width of the edge, of the mask for Fourier shell correlations."""
_SEAM_ANGSTROM = 4.0
"""Width along which the mask of a part gives way to the rest."""
_SHARE_OF_RESOLUTION = 0.7
_LEAST_RADIUS_ANGSTROM = 1.5
_LARGEST_RADIUS_ANGSTROM = 3.0


def model_density(model: AtomicModel, grid: DensityGrid, resolution_angstrom: float | None = None) -> DensityGrid:
    """Potential of a model in ice on the grid of a map, with each atom's B-factor and occupancy.

    Hydrogens ride on the atoms that carry them; atoms of no occupancy, and those outside of the map, are left out.

    Parameters
    ----------
    resolution_angstrom
        Nothing finer is shown; without it, all that the grid can hold.
    """
    position, kept = _shown(model, grid)
    density = grid.with_voxels(torch.zeros(grid.voxels.shape))
    if len(kept) == 0:
        return density
    box = _box_around(position[kept], grid)
    shape = tuple(part.stop - part.start for part in box)
    middle = torch.tensor([part.start + side // 2 for part, side in zip(box, shape)])
    atoms = Atoms(
        ((position[kept] - middle) * grid.voxel_size_angstrom).float(),
        tuple(_known_element(model.elements[i]) for i in kept.tolist()),
        hydrogen_counts(model)[kept],
        model.b_factor_angstrom2[kept].float().clamp(min=0),
        model.occupancy[kept].float(),
    )
    density.voxels[box] = density_map(atoms, shape, grid.voxel_size_angstrom)
    return density if resolution_angstrom is None else blurred(density, model, resolution_angstrom)


def blurred(density: DensityGrid, model: AtomicModel, resolution_angstrom: float) -> DensityGrid:
    """`model_density` of a resolution, from that of the same model without one."""
    position, kept = _shown(model, density)
    coarse = density.with_voxels(torch.zeros(density.voxels.shape))
    if len(kept):
        box = _box_around(position[kept], density)
        coarse.voxels[box] = fourier.low_passed(density.voxels[box], density.voxel_size_angstrom, resolution_angstrom)
    return coarse


def _shown(model: AtomicModel, grid: DensityGrid) -> tuple[Tensor, Tensor]:
    """(atom, 3) places in voxels, and indices of the atoms that show on a grid."""
    position = grid.to_voxels(model.coordinates_angstrom)
    is_inside = ((position > -1) & (position < torch.tensor(grid.voxels.shape))).all(1)
    heavy = torch.tensor([e not in ("H", "D") for e in model.elements], dtype=torch.bool)
    return position, torch.nonzero(heavy & is_inside & (model.occupancy > 0)).squeeze(1)


def _box_around(position: Tensor, grid: DensityGrid) -> tuple[slice, ...]:
    """The part of a map beyond which the density of atoms at (atom, 3) voxels is nothing."""
    margin = math.ceil(_MARGIN_ANGSTROM / grid.voxel_size_angstrom)
    low = (position.amin(0).floor().long() - margin).clamp(min=0)
    high = (position.amax(0).ceil().long() + margin + 1).minimum(torch.tensor(grid.voxels.shape))
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist()))


def _known_element(element: str) -> str:
    return element if element in PENG_COEFFICIENTS else _NEAREST_ELEMENT.get(element, "ZN")


@dataclass(frozen=True)
class MapCorrelations:
    """Correlations about the mean of a map with the density of a model.

    Source
    ------
    Afonine et al., Acta Cryst. 2018, D74:814, for the names; here the mask reaches 3 Å around every atom.
    """

    mask: float
    """In the voxels around the atoms."""
    box: float
    """In all voxels."""
    peaks: float
    """In the strongest voxels of either, as many of each as the mask holds: what only one of both shows counts."""


def map_correlations(grid: DensityGrid, density: DensityGrid, model: AtomicModel) -> MapCorrelations:
    """Correlations of a map with `model_density` on the same grid."""
    inside = near_atoms(grid, model, _MASK_ANGSTROM)
    n_inside = int(inside.sum())
    if n_inside < 2:
        raise ValueError(
            "the model lies outside of the map: no voxel is within 3 Å of its atoms; check that both have the same"
            " origin, or move the model into the map"
        )
    observed, expected = grid.voxels.reshape(-1), density.voxels.reshape(-1)
    strong = torch.zeros(observed.shape, dtype=torch.bool)
    for values in (observed, expected):
        strong[values.topk(n_inside).indices] = True
    flat = inside.reshape(-1)
    return MapCorrelations(
        _correlation(observed[flat], expected[flat]),
        _correlation(observed, expected),
        _correlation(observed[strong], expected[strong]),
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-30))


def near_atoms(grid: DensityGrid, model: AtomicModel, radius_angstrom: float) -> Tensor:
    """(z, y, x) whether a voxel is within a radius of any atom."""
    voxel, _, _ = voxels_near(grid, model.coordinates_angstrom, radius_angstrom)
    inside = torch.zeros(grid.voxels.numel(), dtype=torch.bool)
    inside[voxel] = True
    return inside.reshape(grid.voxels.shape)


def voxels_near(grid: DensityGrid, places: Tensor, radius_angstrom: float) -> tuple[Tensor, Tensor, Tensor]:
    """(pair,) flat index of a voxel, index of the place that is near, and their distance in Å."""
    position = grid.to_voxels(places.double())
    reach = radius_angstrom / grid.voxel_size_angstrom
    steps = torch.arange(-math.ceil(reach), math.ceil(reach) + 2)
    offsets = torch.cartesian_prod(steps, steps, steps)
    offsets = offsets[(offsets.double() - 0.5).norm(dim=1) < reach + 0.9]
    size = torch.tensor(grid.voxels.shape)
    found = []
    for first, block in enumerate(position.split(4096)):
        voxel = block.floor().long()[:, None] + offsets
        distance = (voxel - block[:, None]).norm(dim=-1) * grid.voxel_size_angstrom
        kept = (distance < radius_angstrom) & ((voxel >= 0) & (voxel < size)).all(-1)
        index = (voxel[..., 0] * size[1] + voxel[..., 1]) * size[2] + voxel[..., 2]
        place = torch.nonzero(kept)[:, 0] + first * 4096
        found.append((index[kept], place, distance[kept]))
    voxel, place, distance = (torch.cat(parts) for parts in zip(*found)) if found else _nothing()
    return voxel, place, distance


def _nothing() -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)


def residue_correlations(
    grid: DensityGrid, density: DensityGrid, model: AtomicModel, resolution_angstrom: float
) -> Tensor:
    """(residue,) correlation about the mean in the voxels around each residue's atoms; NaN outside of the map.

    The radius is 0.7 of the resolution, between 1.5 and 3 Å.
    """
    radius = min(max(_SHARE_OF_RESOLUTION * resolution_angstrom, _LEAST_RADIUS_ANGSTROM), _LARGEST_RADIUS_ANGSTROM)
    voxel, atom, _ = voxels_near(grid, model.coordinates_angstrom, radius)
    n_voxels = grid.voxels.numel()
    pair = torch.unique(model.residue[atom] * n_voxels + voxel)  # a voxel counts once for each residue
    residue, voxel = pair // n_voxels, pair % n_voxels
    a = grid.voxels.reshape(-1)[voxel].double()
    b = density.voxels.reshape(-1)[voxel].double()
    sums = torch.zeros(6, model.n_residues, dtype=torch.float64)
    sums.index_add_(1, residue, torch.stack([torch.ones_like(a), a, b, a * a, b * b, a * b]))
    n, a, b, aa, bb, ab = sums
    variance = ((aa - a * a / n) * (bb - b * b / n)).clamp(min=0)
    return torch.where((n > 2) & (variance > 0), (ab - a * b / n) / variance.sqrt(), math.nan)


def soft_mask(grid: DensityGrid, model: AtomicModel) -> Tensor:
    """(z, y, x) 1 within 5 Å of every atom, falling to 0 along 6 Å more."""
    return soft_mask_around(grid, model.coordinates_angstrom)


def soft_mask_around(grid: DensityGrid, places_angstrom: Tensor) -> Tensor:
    """(z, y, x) the same around places (n, 3)."""
    reach, edge = (length / grid.voxel_size_angstrom for length in _SOFT_MASK_ANGSTROM)
    return falling_edge(distance_outside(voxels_at(grid, places_angstrom), reach + edge + 1), reach, edge)


def nearer_share(grid: DensityGrid, own_angstrom: Tensor, other_angstrom: Tensor) -> Tensor:
    """(z, y, x) 1 where own places (n, 3) are nearer than others (m, 3) by 2 Å, 0 where these are; linear between.

    Distances count up to where `soft_mask_around` ends.
    """
    reach = sum(_SOFT_MASK_ANGSTROM) / grid.voxel_size_angstrom
    own, other = (
        distance_outside(voxels_at(grid, places), reach).clamp(max=reach) for places in (own_angstrom, other_angstrom)
    )
    return ((other - own) * grid.voxel_size_angstrom / _SEAM_ANGSTROM + 0.5).clamp(0, 1)


def voxels_at(grid: DensityGrid, places_angstrom: Tensor) -> Tensor:
    """(z, y, x) whether a voxel is the nearest one to any of places (n, 3)."""
    position = grid.to_voxels(places_angstrom).round().long()
    size = torch.tensor(grid.voxels.shape)
    position = position[((position >= 0) & (position < size)).all(1)]
    occupied = torch.zeros(grid.voxels.shape, dtype=torch.bool)
    occupied[tuple(position.T)] = True
    return occupied


def map_model_fsc(grid: DensityGrid, density: DensityGrid, mask: Tensor) -> Tensor:
    """(shell,) correlation of a map with `model_density` inside of a soft mask.

    Shell s lies at s / (longest side · voxel size). Against the half map that a model was refined with it is the work
    curve, against the other one the free one; of the two, only the free one falls where a model follows noise.

    Source
    ------
    Amunts et al., Science 2014, 343:1485, for the use of half maps.
    """
    return masked_fsc(grid.voxels, density.voxels, mask)


def mean_fsc(curve: Tensor, grid: DensityGrid, resolution_angstrom: float) -> float:
    """Mean of a curve up to a resolution, each shell weighted by its coefficients."""
    shells = torch.arange(len(curve), dtype=torch.float64)
    length = max(grid.voxels.shape) * grid.voxel_size_angstrom
    weight = shells**2 * (shells / length <= 1 / resolution_angstrom)
    return float((curve * weight).sum() / weight.sum().clamp(min=1e-30))


def resolution_at(curve: Tensor, grid: DensityGrid, level: float = 0.5) -> float:
    """Resolution in Å of the first shell at which a curve has fallen below a level; that of the last one if never."""
    below = torch.nonzero(curve[1:] < level).squeeze(1)
    shell = int(below[0]) + 1 if len(below) else len(curve) - 1
    return max(grid.voxels.shape) * grid.voxel_size_angstrom / shell
