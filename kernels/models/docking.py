"""Where a rigid structure fits into a map: all orientations and places first, then the best ones by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import linear_values
from kernels.models.map_field import MapField
from kernels.models.rigid_body import RigidBody, Template
from kernels.rotations import from_rotation_vector, random_rotations, rotation_grid

_SEARCHED_ANGSTROM, _SEARCHED_OF_RADIUS = 8.0, 0.45
"""Finest resolution of the search, and the same in units of the structure's radius of gyration: finer detail is for the
fit that follows, and would need more orientations."""
_SEARCH_VOXEL, _FIT_VOXEL = 0.5, 0.4
"""Of the resolution."""
_STEP_OF_RESOLUTION = 0.75
"""How far atoms at the radius of gyration move from one orientation to the next, in units of the resolution."""
_LARGEST_STEP_RAD = math.radians(25)
_N_MIRRORED, _MIRRORED_COARSENESS = 40, 1.5
_KEPT_A_ROTATION = 3
_SEARCHED_AT_ONCE = 1_000_000
"""Voxels of all orientations that are tried at once."""
_SAME_ANGSTROM = 4.0
_REACHING_ANGSTROM = 7.0
"""Resolution at which poses as far off as the search leaves them find their place: of sixty bent chains that began 17°
and 3.5 Å off in maps of 3.5 and 4 Å, 57 and 59 got there by 6 Å, all by 7 Å; at once at 4 Å, 44."""
_N_PLACES = 100
"""Of the residues, that tell one pose from another."""


class _Climb(NamedTuple):
    n_steps: int
    step_angstrom: float
    """The first one, of the places on average."""
    n_places: int
    """Of the voxels inside of the body."""


_COARSELY, _FINELY, _AT_ONCE = _Climb(30, 0.6, 800), _Climb(20, 0.3, 1500), _Climb(50, 0.45, 800)


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

    def placed(self, coordinates_angstrom: Tensor, pose: int = 0, middle_angstrom: Tensor | None = None) -> Tensor:
        """Coordinates (n, 3) in one pose, turned about their mean or a given place (3,)."""
        middle = coordinates_angstrom.mean(0) if middle_angstrom is None else middle_angstrom
        return (coordinates_angstrom - middle) @ self.rotation[pose].T + middle + self.shift_angstrom[pose]

    def take(self, rows: Tensor) -> Placements:
        """Some of them."""
        return Placements(self.rotation[rows], self.shift_angstrom[rows], self.correlation[rows])

    @staticmethod
    def joined(parts: list[Placements]) -> Placements:
        """Those of several searches, in their order."""
        return Placements(
            torch.cat([p.rotation for p in parts]),
            torch.cat([p.shift_angstrom for p in parts]),
            torch.cat([p.correlation for p in parts]),
        )


def fitting_field(grid: DensityGrid, resolution_angstrom: float) -> MapField:
    """The map as bodies are fitted in it."""
    return MapField(grid, resolution_angstrom, _FIT_VOXEL, 0.0)


def searched(
    grid: DensityGrid, field: MapField, body: RigidBody, n_fitted: int, n_kept: int, coarseness: float = 1.0
) -> Placements:
    """The best different poses of `search`, fitted in the map's `fitting_field`."""
    found = search(grid, body, field.resolution, n_fitted, coarseness)
    return different(fitted(field, body, found), body, n_kept)


