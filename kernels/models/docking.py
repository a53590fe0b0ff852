"""Where a rigid structure fits into a map: all orientations and places first, then the best ones by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.cutting import coarser
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.rotations import from_rotation_vector, rotation_grid
from kernels.specimen.potential import deposit

_SEARCHED_ANGSTROM, _SEARCHED_OF_RADIUS = 8.0, 0.45
"""Finest resolution of the search, and the same in units of the structure's radius of gyration: finer detail is for the
fit that follows, and would need more orientations."""
_VOXELS_OF_RESOLUTION = 0.4
_BELL = 0.225
"""Standard deviation of an atom's density at a resolution, in units of it (as molmap of ChimeraX)."""
_STEP_OF_RESOLUTION = 0.6
"""How far atoms at the radius of gyration move from one orientation to the next, in units of the resolution."""
_LARGEST_STEP_RAD = math.radians(25)
_INSIDE = 0.15
"""Of the strongest density of a structure: beyond it its mask ends."""
_KEPT_A_ROTATION = 3
_SAME_ANGSTROM = 4.0
_N_FITTED_ATOMS = 600
_N_STEPS = 60
_LEAST_VARIANCE = 1e-3
"""Of the map's own: where the map is flat nothing can correlate."""


@dataclass(frozen=True, eq=False)
class Placements:
    """Poses of a structure in a map, the best one first."""

    rotation: Tensor
    """(pose, 3, 3) float64, acting on (z, y, x) about the structure's mean place."""
    shift_angstrom: Tensor
    """(pose, 3) float64, from the structure's mean place to where it comes to lie."""
    correlation: Tensor
    """(pose,) with the map inside the structure's mask, between -1 and 1."""

    def __len__(self) -> int:
        return len(self.correlation)

    def placed(self, coordinates_angstrom: Tensor, pose: int = 0) -> Tensor:
        """Coordinates (n, 3) in one pose."""
        middle = coordinates_angstrom.mean(0)
        return (coordinates_angstrom - middle) @ self.rotation[pose].T + middle + self.shift_angstrom[pose]

    def take(self, rows: Tensor) -> Placements:
        """Some of them."""
        return Placements(self.rotation[rows], self.shift_angstrom[rows], self.correlation[rows])


def docked(
    grid: DensityGrid, coordinates_angstrom: Tensor, weights: Tensor, resolution_angstrom: float, n_poses: int = 20
) -> Placements:
    """Poses of atoms in a map by local correlation: over all orientations and places, then fitted.

    Parameters
    ----------
    grid
        The map, in the frame in which the structure is to lie.
    coordinates_angstrom
        (atom, 3)
    weights
        (atom,) how strongly each scatters.

    Memory: 60 bytes a voxel of 0.4 times the resolution, or of 3.2 Å where that is finer, and 1 kB an atom.

    Source
    ------
    Roseman 2000, Acta Cryst. D56:1332 (local correlation).
    """
    middle = coordinates_angstrom.mean(0)
    atoms = (coordinates_angstrom - middle).float()
    radius = float(atoms.square().sum(-1).mean().sqrt())
    searched = max(resolution_angstrom, _SEARCHED_ANGSTROM, _SEARCHED_OF_RADIUS * radius)
    found = _search(grid, atoms, weights.float(), searched, radius, 5 * n_poses)
    field = _Field(grid, resolution_angstrom, 0.0)
    judged = _judged(field, atoms, weights.float(), _fitted(field, atoms, weights.float(), found))
    kept = _different(judged, atoms, n_poses)
    return Placements(kept.rotation, kept.shift_angstrom - middle, kept.correlation)


