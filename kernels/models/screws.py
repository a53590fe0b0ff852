"""Rigid motions as turns about axes: their axes, angles and rises."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.rotations import from_rotation_vector


@dataclass(frozen=True, eq=False)
class Motion:
    """A place r goes to ``rotation @ r + shift_angstrom``, both (z, y, x)."""

    rotation: Tensor
    """(..., 3, 3) float64"""
    shift_angstrom: Tensor
    """(..., 3) float64"""

    def of(self, places_angstrom: Tensor) -> Tensor:
        """(..., place, 3) where places (place, 3), or (..., place, 3), go."""
        return places_angstrom @ self.rotation.mT + self.shift_angstrom[..., None, :]

    def after(self, first: Motion) -> Motion:
        """This one, done after another."""
        shift = (self.rotation @ first.shift_angstrom[..., None])[..., 0] + self.shift_angstrom
        return Motion(self.rotation @ first.rotation, shift)

    def inverse(self) -> Motion:
        """What undoes it."""
        back = self.rotation.mT
        return Motion(back, -(back @ self.shift_angstrom[..., None])[..., 0])

    def take(self, index: int | Tensor) -> Motion:
        """One or some of several."""
        return Motion(self.rotation[index], self.shift_angstrom[index])


@dataclass(frozen=True, eq=False)
class Screw:
    """A turn about an axis and a move along it."""

    axis: Tensor
    """(3,) of length 1, along which it does not go backwards."""
    centre_angstrom: Tensor
    """(3,) the place on the axis that is nearest to a given one."""
    angle_rad: float
    """From -pi to pi, positive to the right about the axis."""
    rise_angstrom: float

    def power(self, exponents: Tensor) -> Motion:
        """(n,) times, whole numbers of any sign."""
        rotation = from_rotation_vector(self.axis * (exponents.double() * self.angle_rad)[:, None])
        along = exponents.double()[:, None] * self.rise_angstrom * self.axis
        return Motion(rotation, self.centre_angstrom - rotation @ self.centre_angstrom + along)


def screw_of(motion: Motion, near_angstrom: Tensor) -> Screw:
    """A single motion as a screw, its centre beside a place (3,)."""
    rotation, shift = motion.rotation, motion.shift_angstrom
    angle = math.acos(max(-1.0, min(1.0, (float(rotation.trace()) - 1) / 2)))
    # the eigenvector to the eigenvalue 1; the antisymmetric part tells the sense, but vanishes at half a turn
    axis = torch.linalg.svd(rotation - torch.eye(3, dtype=rotation.dtype)).Vh[-1]
    sense = torch.stack(
        [rotation[1, 2] - rotation[2, 1], rotation[2, 0] - rotation[0, 2], rotation[0, 1] - rotation[1, 0]]
    )
    if float(axis @ sense) < 0:
        axis = -axis
    rise = float(axis @ shift)
    if rise < 0:
        axis, rise, angle = -axis, -rise, -angle
    across = shift - axis * rise - near_angstrom + rotation @ near_angstrom
    centre = (
        near_angstrom
        + torch.linalg.lstsq(torch.eye(3, dtype=rotation.dtype) - rotation, across[:, None], driver="gelsd").solution[
            :, 0
        ]
    )
    centre = centre - axis * (axis @ (centre - near_angstrom))
    return Screw(axis, centre, angle, rise)
