"""Poses of a molecule in density that nothing explains yet: all orientations first, then the best ones in torsions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.atomic_model import AtomicModel
from kernels.models.ligand_template import LigandTemplate
from kernels.models.neighbours import pairs_within
from kernels.models.unexplained import AtomEvidence
from kernels.rotations import from_rotation_vector, rotation_grid

_GRID_ANGSTROM = 0.5
_CLASH_ANGSTROM = {"apolar": 3.2, "polar to apolar": 3.0, "polar": 2.5}
"""Nearer than this atoms that are not bound press on each other."""
_INNER_CLASH_ANGSTROM = 2.9
_CLASH_NATS_PER_ANGSTROM2 = 15.0
_COARSE_CLASH_SHARE = 0.3
"""Of a clash while nothing has been fitted: a pose half an ångström off may well clash."""
_STRAIN_RAD = math.radians(35)
_OCCUPANCY = (0.3, 1.3)
"""Share of a carbon of the surroundings' B-factor that atoms may have; below the first nothing is gained."""
_N_STEPS = 60
_WORKING_POSES = 50_000


@dataclass(frozen=True)
class SearchEffort:
    """How thoroughly poses are looked for."""

    n_poses: int = 1_200_000
    """That are looked at before any is fitted."""
    n_rigid: int = 800
    """Of these, fitted as they are."""
    n_flexible: int = 120
    """Of these, fitted with their torsions."""
    n_kept: int = 8


@dataclass(frozen=True, eq=False)
class Poses:
    """Places of one molecule, the likeliest first."""

    places_angstrom: Tensor
    """(pose, atom, 3)"""
    gain_nats: Tensor
    """(pose,) of the logarithm of the likelihood, by the density alone."""
    occupancy: Tensor
    """(pose,) by which the density is met best."""
    pressure_nats: Tensor
    """(pose,) of clashes with the surroundings and within the molecule."""

    def __len__(self) -> int:
        return len(self.gain_nats)

    def take(self, index: Tensor) -> Poses:
        """Some of them."""
        return Poses(*(values[index] for values in vars(self).values()))


class Crowd:
    """What stands around: how hard atoms of a molecule would press on it, on a grid."""

    def __init__(self, model: AtomicModel, low_angstrom: Tensor, high_angstrom: Tensor) -> None:
        shape = ((high_angstrom - low_angstrom) / _GRID_ANGSTROM).ceil().long() + 1
        axes = [torch.arange(int(n)) for n in shape]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).double() * _GRID_ANGSTROM
        points = points + low_angstrom
        reach = max(_CLASH_ANGSTROM.values())
        inside = ((model.coordinates_angstrom > low_angstrom - reach)
                  & (model.coordinates_angstrom < high_angstrom + reach)).all(-1)  # fmt: skip
        near = model.coordinates_angstrom[inside]
        polar = torch.tensor([e in ("N", "O") for e in model.elements], dtype=torch.bool)[inside]
        i, j, distance = pairs_within(points, near, reach)
        grids = []
        for kind in ("apolar", "polar"):
            limit = torch.full((len(near),), _CLASH_ANGSTROM["apolar"], dtype=torch.float64)
            if kind == "polar":
                limit[~polar] = _CLASH_ANGSTROM["polar to apolar"]
                limit[polar] = _CLASH_ANGSTROM["polar"]
            overlap = (limit[j] - distance).clamp(min=0).square()
            total = torch.zeros(len(points), dtype=torch.float64).index_add_(0, i, overlap)
            values = total.reshape(*shape.tolist()).float() * _CLASH_NATS_PER_ANGSTROM2
            grids.append(DensityGrid(values, _GRID_ANGSTROM, low_angstrom))
        self.apolar, self.polar = grids
        self._smooth = [spline_coefficients(grid.voxels) for grid in grids]

    def pressure(self, places_angstrom: Tensor, is_polar: Tensor) -> Tensor:
        """(pose,) in nats of atoms at places (pose, atom, 3); differentiable."""
        position = self.apolar.to_voxels(places_angstrom).float()
        last = torch.tensor(self.apolar.voxels.shape) - 1
        position = position.clamp(min=0).minimum(last.float())
        total = torch.zeros(len(places_angstrom))
        for smooth, chosen in zip(self._smooth, (~is_polar, is_polar)):
            if chosen.any():
                total = total + sampled(smooth, position[:, chosen]).clamp(min=0).sum(-1)
        return total


