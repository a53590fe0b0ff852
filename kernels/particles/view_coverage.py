"""How well the views of particles cover the map's Fourier space: what is seen often, seldom or never."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.rotations import symmetry_group

_N_DIRECTIONS = 2000
_SLAB = math.sin(math.radians(2.5))
"""Half of the thickness of a slice, as the sine of the angle: about that of one shell near half of the band."""
_SHARPNESS = 8
"""Power of the cosine by which views count for an axis that they look along."""
_SELDOM = 0.25
"""Of the mean."""
_VIEWS_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class ViewCoverage:
    """Of directions of Fourier space, and of views."""

    direction: Tensor
    """(direction, 3) unit vectors (z, y, x) over a half-sphere, each for the same solid angle."""
    sampling: Tensor
    """(direction,) slices of particles through each, 1 for the mean."""
    evenness: float
    """Harmonic over arithmetic mean of the sampling, 1 for views from everywhere; a direction that nothing samples
    counts as if a hundredth of the mean did."""
    seldom_share: float
    """Of directions that have less than a quarter of the mean."""
    weakest: Tensor
    """(3,) the direction around which sampling is least: views at right angles to it are missing."""
    preferred: Tensor
    """(3,) axis along which most views look."""
    preferred_share: float
    """Of views within 30 degrees of it; 0.13 of views from everywhere."""


def view_coverage(rotations: Tensor, symmetry: str = "C1") -> ViewCoverage:
    """Coverage by views (n, 3, 3), each from the map to the image in (z, y, x).

    Source
    ------
    Baldwin & Lyumkis 2020, Prog. Biophys. Mol. Biol. 150:160 (sampling of Fourier space by slices and its harmonic
    mean).

    Memory: 40 MB, whatever the number of views.
    """
    along = rotations[:, 0].double()  # the beam, in the frame of the map
    views = torch.einsum("oij,nj->oni", symmetry_group(symmetry).double(), along).reshape(-1, 3)
    direction = half_sphere(_N_DIRECTIONS).to(views)
    seen = views.new_zeros(len(direction))
    towards = views.new_zeros(len(direction))
    for some in views.split(_VIEWS_AT_ONCE):
        cosine = (direction @ some.T).abs()
        seen += torch.exp(-0.5 * (cosine / _SLAB) ** 2).sum(1)
        towards += (cosine**_SHARPNESS).sum(1)
    sampling = seen / seen.mean().clamp(min=1e-12)
    near = torch.exp(((direction @ direction.T) ** 2 - 1) / math.radians(15) ** 2)
    smooth = (near @ sampling) / near.sum(1)
    preferred = direction[towards.argmax()]
    return ViewCoverage(
        direction,
        sampling,
        float(1 / (1 / sampling.clamp(min=0.01)).mean()),
        float((sampling < _SELDOM).double().mean()),
        direction[smooth.argmin()],
        preferred,
        float(((views @ preferred).abs() > math.cos(math.radians(30))).double().mean()),
    )


def half_sphere(n: int) -> Tensor:
    """(n, 3) float64 directions spread evenly over a half-sphere about z, by the golden angle."""
    index = torch.arange(n, dtype=torch.float64)
    z = (index + 0.5) / n
    radius, angle = (1 - z**2).sqrt(), index * math.pi * (3 - math.sqrt(5))
    return torch.stack([z, radius * torch.sin(angle), radius * torch.cos(angle)], dim=1)