def search(
    grid: DensityGrid, body: RigidBody, resolution_angstrom: float, n_kept: int, coarseness: float = 1.0
) -> Placements:
    """The best different poses over all orientations and places, at a resolution that suits the size of the body.

    Parameters
    ----------
    coarseness
        Of the steps from one orientation to the next, in units of the usual ones.

    Memory: 100 bytes a voxel of half that resolution, which is 8 Å or more, and 60 MB.
    """
    radius = body.radius_angstrom
    resolution = max(resolution_angstrom, _SEARCHED_ANGSTROM, _SEARCHED_OF_RADIUS * radius)
    field = MapField(grid, resolution, _SEARCH_VOXEL, body.reach_angstrom)
    template = Template.of(body, resolution, field.voxel / 2)
    step = min(_STEP_OF_RESOLUTION * resolution / max(radius, 1.0), _LARGEST_STEP_RAD)
    rotations = rotation_grid(coarseness * step)
    n_voxels = math.prod(s.stop for s in field.inside)
    # written in place: small results that outlive large ones would keep the allocator from using that memory again
    scores = torch.empty(len(rotations), min(_KEPT_A_ROTATION, n_voxels), device=field.device)
    places = torch.empty(scores.shape, dtype=torch.int64, device=field.device)
    n_at_once = max(1, _SEARCHED_AT_ONCE // math.prod(field.shape))
    for first in range(0, len(rotations), n_at_once):
        rows = slice(first, first + n_at_once)
        found = field.correlations(template, rotations[rows]).flatten(1)
        scores[rows], places[rows] = found.topk(scores.shape[1])
    score = scores.flatten().cpu()
    place = torch.stack(torch.unravel_index(places.flatten().cpu(), [s.stop for s in field.inside]), -1)
    number = torch.arange(len(rotations)).repeat_interleave(scores.shape[1])
    top = score.topk(min(8 * n_kept, len(score)))
    found_at = place[top.indices].double() * field.voxel + field.first.double().cpu()
    shift = found_at - body.middle_angstrom
    return different(Placements(rotations[number[top.indices]].double(), shift, top.values), body, n_kept)


def mirrored_poses(grid: DensityGrid, field: MapField, body: RigidBody) -> Placements:
    """Where the mirror image of a body fits best, which tells what a wrong structure would come to.

    Orientations half as far apart again as for the body itself find fits that are as good, in a third of the time: in
    16 maps of 4 to 10 Å the best correlation differed by 0.002 in the mean, 0.008 as a standard deviation.
    """
    return searched(grid, field, body.mirrored(), _N_MIRRORED, _N_MIRRORED, _MIRRORED_COARSENESS)


def alternatives(field: MapField, body: RigidBody, pose: Placements, n: int, seed: int = 0) -> Placements:
    """What else the body could be at the place of one pose: fitted from other orientations."""
    turns = random_rotations(n, torch.Generator().manual_seed(seed)).double()
    start = Placements(turns, pose.shift_angstrom.expand(n, 3), pose.correlation.expand(n))
    return fitted(field, body, start)


def fitted(field: MapField, body: RigidBody, start: Placements) -> Placements:
    """Each pose uphill in its correlation with the map; with it, the best one first.

    The density alone that a body stands in leads away from the body's own place to a denser one beside it.
    """
    if field.resolution < _REACHING_ANGSTROM:
        coarse = _climbed(field, body, start, _REACHING_ANGSTROM, _COARSELY)
        found = _climbed(field, body, coarse, field.resolution, _FINELY)
    else:
        found = _climbed(field, body, start, field.resolution, _AT_ONCE)
    correlation = correlations(field, body, found.rotation, found.shift_angstrom)
    best = correlation.argsort(descending=True)
    return Placements(found.rotation[best], found.shift_angstrom[best], correlation[best])


def _climbed(field: MapField, body: RigidBody, start: Placements, resolution: float, climb: _Climb) -> Placements:
    """The poses with the correlations that they began with."""
    grid = field.at_resolution(resolution)
    inside, density = Template.of(body, resolution, max(field.voxel, _FIT_VOXEL * resolution)).inside()
    # in a random order, since every n-th voxel of a row would lie in planes
    order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(0))[: climb.n_places]
    some, expected = inside[order], density[order] - density[order].mean()
    expected = expected / expected.norm().clamp(min=1e-9)
    turn = torch.zeros(len(start), 3, requires_grad=True, device=field.device)
    move = torch.zeros(len(start), 3, requires_grad=True, device=field.device)
    reach = float(some.norm(dim=-1).mean())
    rates = [{"params": [turn], "lr": climb.step_angstrom / reach}, {"params": [move], "lr": climb.step_angstrom}]
    optimizer = torch.optim.Adam(rates)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, climb.n_steps)
    rotation = start.rotation.float().to(field.device)
    shift = (start.shift_angstrom + body.middle_angstrom).float().to(field.device)
    least = _least_norm(field, len(some))
    for _ in range(climb.n_steps):
        optimizer.zero_grad()
        turned = some @ (from_rotation_vector(turn) @ rotation).transpose(1, 2)
        seen = linear_values(grid, turned + (shift + move)[:, None])
        seen = seen - seen.mean(1, keepdim=True)
        (-(seen @ expected) / seen.norm(dim=1).clamp(min=least)).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        turned_by = (from_rotation_vector(turn) @ rotation).double().cpu()
        return Placements(turned_by, (shift + move).double().cpu() - body.middle_angstrom, start.correlation)


def _least_norm(field: MapField, n: int) -> float:
    """Of n densities: where the map is flat nothing can correlate."""
    return max((1e-3 * field.variance * n) ** 0.5, 1e-9)


def correlations(field: MapField, body: RigidBody, rotation: Tensor, shift_angstrom: Tensor) -> Tensor:
    """(pose,) correlation of the map with a body in poses (pose, 3, 3) and (pose, 3), inside of its mask."""
    places, expected = Template.of(body, field.resolution, field.voxel).inside()
    expected = expected - expected.mean()
    expected = expected / expected.norm().clamp(min=1e-9)
    coefficients = []
    for turn, move in zip(rotation.float(), (shift_angstrom + body.middle_angstrom).float()):
        seen = field.grid.values_at(places @ turn.T.to(places) + move.to(places))
        seen = seen - seen.mean()
        coefficients.append((seen @ expected) / seen.norm().clamp(min=_least_norm(field, len(seen))))
    return torch.stack(coefficients).double().cpu() if coefficients else torch.zeros(0, dtype=torch.float64)


def different(poses: Placements, body: RigidBody, n_kept: int) -> Placements:
    """The best of each group of poses that lay the residues at the same places."""
    points = placed_points(poses, body)
    kept: list[int] = []
    for i in poses.correlation.argsort(descending=True).tolist():
        far = (points[kept] - points[i]).square().sum(-1).mean(-1).sqrt() if kept else torch.ones(1) * torch.inf
        if bool((far > _SAME_ANGSTROM).all()):
            kept.append(i)
        if len(kept) == n_kept:
            break
    return poses.take(torch.tensor(kept, dtype=torch.int64))


def placed_points(poses: Placements, body: RigidBody) -> Tensor:
    """(pose, point, 3) float64 where some of the residues come to lie."""
    points = body.places[_some(len(body.places), _N_PLACES)].double().cpu()
    return points @ poses.rotation.transpose(1, 2) + (poses.shift_angstrom + body.middle_angstrom)[:, None]


def _some(n: int, most: int) -> Tensor:
    return torch.linspace(0, n - 1, min(n, most)).round().long()