def gains(evidence: AtomEvidence, places_angstrom: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gain in nats (pose,) of atoms with weights (atom,) at (pose, atom, 3), and the occupancy that brings most."""
    support = (evidence.at(places_angstrom) * weights).sum(-1)
    own = _own_energy(evidence, places_angstrom, weights)
    occupancy = (support / own).clamp(*_OCCUPANCY)
    return occupancy * support - occupancy.square() / 2 * own, occupancy


def _own_energy(evidence: AtomEvidence, places_angstrom: Tensor, weights: Tensor) -> Tensor:
    apart = (places_angstrom[:, :, None] - places_angstrom[:, None]).square().sum(-1)
    distance = (apart + 1e-6).sqrt()
    return torch.einsum("pij,i,j->p", evidence.pair(distance).float(), weights, weights)


def searched(
    template: LigandTemplate,
    evidence: AtomEvidence,
    crowd: Crowd,
    anchors_angstrom: Tensor,
    weights: Tensor,
    generator: torch.Generator,
    effort: SearchEffort = SearchEffort(),
) -> Poses:
    """The likeliest poses whose middle lies at or near one of some places.

    Parameters
    ----------
    anchors_angstrom
        (anchor, 3) all over the density to be explained.
    weights
        (atom,) scattering of each atom in carbons (`unexplained.element_weight`).
    """
    conformers = template.conformers_angstrom - template.conformers_angstrom.mean(1, keepdim=True)
    conformer, turn, centre = _best_of_grid(template, conformers, evidence, crowd, anchors_angstrom, weights, effort)
    rigid = _Fit(template, evidence, crowd, weights, conformers[conformer], turn, centre)
    rigid.run(_N_STEPS // 2, is_flexible=False)
    best = rigid.costs().argsort()[: effort.n_flexible]
    flexible = rigid.continued(best)
    flexible.run(_N_STEPS, is_flexible=True)
    return flexible.poses().take(flexible.distinct()[: effort.n_kept])


def _best_of_grid(
    template: LigandTemplate,
    conformers: Tensor,
    evidence: AtomEvidence,
    crowd: Crowd,
    anchors: Tensor,
    weights: Tensor,
    effort: SearchEffort,
) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of conformers (pose,), turns (pose, 3, 3) and centres (pose, 3), looked up on a grid."""
    grid = crowd.apolar
    support = evidence.at(grid.to_angstrom(_indices(grid))).reshape(grid.voxels.shape)
    score = support.reshape(-1) - _COARSE_CLASH_SHARE * crowd.polar.voxels.reshape(-1).clamp(max=100)
    size = torch.tensor(grid.voxels.shape)
    n_turns = max(24, effort.n_poses // (len(conformers) * len(anchors)))
    turns = rotation_grid((8 * math.pi**2 / n_turns) ** (1 / 3)).double()
    own = _own_energy(evidence, conformers, weights)
    anchor_voxels = grid.to_voxels(anchors)
    found: list[tuple[Tensor, Tensor]] = []
    stride = torch.tensor([int(size[1] * size[2]), int(size[2]), 1])
    block = max(1, _WORKING_POSES // len(anchors))
    for c, conformer in enumerate(conformers):
        for first in range(0, len(turns), block):
            arms = conformer @ turns[first : first + block].mT / _GRID_ANGSTROM
            voxel = (arms[:, None] + anchor_voxels[:, None]).round().long()
            voxel = voxel.clamp(min=0).minimum(size - 1)
            values = score[(voxel * stride).sum(-1)]
            total = (values * weights).sum(-1).clamp(min=0)
            occupancy = (total / own[c]).clamp(*_OCCUPANCY)
            gain = (occupancy * total - occupancy.square() / 2 * own[c]).reshape(-1)
            best = gain.topk(min(effort.n_rigid, len(gain)))
            number = (c * len(turns) + first) * len(anchors) + best.indices
            found.append((best.values, number))
    gain, number = (torch.cat(parts) for parts in zip(*found))
    number = number[gain.topk(min(effort.n_rigid, len(gain))).indices]
    anchor, rest = number % len(anchors), number // len(anchors)
    return rest // len(turns), turns[rest % len(turns)], anchors[anchor]


def _indices(grid: DensityGrid) -> Tensor:
    return torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid.voxels.shape), indexing="ij"), -1).reshape(-1, 3)


