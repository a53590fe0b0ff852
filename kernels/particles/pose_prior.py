"""Poses that are expected near known ones: how far, as a Gaussian whose widths follow from the particles themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.rotations import to_rotation_vector

_N_STEPS = 200
_NARROWEST = 1e-3
"""Standard deviation, in radians or pixels, that counts as no movement at all."""


@dataclass(frozen=True)
class PosePrior:
    """Gaussians about known poses, the same for all particles."""

    rotation: Tensor
    """(pose, 3, 3)"""
    shift_px: Tensor
    """(pose, 2)"""
    turn_rad: float
    """Standard deviation of turns about each axis."""
    move_px: float
    """The same of shifts along each axis."""

    def select(self, index: Tensor | slice) -> PosePrior:
        """Of some of the particles, repeated where the index repeats them."""
        return PosePrior(self.rotation[index], self.shift_px[index], self.turn_rad, self.move_px)

    @property
    def precision(self) -> Tensor:
        """(5,) one over the variance of turns (z, y, x) and shifts (y, x)."""
        width = self.rotation.new_tensor([self.turn_rad] * 3 + [self.move_px] * 2)
        return width.clamp(min=_NARROWEST) ** -2

    def deviation(self, rotation: Tensor, shift_px: Tensor) -> Tensor:
        """(pose, 5) turns in the frame of the image (z, y, x), rad, and shifts (y, x), px, from the known poses."""
        return torch.cat([to_rotation_vector(rotation @ self.rotation.mT), shift_px - self.shift_px], dim=-1)

    def penalty(self, rotation: Tensor, shift_px: Tensor) -> Tensor:
        """(pose,) what a log-likelihood loses."""
        return 0.5 * (self.deviation(rotation, shift_px).square() * self.precision).sum(-1)


def prior_widths(
    deviation: Tensor, precision: Tensor, prior: PosePrior, widest: tuple[float, float]
) -> tuple[float, float]:
    """Widths (rad, px) of the prior under which the images are most likely, by expectation maximisation.

    Likelihoods of poses are taken as Gaussians about what the images alone say. Where particles deviate by no more
    than their images leave open, the widths go to zero.

    Parameters
    ----------
    deviation
        (pose, 5) of the best poses under the prior, see `PosePrior.deviation`.
    precision
        (pose, 5, 5) of their likelihood alone, see `likelihood.pose_precision`.
    prior
        Under which the poses were found.
    widest
        Widths (rad, px) that are not exceeded.

    Source
    ------
    Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39:1; the Gaussian is Laplace's.
    """
    deviation, precision = deviation.double(), precision.double()
    weighted = (precision + torch.diag(prior.precision.to(deviation))) @ deviation[..., None]
    most = deviation.new_tensor([widest[0]] * 3 + [widest[1]] * 2).square()
    variance = most
    for _ in range(_N_STEPS):
        covariance = torch.linalg.inv(precision + torch.diag(1 / variance))
        mean = (covariance @ weighted)[..., 0]
        second = (mean.square() + covariance.diagonal(dim1=-2, dim2=-1)).mean(0)
        pooled = torch.cat([second[:3].mean().expand(3), second[3:].mean().expand(2)])
        variance = torch.minimum(pooled, most).clamp(min=_NARROWEST**2)
    return float(variance[0].sqrt()), float(variance[-1].sqrt())
