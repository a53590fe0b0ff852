"""Real-space refinement: atoms move up the density, as far as chemistry lets them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import dihedral_rad
from kernels.models.map_likelihood import MapLikelihood
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within
from kernels.models.nucleotide_restraints import polymer_restraints
from kernels.models.restraints import Restraints, near_in_bonds, riding_hydrogens, room_kind, room_table
from kernels.models.riding_hydrogens import Meetings, RidingHydrogens
from kernels.models.torsions import RAMACHANDRAN_STEP_DEG, ramachandran_surprise

_STEPS_PER_LIST = 30
_MARGIN_ANGSTROM = 10.0
_NEAR_ANGSTROM = 2.0
_LEAST_SINE = 0.3
_ROOM_SIGMA = 0.2
_HYDROGEN_SIGMA = 0.1
_LIST_REACH_ANGSTROM = 1.5
"""Pairs this much further apart than they need room are listed, since atoms move between lists."""


@dataclass(frozen=True)
class DensityTarget:
    """Density around a model as a spline, on a scale that does not depend on the map's."""

    coefficients: Tensor
    grid: DensityGrid

    def __call__(self, coordinates_angstrom: Tensor) -> Tensor:
        """(...) density at positions (..., 3), with gradients; 0 is the map's mean, 1 a strong place in the model."""
        return sampled(self.coefficients, self.grid.to_voxels(coordinates_angstrom))


