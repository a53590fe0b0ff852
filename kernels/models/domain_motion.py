"""How one domain moves against another: a turn about an axis and a shift along it, and the hinges between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.rigid_domains import RigidDomains

EFFECTIVE_HINGE_ANGSTROM = 5.5
"""Between a bending residue and the axis that makes the axis an effective hinge (Hayward & Lee, J. Mol. Graph. Model.
2002, 21:181)."""
_LONGEST_BEND = 30
"""Residues between two domains that still are one hinge; more are a part of their own."""
_SHORTEST_RUN = 4
"""Residues of a domain in a row; fewer that follow its motion lie near the axis, where all motions are alike."""
_LEAST_TURN_RAD = math.radians(0.1)
"""Below it no axis can be told, and the motion is a shift."""


@dataclass(frozen=True, eq=False)
class Screw:
    """A turn about an axis and a shift along it, which together are any motion of a rigid body (Chasles)."""

    angle_rad: float
    axis: Tensor
    """(3,) direction in (z, y, x); seen against it the turn is counterclockwise, in the right-handed frame x, y, z."""
    point_angstrom: Tensor
    """(3,) of the axis, in (z, y, x)."""
    shift_angstrom: float
    """Along the axis."""

    def distance(self, places: Tensor) -> Tensor:
        """(...) from places (..., 3) to the axis."""
        away = places - self.point_angstrom
        return (away - (away @ self.axis)[..., None] * self.axis).norm(dim=-1)


@dataclass(frozen=True, eq=False)
class Hinge:
    """Where the chain passes from one domain to another."""

    domains: tuple[int, int]
    """In the order of the chain."""
    first: int
    """Index of the last residue before it that belongs to the first domain."""
    last: int
    """Index of the first residue that belongs to the second one."""


def screw(rotation: Tensor, shift: Tensor, near: Tensor) -> Screw:
    """The screw of a motion.

    Parameters
    ----------
    rotation, shift
        (3, 3) and (1, 3) or (3,): rows in (z, y, x) times the rotation, plus the shift.
    near
        (3,) the point of the axis that lies nearest to it is told.
    """
    turn, shift, near = rotation.double().T.flip(0, 1), shift.double().reshape(3).flip(0), near.double().flip(0)
    skew = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    angle = math.atan2(float(skew.norm()), (float(turn.trace()) - 1) / 2)
    if angle < _LEAST_TURN_RAD:
        length = float(shift.norm())
        axis = shift / length if length > 0 else torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        return Screw(angle, axis.flip(0), near.flip(0), length)
    axis = torch.linalg.eigh((turn + turn.T) / 2).eigenvectors[:, 2]  # it alone is where the turn leaves it
    if float(axis @ skew) < 0 or (float(skew.norm()) < 1e-9 and float(axis[axis.abs().argmax()]) < 0):
        axis = -axis
    along = float(shift @ axis)
    across = shift - along * axis
    point = (across + torch.linalg.cross(axis, across) / math.tan(angle / 2)) / 2
    point = point + axis * (axis @ (near - point))
    return Screw(angle, axis.flip(0), point.flip(0), along)


def relative_screw(domains: RigidDomains, fixed: int, moving: int, near: Tensor) -> Screw:
    """How one domain moves where another is held still, in the frame of the first state."""
    back = domains.rotation[fixed].T
    return screw(domains.rotation[moving] @ back, (domains.shift[moving] - domains.shift[fixed]) @ back, near)


def closure_share(axis: Tensor, fixed: Tensor, moving: Tensor) -> float:
    """How much of a turn closes the gap between two centres (3,), or opens it; the rest twists about their line.

    Source
    ------
    Hayward, Proteins 1999, 36:425: the squared sine of the angle between the axis and the line of the centres.
    """
    line = moving - fixed
    return float(1 - (axis @ (line / line.norm().clamp(min=1e-9))) ** 2)


def hinges(domain: Tensor, chain: Tensor) -> list[Hinge]:
    """Where chains pass from one domain to another.

    Parameters
    ----------
    domain
        (residue,) of residues in the order of their chains, -1 for none.
    chain
        (residue,)
    """
    rows = torch.nonzero(domain >= 0).squeeze(1)
    run = torch.unique_consecutive(torch.stack([chain[rows], domain[rows]], 1), dim=0, return_inverse=True)[1]
    rows = rows[torch.bincount(run, minlength=1)[run] >= _SHORTEST_RUN]
    before, after = rows[:-1], rows[1:]
    passes = (domain[before] != domain[after]) & (chain[before] == chain[after]) & (after - before <= _LONGEST_BEND + 1)
    return [
        Hinge((int(domain[a]), int(domain[b])), a, b) for a, b in zip(before[passes].tolist(), after[passes].tolist())
    ]