class _Field:
    """A map on voxels that suit a resolution, padded so that nothing meets its own copy."""

    def __init__(self, grid: DensityGrid, resolution: float, reach: float) -> None:
        voxel = max(_VOXELS_OF_RESOLUTION * resolution, grid.voxel_size_angstrom)
        ratio = voxel / grid.voxel_size_angstrom
        coarse = coarser(grid, voxel) if ratio > 1.05 else grid
        self.voxel = coarse.voxel_size_angstrom
        self.inside = tuple(coarse.voxels.shape)
        pad = math.ceil(reach / self.voxel) + 2
        self.shape = tuple(fourier.fast_size(n + pad) for n in self.inside)
        self.first = coarse.origin_angstrom.float()
        density = torch.zeros(self.shape)
        density[tuple(slice(0, n) for n in self.inside)] = coarse.voxels.float() - coarse.voxels.float().mean()
        squared = fourier.frequency_length(self.shape, self.voxel) ** 2
        self.bell = torch.exp(-2 * math.pi**2 * (_BELL * resolution) ** 2 * squared)
        self.transform = torch.fft.rfftn(density)
        self.power = torch.fft.rfftn(density**2)
        self.variance = float(density[tuple(slice(0, n) for n in self.inside)].var())
        self.middle = torch.tensor([n // 2 for n in self.shape])

    def correlation(self, atoms: Tensor, weights: Tensor) -> Tensor:
        """(z, y, x) local correlation with atoms (atom, 3) in Å about the place of each voxel."""
        points = atoms / self.voxel + self.middle
        structure = torch.fft.irfftn(
            torch.fft.rfftn(deposit(points, weights, self.shape)) * self.bell, s=self.shape
        ).roll(tuple(-int(m) for m in self.middle), (0, 1, 2))
        mask = (structure > _INSIDE * structure.max()).float()
        n = float(mask.sum())
        structure = (structure - (structure * mask).sum() / n) * mask
        structure = structure / structure.norm().clamp(min=1e-9)
        shown, seen = torch.fft.rfftn(torch.stack([structure, mask]), dim=(1, 2, 3)).conj()
        products = torch.stack([self.transform * shown, self.transform * seen, self.power * seen])
        cross, mean, square = torch.fft.irfftn(products, s=self.shape, dim=(1, 2, 3))
        mean, square = mean / n, square / n
        variance = (square - mean**2).clamp(min=_LEAST_VARIANCE * self.variance)
        return cross / (n * variance).sqrt()


def _search(
    grid: DensityGrid, atoms: Tensor, weights: Tensor, resolution: float, radius: float, n_kept: int
) -> Placements:
    field = _Field(grid, resolution, float(atoms.norm(dim=-1).max()))
    step = min(_STEP_OF_RESOLUTION * resolution / max(radius, 1.0), _LARGEST_STEP_RAD)
    rotations = rotation_grid(step)
    scores, places, numbers = [], [], []
    for number, rotation in enumerate(rotations):
        found = field.correlation(atoms @ rotation.T, weights)[tuple(slice(0, n) for n in field.inside)]
        best = found.flatten().topk(_KEPT_A_ROTATION)
        scores.append(best.values)
        places.append(torch.stack(torch.unravel_index(best.indices, found.shape), -1))
        numbers.append(torch.full((_KEPT_A_ROTATION,), number))
    score = torch.cat(scores)
    top = score.topk(min(8 * n_kept, len(score)))
    place = torch.cat(places)[top.indices].double() * field.voxel + field.first.double()
    everything = Placements(rotations[torch.cat(numbers)[top.indices]].double(), place, top.values)
    return _different(everything, atoms, n_kept)


def _fitted(field: _Field, atoms: Tensor, weights: Tensor, start: Placements) -> Placements:
    """Each pose uphill in the density, blurred as its atoms are, that they stand in."""
    blurred = torch.fft.irfftn(field.transform * field.bell, s=field.shape)
    coefficients = spline_coefficients(blurred / blurred.std())
    chosen = torch.linspace(0, len(atoms) - 1, min(len(atoms), _N_FITTED_ATOMS)).round().long()
    some, weight = atoms[chosen], weights[chosen] / weights[chosen].sum()
    turn = torch.zeros(len(start), 3, requires_grad=True)
    move = torch.zeros(len(start), 3, requires_grad=True)
    reach = float(some.norm(dim=-1).mean())
    optimizer = torch.optim.Adam([{"params": [turn], "lr": 0.5 / reach}, {"params": [move], "lr": 0.4}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _N_STEPS)
    rotation, shift = start.rotation.float(), start.shift_angstrom.float()
    for _ in range(_N_STEPS):
        optimizer.zero_grad()
        turned = some @ (from_rotation_vector(turn) @ rotation).transpose(1, 2)
        points = (turned + (shift + move)[:, None] - field.first) / field.voxel
        (-(sampled(coefficients, points) * weight).sum()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return Placements((from_rotation_vector(turn) @ rotation).double(), (shift + move).double(), start.correlation)


def _judged(field: _Field, atoms: Tensor, weights: Tensor, poses: Placements) -> Placements:
    """With the local correlation at the full resolution, the best pose first."""
    coefficients: list[Tensor] = []
    density = torch.fft.irfftn(field.transform, s=field.shape)
    for rotation, shift in zip(poses.rotation.float(), poses.shift_angstrom.float()):
        points = (atoms @ rotation.T + shift - field.first) / field.voxel
        structure = torch.fft.irfftn(torch.fft.rfftn(deposit(points, weights, field.shape)) * field.bell, s=field.shape)
        inside = structure > _INSIDE * structure.max()
        a, b = structure[inside], density[inside]
        a, b = a - a.mean(), b - b.mean()
        coefficients.append((a @ b) / (a.norm() * b.norm()).clamp(min=1e-9))
    score = torch.stack(coefficients)
    order = score.argsort(descending=True)
    return Placements(poses.rotation[order], poses.shift_angstrom[order], score[order])


def _different(poses: Placements, atoms: Tensor, n_kept: int) -> Placements:
    """The best of each group of poses that lay the atoms at the same places."""
    chosen = torch.linspace(0, len(atoms) - 1, min(len(atoms), 100)).round().long()
    points = atoms[chosen].double() @ poses.rotation.transpose(1, 2) + poses.shift_angstrom[:, None]
    kept: list[int] = []
    for i in poses.correlation.argsort(descending=True).tolist():
        far = (points[kept] - points[i]).square().sum(-1).mean(-1).sqrt() if kept else torch.ones(1) * torch.inf
        if bool((far > _SAME_ANGSTROM).all()):
            kept.append(i)
        if len(kept) == n_kept:
            break
    return poses.take(torch.tensor(kept))