def density_target(grid: DensityGrid, around_angstrom: Tensor, blur_angstrom2: float = 0.0) -> DensityTarget:
    """The part of a map around some places, blurred, on a scale of its own.

    Parameters
    ----------
    around_angstrom
        (n, 3) where the model is thought to be; the scale comes from the density within 2 Å of it.
    blur_angstrom2
        B-factor that the map is multiplied with; it widens the reach of gradients.
    """
    points = grid.to_voxels(around_angstrom)
    margin = _MARGIN_ANGSTROM / grid.voxel_size_angstrom
    low = (points.amin(0) - margin).floor().long().clamp(min=0)
    high = torch.minimum((points.amax(0) + margin).ceil().long() + 1, torch.tensor(grid.voxels.shape))
    if (high - low < 4).any():
        raise ValueError(
            f"the model lies outside of the map: it spans voxels {points.amin(0).round().tolist()} to"
            f" {points.amax(0).round().tolist()} of {tuple(grid.voxels.shape)}; look at the map's origin"
        )
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high))
    voxels = grid.voxels[z, y, x].float() - grid.voxels.float().mean()
    if blur_angstrom2:
        frequency = fourier.frequency_length(voxels.shape, grid.voxel_size_angstrom)
        half = torch.fft.rfftn(voxels) * torch.exp(-blur_angstrom2 * frequency**2 / 4)
        voxels = torch.fft.irfftn(half, s=voxels.shape)
    cut = replace(grid, voxels=voxels, origin_angstrom=grid.to_angstrom(low))
    coefficients = spline_coefficients(voxels)
    shell = torch.randn(len(points), 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near = around_angstrom[:, None].double() + _NEAR_ANGSTROM * shell / shell.norm(dim=-1, keepdim=True).clamp(min=1)
    values = sampled(coefficients, cut.to_voxels(near)).flatten()
    strong = float(values.kthvalue(max(1, int(0.9 * len(values)))).values)
    if not strong > 0:
        raise ValueError("the map has no density where the model is; look at the map's sign and origin")
    return DensityTarget(coefficients / strong, cut)


@dataclass(frozen=True)
class Weights:
    """How much each kind of knowledge counts; all of them are negative logarithms of probability."""

    geometry: float = 1.0
    """Of distances and volumes."""
    density: float = 0.5
    """The likelihood takes atoms for alike and errors for independent, and so believes the map too much."""
    ramachandran: float = 1.0
    room: float = 2.0
    staggered: float = 1.0
    hydrogens: float = 0.0
    """Of hydrogens that overlap; they are left out where it is 0"""


@dataclass(frozen=True, eq=False)
class Refinement:
    """Where atoms came to lie, and what drives them still."""

    model: AtomicModel
    energy: dict[str, float]


def refined_in_real_space(
    model: AtomicModel,
    likelihood: MapLikelihood,
    weights: Weights = Weights(),
    n_steps: int = 60,
    is_linked: Tensor | None = None,
    is_free: Tensor | None = None,
    mates: Mates | None = None,
) -> Refinement:
    """Minimise the map's and the restraints' surprise, that of Ramachandran, and crowding, by L-BFGS.

    Parameters
    ----------
    n_steps
        In rounds of 30, between which the list of near atoms is made anew.
    is_linked
        (residue,) as in `nucleotide_restraints.polymer_restraints`.
    is_free
        (atom,) which atoms may move; all when None. Energies between others are left out.
    mates
        Of a symmetric map: atoms keep off those of the copies as well, which move as they do.
    """
    restraints = polymer_restraints(model, is_linked)
    field = _Field(model, restraints, likelihood, weights, is_free, mates)
    place = model.coordinates_angstrom
    energy: dict[str, float] = {}
    for _ in range(max(1, math.ceil(n_steps / _STEPS_PER_LIST))):
        field.list_neighbours(place)
        place, energy = _descended(field, place)
    return Refinement(model.at(place), energy)


def energies(
    model: AtomicModel,
    likelihood: MapLikelihood,
    weights: Weights = Weights(),
    is_linked: Tensor | None = None,
    mates: Mates | None = None,
) -> dict[str, float]:
    """What is minimised, of a model as it stands."""
    field = _Field(model, polymer_restraints(model, is_linked), likelihood, weights, mates=mates)
    field.list_neighbours(model.coordinates_angstrom)
    return {name: float(value) for name, value in field(model.coordinates_angstrom).items()}


def energies_of_groups(
    model: AtomicModel,
    likelihood: MapLikelihood,
    group: Tensor,
    weights: Weights = Weights(),
    is_linked: Tensor | None = None,
    mates: Mates | None = None,
) -> Tensor:
    """(group,) what is minimised, of the atoms of each group and of what they share with all others.

    Parameters
    ----------
    group
        (atom,) index, -1 for atoms of none. What two groups share is counted for both.
    """
    field = _Field(model, polymer_restraints(model, is_linked), likelihood, weights, group >= 0, mates)
    field.list_neighbours(model.coordinates_angstrom)
    total = torch.zeros(int(group.max()) + 1 if len(group) else 0, dtype=torch.float64)
    for _, values, atoms in field.terms(model.coordinates_angstrom):
        owner = group[atoms]
        for column in range(owner.shape[1]):
            own = owner[:, column]
            counted = (own >= 0) & (own[:, None] != owner[:, :column]).all(1)
            total.index_add_(0, own[counted], values[counted].double())
    return total


def _descended(field: _Field, start: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Coordinates (atom, 3) after a round of L-BFGS, and the energies that it ended with."""
    free = (start if field.is_free is None else start[field.is_free]).clone().requires_grad_()

    def placed() -> Tensor:
        return free if field.is_free is None else start.index_put((field.is_free,), free)

    optimizer = torch.optim.LBFGS(
        [free], max_iter=_STEPS_PER_LIST, history_size=12, line_search_fn="strong_wolfe", tolerance_change=1e-9
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = torch.stack(list(field(placed()).values())).sum()
        total.backward()
        return total

    optimizer.step(closure)
    place = placed().detach()
    return place, {name: float(value) for name, value in field(place).items()}


class _Field:
    """The energy of a model's coordinates, in parts."""

    def __init__(
        self,
        model: AtomicModel,
        restraints: Restraints,
        likelihood: MapLikelihood,
        weights: Weights,
        is_free: Tensor | None = None,
        mates: Mates | None = None,
    ) -> None:
        self._restraints = restraints if is_free is None else restraints.touching(is_free)
        self._likelihood, self._weights = likelihood, weights
        self.is_free = is_free
        """(atom,) which atoms may move, and whose energies are told; all when None."""
        self._bound = near_in_bonds(restraints.bonds, len(model))
        self._kind = room_kind(model.elements, riding_hydrogens(model))
        self._surprise = ramachandran_surprise()
        self._pairs = self._touching(*likelihood.pairs(model.coordinates_angstrom))
        self._i = self._j = torch.zeros(0, dtype=torch.int64)
        self._room = torch.zeros(0, dtype=torch.float64)
        self._mates = mates if mates is not None and len(mates) > 1 else None
        self._own = self._copied = self._operation = self._i
        self._shown = self._i, self._i, self._i
        self._model = model
        self._riding: RidingHydrogens | None = None
        self._meetings: Meetings | None = None

    def list_neighbours(self, place: Tensor) -> None:
        self._pairs = self._touching(*self._likelihood.pairs(place))
        i, j, distance = pairs_within(place, place, float(room_table().max()) + _LIST_REACH_ANGSTROM)
        room = room_table()[self._kind[i], self._kind[j]]
        free = (i < j) & (distance < room + _LIST_REACH_ANGSTROM) & ~torch.isin(i * len(place) + j, self._bound)
        self._i, self._j = self._touching(i[free], j[free])
        self._room = room_table()[self._kind[self._i], self._kind[self._j]]
        if self._mates is not None:
            self._list_mates(place, self._mates)
        if self._weights.hydrogens:
            self._list_hydrogens(place)

    def _list_hydrogens(self, place: Tensor) -> None:
        """Hydrogens are placed anew, and turned to where they have room; until the next list they ride."""
        self._riding = riding = RidingHydrogens.of(self._model.at(place))
        met = riding.meetings(place, self._mates)
        if self.is_free is not None:
            is_free = self.is_free[riding.carrier]
            met = met.take(is_free[met.first] | is_free[met.second])
        self._meetings = met

    def _crowding_of_hydrogens(self, place: Tensor, riding: RidingHydrogens, met: Meetings) -> Tensor:
        """(meeting,) energy of hydrogens that overlap with others, or with other atoms."""
        everywhere = riding.places(place)
        second = everywhere[met.second]
        if self._mates is not None:
            second = self._mates.moved(met.operation, second)
        gap = (everywhere[met.first] - second).norm(dim=-1)
        return met.share * 0.5 * ((met.room_angstrom - gap).clamp(min=0) / _HYDROGEN_SIGMA).square()

    def _list_mates(self, place: Tensor, mates: Mates) -> None:
        others = mates.of(place)[1:].reshape(-1, 3)
        reach = max(float(room_table().max()), self._likelihood.reach_angstrom) + _LIST_REACH_ANGSTROM
        i, row, distance = pairs_within(place, others, reach)
        operation, j = row // len(place) + 1, row % len(place)
        if self.is_free is not None:
            free = self.is_free[i] | self.is_free[j]
            i, j, operation, distance = i[free], j[free], operation[free], distance[free]
        room = room_table()[self._kind[i], self._kind[j]]
        near = distance < room + _LIST_REACH_ANGSTROM
        self._shown = i, j, operation
        self._own, self._copied, self._operation, self._mate_room = i[near], j[near], operation[near], room[near]

    def _touching(self, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_free is None:
            return i, j
        kept = self.is_free[i] | self.is_free[j]
        return i[kept], j[kept]

    def _crowding_of_mates(self, place: Tensor, mates: Mates) -> Tensor:
        """(meeting,) half of the energy of two copies that meet: each meeting is listed from both sides."""
        copies = mates.moved(self._operation, place[self._copied])
        overlap = (self._mate_room - (place[self._own] - copies).norm(dim=-1)).clamp(min=0) / _ROOM_SIGMA
        return 0.5 * 0.5 * overlap.square()

    def __call__(self, place: Tensor) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for name, values, _ in self.terms(place):
            total[name] = total[name] + values.sum() if name in total else values.sum()
        return total

    def terms(self, place: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """Name, (term,) energies and (term, n) atoms of each kind of knowledge."""
        r, weights = self._restraints, self._weights
        first, second = place[r.pairs[:, 0]], place[r.pairs[:, 1]]
        distance = ((first - second).norm(dim=-1) - r.pair_angstrom) / r.pair_sigma
        centre, a, b, c = place[r.corners].unbind(1)
        volume = ((a - centre) * torch.linalg.cross(b - centre, c - centre)).sum(-1)
        corner = (volume - r.corner_volume) / r.corner_sigma
        overlap = (self._room - (place[self._i] - place[self._j]).norm(dim=-1)).clamp(min=0) / _ROOM_SIGMA
        own, shared = self._likelihood.terms(place, self._pairs)
        atom = torch.arange(len(place))
        if self.is_free is not None:
            own, atom = own[self.is_free], atom[self.is_free]
        found = [
            ("distances", weights.geometry * 0.5 * distance.square(), r.pairs),
            ("volumes", weights.geometry * 0.5 * corner.square(), r.corners),
            ("room", weights.room * 0.5 * overlap.square(), torch.stack([self._i, self._j], -1)),
            ("density", weights.density * own, atom[:, None]),
            ("density", weights.density * shared, torch.stack(self._pairs, -1)),
        ]
        if self._mates is not None and len(self._own):
            meeting = weights.room * self._crowding_of_mates(place, self._mates)
            found.append(("room", meeting, torch.stack([self._own, self._copied], -1)))
        if self._mates is not None and len(self._shown[0]):
            i, j, operation = self._shown
            apart = place[i] - self._mates.moved(operation, place[j])
            # half: each two copies that meet are listed from both sides
            shown = 0.5 * weights.density * self._likelihood.shared(i, j, apart)
            found.append(("density", shown, torch.stack([i, j], -1)))
        if self._riding is not None and self._meetings is not None:
            met, carrier = self._meetings, self._riding.carrier
            overlap = weights.hydrogens * self._crowding_of_hydrogens(place, self._riding, met)
            found.append(("hydrogens", overlap, torch.stack([carrier[met.first], carrier[met.second]], -1)))
        if weights.ramachandran and len(r.backbone):
            before, nitrogen, alpha, carbon, after = place[r.backbone].flip(-1).unbind(1)
            phi, psi = dihedral_rad(before, nitrogen, alpha, carbon), dihedral_rad(nitrogen, alpha, carbon, after)
            surprise = _smooth(self._surprise, r.ramachandran, phi, psi)
            is_told = (
                _is_bent(before, nitrogen, alpha) & _is_bent(nitrogen, alpha, carbon) & _is_bent(alpha, carbon, after)
            )
            found.append(("ramachandran", weights.ramachandran * surprise[is_told], r.backbone[is_told]))
        if weights.staggered and len(r.staggered):
            chi = dihedral_rad(*place[r.staggered].flip(-1).unbind(1))
            a, b, c, d = place[r.staggered].unbind(1)
            is_told = _is_bent(a, b, c) & _is_bent(b, c, d)
            found.append(("staggered", weights.staggered * (1 + torch.cos(3 * chi[is_told])), r.staggered[is_told]))
        return found


def _is_bent(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """(...) whether three atoms make a corner about which a torsion is told; its slope has no end where they do not."""
    sine = torch.linalg.cross(b - a, c - b).norm(dim=-1) / ((b - a).norm(dim=-1) * (c - b).norm(dim=-1)).clamp(min=1e-9)
    return sine.detach() > _LEAST_SINE


def _smooth(tables: Tensor, row: Tensor, phi_rad: Tensor, psi_rad: Tensor) -> Tensor:
    """(n,) cubic B-spline over the cells of (row, phi, psi), periodic; it smooths by one cell or so."""
    n = tables.shape[1]
    values = torch.zeros((), dtype=phi_rad.dtype)
    weights, cells = [], []
    for angle in (phi_rad, psi_rad):
        position = torch.rad2deg(angle) / RAMACHANDRAN_STEP_DEG + n / 2 - 0.5  # centres of cells
        base = position.detach().floor()
        f = position - base
        g = 1 - f
        spline = torch.stack([g**3, 4 - 6 * f**2 + 3 * f**3, 4 - 6 * g**2 + 3 * g**3, f**3], -1) / 6
        weights.append(spline)
        cells.append((base.long()[:, None] + torch.arange(-1, 3)) % n)
    values = tables[row[:, None, None], cells[0][:, :, None], cells[1][:, None, :]]
    return torch.einsum("npq,np,nq->n", values, *weights)