class _Fit:
    """Poses that move together, each by itself, to where they gain most."""

    def __init__(
        self,
        template: LigandTemplate,
        evidence: AtomEvidence,
        crowd: Crowd,
        weights: Tensor,
        conformer: Tensor,
        turn: Tensor,
        centre: Tensor,
    ) -> None:
        self._about = (template, evidence, crowd, weights)
        self._start = (conformer @ turn.mT).float()
        n = len(conformer)
        self._centre = centre.float().clone()
        self._turn = torch.zeros(n, 3)
        self._torsions = torch.zeros(n, len(template.axes))

    def continued(self, chosen: Tensor) -> _Fit:
        """The fit of some of the poses, from where they are."""
        template, evidence, crowd, weights = self._about
        turned = self._start[chosen] @ from_rotation_vector(self._turn[chosen]).mT
        identity = torch.eye(3).expand(len(chosen), 3, 3)
        return _Fit(template, evidence, crowd, weights, turned, identity, self._centre[chosen])

    def places(self) -> Tensor:
        template = self._about[0]
        return template.placed(self._start, self._turn, self._torsions, self._centre)

    def run(self, n_steps: int, is_flexible: bool) -> None:
        moved = [(self._centre, 0.12), (self._turn, 0.06)]
        if is_flexible and self._torsions.shape[1]:
            moved.append((self._torsions, 0.08))
        for values, _ in moved:
            values.requires_grad_(True)
        optimizer = torch.optim.Adam([{"params": [values], "lr": rate} for values, rate in moved], betas=(0.8, 0.95))
        for step in range(n_steps):
            for group, (_, rate) in zip(optimizer.param_groups, moved):
                group["lr"] = rate * (1 - 0.9 * step / n_steps)
            optimizer.zero_grad()
            self._costs().sum().backward()
            optimizer.step()
        for values, _ in moved:
            values.requires_grad_(False)

    def _costs(self) -> Tensor:
        _, evidence, _, weights = self._about
        place = self.places()
        gain, _ = gains(evidence, place, weights)
        strain = (self._torsions / _STRAIN_RAD).square().sum(-1) / 2
        return self._pressure(place) + strain - gain

    def _pressure(self, place: Tensor) -> Tensor:
        template, _, crowd, _ = self._about
        apart = ((place[:, :, None] - place[:, None]).square().sum(-1) + 1e-6).sqrt()
        inner = ((_INNER_CLASH_ANGSTROM - apart).clamp(min=0).square() * template.is_apart).sum((1, 2)) / 2
        return crowd.pressure(place, template.is_polar) + _CLASH_NATS_PER_ANGSTROM2 * inner

    def costs(self) -> Tensor:
        """(pose,) in nats, the lower the better."""
        with torch.no_grad():
            return self._costs()

    def poses(self) -> Poses:
        _, evidence, _, weights = self._about
        with torch.no_grad():
            place = self.places()
            gain, occupancy = gains(evidence, place, weights)
            return Poses(place.double(), gain, occupancy, self._pressure(place))

    def distinct(self, least_rmsd_angstrom: float = 0.7) -> Tensor:
        """Indices of poses, the best first, that differ from all that are better."""
        order = self.costs().argsort()
        place = self.places().detach()[order]
        rmsd = torch.cdist(place.flatten(1), place.flatten(1)) / place.shape[1] ** 0.5
        kept: list[int] = []
        for row in range(len(order)):
            if not kept or float(rmsd[row, kept].min()) > least_rmsd_angstrom:
                kept.append(row)
        return order[kept]
