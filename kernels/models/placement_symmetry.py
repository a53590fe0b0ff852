"""The symmetry that placed copies of one body have among each other: a point group, or a helix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.screws import Motion, Screw, screw_of
from kernels.rotations import from_rotation_vector, symmetry_group

_SAME_ANGSTROM, _NEAR_ANGSTROM = 6.0, 11.0
"""RMSD up to which a copy stands where the symmetry puts it, and where one that two copies tell puts it."""
_RING_RISE_ANGSTROM = 5.0
"""Along the axis, of what still counts as a mere turn."""
_LEAST_RISE_ANGSTROM = 2.0
"""From one copy of a helix to the next; what rises less goes around in a ring."""
_ANGLE_RAD = math.radians(12)
"""By which turns and axes may be off."""
_MOST_FOLD = 16
_FURTHEST = 40
"""Copies along a helix, up and down, that are looked at."""
_LEAST_PRESENT = 0.5
"""Of the copies that a point group asks for."""
_N_STEPS, _N_ROUNDS = 80, 3
_N_PLACES = 8
"""Of the body, that tell where a copy stands."""
_N_FIRST, _N_IMPROVED = 3, 3
"""Copies that the others are looked at from, as long as no symmetry is found; and symmetries that are improved."""


@dataclass(frozen=True, eq=False)
class PlacedSymmetry:
    """A symmetry, and which of the copies obey it."""

    name: str
    """C2, D3, T, O, I, or ``helical``."""
    operations: Motion
    """All of a point group; those of a helix between its first and last copy and one more at each end. They act on the
    copy ``first``."""
    first: int
    operation_of: Tensor
    """(copy,) int64, the operation that puts it there; -1 where none does."""
    screw: Screw
    """Of the highest axis, or of the helix."""
    error_angstrom: float
    """RMSD of the copies from where the operations put them."""

    @property
    def n_copies(self) -> int:
        return int((self.operation_of >= 0).sum())

    @property
    def missing(self) -> Tensor:
        """Operations that no copy stands for; of a helix, those at its ends last."""
        known = set(self.operation_of.tolist())
        return torch.tensor([k for k in range(len(self.operations.rotation)) if k not in known], dtype=torch.int64)


def symmetry_of(copies: Motion, places_angstrom: Tensor) -> PlacedSymmetry | None:
    """The symmetry that most copies of a body obey; None where no two of them are related by one.

    Copies may be lacking, up to half of those of a point group, and any of a helix.

    Parameters
    ----------
    copies
        (copy,) where each lies.
    places_angstrom
        (place, 3) of the body before it is placed.
    """
    n = len(copies.rotation)
    if n < 2:
        return None
    thin = places_angstrom[
        torch.linspace(0, len(places_angstrom) - 1, min(_N_PLACES, len(places_angstrom))).round().long()
    ]
    placed = copies.of(thin.double())
    middle = placed.mean((0, 1))
    found: list[PlacedSymmetry] = []
    for first in range(min(n, _N_FIRST)):
        relations = _relations(copies, middle, first)
        for name, operations, screw in itertools.chain(_point_groups(relations, n), _helices(relations)):
            one = _matched(name, operations, screw, placed, first, _NEAR_ANGSTROM)
            if _is_enough(one):
                found.append(one)
                if one.n_copies == n and _size(one) == n:
                    break
        if found:
            break
    # most copies, then the fewest operations that explain them, then the nearest fit
    better = [_settled(one, placed) for one in sorted(found, key=_rank)[:_N_IMPROVED]]
    return min((one for one in better if _is_enough(one)), key=_rank, default=None)


def _rank(one: PlacedSymmetry) -> tuple[float, ...]:
    return -one.n_copies, _size(one), one.error_angstrom


def _settled(one: PlacedSymmetry, placed: Tensor) -> PlacedSymmetry:
    """Improved until it explains no more copies: a helix told by two of them may miss those that are far off."""
    for _ in range(_N_ROUNDS):
        before, one = one.n_copies, _improved(one, placed)
        if one.n_copies <= before:
            break
    return one


def _is_enough(one: PlacedSymmetry) -> bool:
    if one.name == "helical":
        return one.n_copies >= 3
    return one.n_copies >= max(2, _LEAST_PRESENT * len(one.operations.rotation))


def _size(one: PlacedSymmetry) -> int:
    rows = one.operation_of[one.operation_of >= 0]
    return int(rows.max() - rows.min()) + 1 if one.name == "helical" else len(one.operations.rotation)


def _matched(
    name: str, operations: Motion, screw: Screw, placed: Tensor, first: int, within_angstrom: float
) -> PlacedSymmetry:
    """A symmetry with the copies that stand where its operations put one of them."""
    expected = operations.of(placed[first][None])
    far = (expected[:, None] - placed[None]).square().sum(-1).mean(-1).sqrt()
    nearest, operation = far.min(0)
    is_there = nearest < within_angstrom
    error = float(nearest[is_there].square().mean().sqrt())
    return PlacedSymmetry(name, operations, first, torch.where(is_there, operation, -1), screw, error)


def _relations(copies: Motion, middle: Tensor, first: int) -> list[Screw]:
    """How one copy leads to all others."""
    back = copies.take(first).inverse()
    others = [j for j in range(len(copies.rotation)) if j != first]
    return [screw_of(copies.take(j).after(back), middle) for j in others]


def _point_groups(relations: list[Screw], order: int) -> Iterator[tuple[str, Motion, Screw]]:
    turns = [s for s in relations if s.rise_angstrom < _RING_RISE_ANGSTROM and abs(s.angle_rad) > _ANGLE_RAD]
    rings: list[tuple[int, Screw]] = []
    for screw in turns:
        for fold in range(2, min(_MOST_FOLD, 2 * order) + 1):
            steps = round(abs(screw.angle_rad) * fold / (2 * math.pi))
            off = abs(abs(screw.angle_rad) - steps * 2 * math.pi / fold)
            if off < _ANGLE_RAD / 2 and math.gcd(steps, fold) == 1:
                rings.append((fold, screw))
                yield _about(f"C{fold}", _frame(screw.axis, None), screw)
    for name, size in (("T", 12), ("O", 24), ("I", 60)):
        if size <= 2 * order:
            yield from _cubic(name, turns)
    for fold, screw in rings:
        for other in turns:
            is_half = abs(abs(other.angle_rad) - math.pi) < _ANGLE_RAD
            if fold <= order and is_half and abs(float(other.axis @ screw.axis)) < math.sin(_ANGLE_RAD):
                yield _about(f"D{fold}", _frame(screw.axis, other.axis), screw, other)


def _cubic(name: str, turns: list[Screw]) -> Iterator[tuple[str, Motion, Screw]]:
    """A group with several high axes, laid over pairs of turns that were found."""
    zero = torch.zeros(3, dtype=torch.float64)
    ideal = [screw_of(Motion(rotation, zero), zero) for rotation in symmetry_group(name)[1:]]
    for one, two in itertools.combinations(turns, 2):
        between = abs(float(one.axis @ two.axis))
        if between > math.cos(_ANGLE_RAD):
            continue
        first = next((s for s in ideal if _is_like(s, one)), None)
        if first is None:
            continue
        for second in ideal:
            near = abs(math.acos(min(1.0, abs(float(first.axis @ second.axis)))) - math.acos(min(1.0, between)))
            if _is_like(second, two) and near < _ANGLE_RAD / 2:
                sign = math.copysign(1.0, float(one.axis @ two.axis) * float(first.axis @ second.axis))
                turn = _frame(one.axis, sign * two.axis) @ _frame(first.axis, second.axis).T
                yield _about(name, turn, one, two)


def _is_like(one: Screw, other: Screw) -> bool:
    return abs(abs(one.angle_rad) - abs(other.angle_rad)) < _ANGLE_RAD


def _frame(first: Tensor, second: Tensor | None) -> Tensor:
    """(3, 3) columns: takes z to the first direction and x as near to the second as it goes, in (z, y, x)."""
    other = torch.eye(3, dtype=torch.float64)[int(first.abs().argmin())] if second is None else second
    x = other - first * (first @ other)
    x = x / x.norm()
    # x, y, z are right-handed: y = z x x; in (z, y, x) order the cross product is that of the reversed vectors
    y = torch.linalg.cross(first.flip(0), x.flip(0)).flip(0)
    return torch.stack([first, y, x], dim=1)


def _about(name: str, turn: Tensor, one: Screw, two: Screw | None = None) -> tuple[str, Motion, Screw]:
    """A point group in an orientation, where the axes of one or two turns come nearest to each other."""
    centre = one.centre_angstrom if two is None else _crossing(one, two)
    rotation = turn @ symmetry_group(name) @ turn.T
    # the highest axis of each group lies along z, the first of (z, y, x)
    return name, Motion(rotation, centre - rotation @ centre), Screw(turn[:, 0], centre, 0.0, 0.0)


def _crossing(one: Screw, two: Screw) -> Tensor:
    eye = torch.eye(3, dtype=torch.float64)
    across = [eye - torch.outer(s.axis, s.axis) for s in (one, two)]
    target = across[0] @ one.centre_angstrom + across[1] @ two.centre_angstrom
    return torch.linalg.lstsq(across[0] + across[1], target[:, None], driver="gelsd").solution[:, 0]


def _helices(relations: list[Screw]) -> Iterator[tuple[str, Motion, Screw]]:
    steps = torch.arange(-_FURTHEST, _FURTHEST + 1)
    for screw in relations:
        if screw.rise_angstrom > _LEAST_RISE_ANGSTROM:
            yield "helical", screw.power(steps), screw


def _improved(one: PlacedSymmetry, placed: Tensor) -> PlacedSymmetry:
    """With its axes where all copies together say, and operations of a helix from end to end."""
    rows = torch.nonzero(one.operation_of >= 0).squeeze(1)
    number = one.operation_of[rows]
    is_helix = one.name == "helical"
    steps = number - int(number.min()) if is_helix else number
    origin = int(number.min()) if is_helix else 0
    turn = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    move = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    more = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    seen = placed[rows]

    def operations(at: Tensor) -> Motion:
        screw, small = one.screw, from_rotation_vector(turn * 0.05)
        centre = screw.centre_angstrom + move
        if is_helix:
            times = (at - (one.operation_of[one.first] - origin)).double()
            axis = small @ screw.axis
            rotation = from_rotation_vector(axis * (times * (screw.angle_rad + 0.05 * more[0]))[:, None])
            along = times[:, None] * (screw.rise_angstrom + more[1]) * axis
        else:
            rotation = small @ one.operations.rotation[at] @ small.T
            along = torch.zeros(3, dtype=torch.float64)
        return Motion(rotation, centre - rotation @ centre + along)

    optimizer = torch.optim.Adam([turn, move, more], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _N_STEPS)
    for _ in range(_N_STEPS):
        optimizer.zero_grad()
        found = operations(steps)
        # every copy, taken back, lies where the mean of all of them does
        back = found.inverse().of(seen)
        loss = (back - back.mean(0)).square().sum(-1).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        motions = operations(torch.arange(len(one.operations.rotation)))
        centre, axis = one.screw.centre_angstrom + move, from_rotation_vector(turn * 0.05) @ one.screw.axis
        angle, rise = one.screw.angle_rad, one.screw.rise_angstrom
        if is_helix:
            angle, rise = angle + 0.05 * float(more[0]), rise + float(more[1])
            angle = (angle + math.pi) % (2 * math.pi) - math.pi
        if rise < 0:
            axis, rise, angle = -axis, -rise, -angle
        screw = Screw(axis, centre, angle, rise)
        if not is_helix:
            return _matched(one.name, motions, screw, placed, one.first, _SAME_ANGSTROM)
        extended = _matched(
            one.name, screw.power(torch.arange(-_FURTHEST, _FURTHEST + 1)), screw, placed, one.first, _SAME_ANGSTROM
        )
        known = extended.operation_of[extended.operation_of >= 0]
        low, high = max(int(known.min()) - 1, 0), min(int(known.max()) + 1, 2 * _FURTHEST)
        ends = torch.arange(low, high + 1)
        of = torch.where(extended.operation_of >= 0, extended.operation_of - low, -1)
        return PlacedSymmetry(one.name, extended.operations.take(ends), one.first, of, screw, extended.error_angstrom)
