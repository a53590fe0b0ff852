"""Q-score: how well a map resolves each atom of a model."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.mates import Mates
from kernels.models.neighbours import nearest_first, pairs_within

_STEP_ANGSTROM = 0.1
_N_SHELLS = 20
_POINTS = 8
"""On each shell, and as many copies of the value at the atom."""
_N_TRIES = 95
"""Each with two more points than the one before."""
_OWN_SHARE = 0.9
"""A point at radius R counts where no other atom is nearer than this times R."""
_ON_AXIS_ANGSTROM = 0.5
"""An atom that lies so near to its own copy is one atom on an axis."""
_WORKING_ELEMENTS = 4_000_000
"""Distances between points and atoms that are computed at once."""


def q_scores(
    grid: DensityGrid, coordinates_angstrom: Tensor, sigma_angstrom: float = 0.6, mates: Mates | None = None
) -> Tensor:
    """Correlation of the density around each atom with the Gaussian that it would be in a sharp map.

    On 20 shells up to 2 Å, eight points or a few more are looked for that lie nearer to this atom than to any other;
    buried atoms have fewer or none on the outer shells. Height and offset of the Gaussian do not matter for a
    correlation about the mean, so MapQ's rule for them is left out.

    Parameters
    ----------
    coordinates_angstrom
        (atom, 3) of every atom but hydrogen: each is scored, and each takes points away from the others.
    mates
        Of a symmetric map: atoms of the copies take points away as well.

    Returns
    -------
    (atom,) float64 in [-1, 1]; 0 where the density is flat.

    Source
    ------
    Pintilie et al., Nature Methods 2020, 17:328; spiral, retries and the factor 0.9 as in MapQ 2.9.7. MapQ itself,
    when it runs in several processes, samples the map on another grid for each of them first, which moves its scores
    of single atoms by 0.02; that is left out here.
    """
    points = coordinates_angstrom.double()
    n, reach = len(points), 2 * _N_SHELLS * _STEP_ANGSTROM
    around = points
    if mates is not None and len(mates) > 1:
        copies = mates.of(points)[1:].flatten(0, 1)
        around = torch.cat([points, copies[pairs_within(points, copies, reach)[1].unique()]])
    i, j, distance = pairs_within(points, around, reach)
    is_other = (i != j) & ((j < n) | (distance > _ON_AXIS_ANGSTROM))
    partners, lengths = nearest_first(i[is_other], j[is_other], distance[is_other], n)
    spread = grid.voxels.std()
    if not bool(spread > 0):
        raise ValueError("Q-score: the map is the same everywhere; expected density that varies")
    scaled = grid.with_voxels((grid.voxels - grid.voxels.mean()) / spread)
    at_atom = scaled.values_at(points).double()
    sums = _Sums(n, at_atom, 1.0, _POINTS)
    for shell in range(1, _N_SHELLS + 1):
        radius = shell * _STEP_ANGSTROM
        gaussian = math.exp(-0.5 * (radius / sigma_angstrom) ** 2)
        _add_shell(sums, scaled, points, around, partners, lengths, radius, gaussian)
    return sums.correlation()


def expected_q_score(resolution_angstrom: Tensor, is_nucleic: Tensor) -> Tensor:
    """Mean Q-score of well-built models of protein, or nucleic acid, in maps of a resolution.

    Source
    ------
    Lines through the models of EMDB that MapQ 2.9.7 prints, for a Gaussian of 0.6 Å.
    """
    protein = 1.1192 - 0.1775 * resolution_angstrom
    return torch.where(is_nucleic, 0.9973 - 0.1377 * resolution_angstrom, protein)


class _Sums:
    """Moments of density and Gaussian over the points of each atom."""

    def __init__(self, n: int, density: Tensor, gaussian: float, copies: int) -> None:
        one = torch.ones(n, dtype=torch.float64, device=density.device)
        d, g = density, gaussian * one
        self.moments = copies * torch.stack([one, d, g, d * d, g * g, d * g])

    def add(self, atoms: Tensor, density: Tensor, is_own: Tensor, gaussian: float) -> None:
        count = is_own.sum(1).double()
        d = (density.double() * is_own).sum(1)
        dd = (density.double().square() * is_own).sum(1)
        self.moments[:, atoms] += torch.stack([count, d, count * gaussian, dd, count * gaussian**2, d * gaussian])

    def correlation(self) -> Tensor:
        n, d, g, dd, gg, dg = self.moments
        covariance = dg - d * g / n
        variances = (dd - d * d / n).clamp(min=0) * (gg - g * g / n)
        is_flat = variances <= 1e-12
        return torch.where(is_flat, 0.0, covariance / variances.masked_fill(is_flat, 1.0).sqrt()).clamp(-1, 1)


def _add_shell(
    sums: _Sums,
    grid: DensityGrid,
    points: Tensor,
    around: Tensor,
    partners: Tensor,
    lengths: Tensor,
    radius: float,
    gaussian: float,
) -> None:
    """Points of one shell around every atom, more of them for those that share it with others."""
    n_near = (lengths < (1 + _OWN_SHARE) * radius).sum(1)
    pending = torch.arange(len(points), device=points.device)
    for attempt in range(_N_TRIES + 1):
        directions = _spiral(_POINTS + 2 * attempt).to(points.device)
        width = int(n_near[pending].max()) if len(pending) else 0
        block = max(1, _WORKING_ELEMENTS // (len(directions) * max(1, width)))
        left = []
        for atoms in pending.split(block):
            shell = points[atoms, None] + radius * directions
            is_own = _is_own(shell, around, partners[atoms, :width], _OWN_SHARE * radius)
            is_enough = (is_own.sum(1) >= _POINTS) | (attempt == _N_TRIES)
            left.append(atoms[~is_enough])
            if bool(is_enough.any()):
                density = grid.values_at(shell[is_enough])
                sums.add(atoms[is_enough], density, is_own[is_enough], gaussian)
        pending = torch.cat(left) if left else pending
        if len(pending) == 0:
            return


def _is_own(shell: Tensor, points: Tensor, partners: Tensor, reach: float) -> Tensor:
    """(atom, point) whether no partner (atom, partner) is nearer to the point than ``reach``."""
    if partners.shape[1] == 0:
        return torch.ones(shell.shape[:2], dtype=torch.bool, device=shell.device)
    away = torch.full((1, 3), 1e6, dtype=points.dtype, device=points.device)
    others = torch.cat([points, away])[partners]  # -1 is the last row
    distance = torch.cdist(shell, others, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance >= reach).all(-1)


@lru_cache(maxsize=128)
def _spiral(n: int) -> Tensor:
    """(n, 3) unit vectors (z, y, x) spread evenly over a sphere from pole to pole.

    Source
    ------
    Saff & Kuijlaars, Math. Intelligencer 1997, 19:5.
    """
    height = torch.linspace(-1, 1, n, dtype=torch.float64)
    step = 3.6 / (n * (1 - height.square())).clamp(min=1e-12).sqrt()
    step[0] = 0.0
    turn = step.cumsum(0)
    turn[-1] = 0.0
    across = (1 - height.square()).clamp(min=0).sqrt()
    return torch.stack([height, across * turn.sin(), across * turn.cos()], dim=-1)
