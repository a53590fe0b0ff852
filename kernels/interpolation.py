"""Splines and sampling: cubic B-splines on uniform control points, and images sampled at displaced positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

_BLOCK_PX = 32
"""A displacement component counts as constant across this many pixels of the other axis."""

_HALF_WIDTH_PX = 6
"""Reach of the windowed sinc: an image keeps 0.99 of its amplitude up to 0.8 of Nyquist."""


def spline_basis(position: Tensor, n_control: int, derivative: int = 0) -> Tensor:
    """Weights of the control points of a cubic B-spline that spans [0, 1].

    With fewer than four control points the spline is one polynomial, of degree ``n_control - 1``.

    Parameters
    ----------
    position
        (...) positions; outside [0, 1] the polynomial of the last interval goes on.
    derivative
        0, 1 or 2, with respect to ``position``.

    Returns
    -------
    (..., n_control) weights, which add up to 1 (to 0 for a derivative).
    """
    degree = min(3, n_control - 1)
    n_intervals = n_control - degree
    scaled = position * n_intervals
    interval = scaled.floor().clamp(0, n_intervals - 1)
    local = (scaled - interval).unsqueeze(-1)
    matrix = _SPLINE_MATRICES[degree].to(position)
    powers = []
    for exponent in range(degree + 1):
        factor = math.perm(exponent, derivative) if exponent >= derivative else 0
        powers.append(factor * local ** max(exponent - derivative, 0))
    values = torch.cat(powers, dim=-1) @ matrix * float(n_intervals) ** derivative
    index = interval.long().unsqueeze(-1) + torch.arange(degree + 1, device=position.device)
    weights = torch.zeros(*position.shape, n_control, dtype=position.dtype, device=position.device)
    return weights.scatter_(-1, index, values)


_SPLINE_MATRICES = (
    torch.tensor([[1.0]], dtype=torch.float64),
    torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64),
    torch.tensor([[1.0, 1.0, 0.0], [-2.0, 2.0, 0.0], [1.0, -2.0, 1.0]], dtype=torch.float64) / 2,
    torch.tensor(
        [[1.0, 4.0, 1.0, 0.0], [-3.0, 0.0, 3.0, 0.0], [3.0, -6.0, 3.0, 0.0], [-1.0, 3.0, -3.0, 1.0]],
        dtype=torch.float64,
    )
    / 6,
)
"""Row: power of the position within an interval; column: control point."""


def spline_response(frequency: Tensor) -> Tensor:
    """Transfer function of sampled cubic B-splines at ``frequency`` in cycles per sample; divide by it to prefilter."""
    return (2 + torch.cos(2 * torch.pi * frequency)) / 3


def spline_field(control: Tensor, position_y: Tensor, position_x: Tensor) -> Tensor:
    """(y, x, component) values on the grid of two axes from (k_y, k_x, component) control points.

    The positions span [0, 1] from the first pixel's edge to the last pixel's edge.
    """
    basis_y = spline_basis(position_y, control.shape[0])
    basis_x = spline_basis(position_x, control.shape[1])
    return torch.einsum("ya,xb,abc->yxc", basis_y, basis_x, control)


def sample_displaced(image: Tensor, control_px: Tensor) -> Tensor:
    """Image whose pixel p holds the value at p + displacement(p); zero is assumed outside.

    A smooth displacement lets the two axes be sampled one after the other, each in blocks of 32 pixels whose
    displacement varies along the sampled axis only: a windowed sinc of 12 taps as one small matrix product a block.

    Parameters
    ----------
    image
        (y, x), mean near zero, or its edges show where the displacement points outside.
    control_px
        (k_y, k_x, 2) control points of the displacement (y, x), as in `spline_field`.
    """
    n_y, n_x = image.shape
    centres_y = _block_centres(n_y, image)
    centres_x = _block_centres(n_x, image)
    pixels_y = (torch.arange(len(centres_y) * _BLOCK_PX, device=image.device, dtype=image.dtype) + 0.5) / n_y
    pixels_x = (torch.arange(len(centres_x) * _BLOCK_PX, device=image.device, dtype=image.dtype) + 0.5) / n_x
    along_y = spline_field(control_px[..., :1], pixels_y, centres_x)[..., 0]
    along_x = spline_field(control_px[..., 1:], centres_y, pixels_x)[..., 0]
    padded = pad(image, (0, len(pixels_x) - n_x, 0, len(pixels_y) - n_y))
    moved = _sample_first_axis(padded, along_y)
    return _sample_first_axis(moved.T, along_x.T).T[:n_y, :n_x]


def _block_centres(n: int, like: Tensor) -> Tensor:
    n_blocks = -(-n // _BLOCK_PX)
    return (torch.arange(n_blocks, device=like.device, dtype=like.dtype) + 0.5) * _BLOCK_PX / n


def _sample_first_axis(image: Tensor, displacement: Tensor) -> Tensor:
    """(y, x) image sampled at y + displacement; both axes whole blocks, displacement (y, x / block)."""
    block = _BLOCK_PX
    margin = int(displacement.abs().max().ceil()) + _HALF_WIDTH_PX
    n_y, n_x = image.shape
    window = block + 2 * margin
    padded = pad(image, (0, 0, margin, margin))
    out = image.new_empty(n_y, n_x)
    # (block, window) whole-pixel distance from a sample's own pixel
    step = torch.arange(window, device=image.device) - margin - torch.arange(block, device=image.device)[:, None]
    sign = (1 - 2 * (step % 2)).to(image.dtype)
    distance = step.to(image.dtype)
    for start in range(0, n_y, block):  # one row of blocks stays in cache
        weights = _sinc_weights(displacement[start : start + block].T, distance, sign)
        columns = padded[start : start + window].reshape(window, n_x // block, block).transpose(0, 1)
        out[start : start + block] = torch.bmm(weights, columns).transpose(0, 1).reshape(block, n_x)
    return out


def _sinc_weights(displacement: Tensor, distance: Tensor, sign: Tensor) -> Tensor:
    """(strip, block, window) weights for displacements (strip, block); each row adds up to 1.

    sin(pi (n - v)) is ± sin(pi v): one sine a sample instead of one a weight.
    """
    whole = displacement.round()
    rest = displacement - whole
    rest = torch.where(rest.abs() < 1e-4, torch.full_like(rest, 1e-4), rest)
    offset = distance - (whole + rest)[..., None]
    squared = offset.square().div_(_HALF_WIDTH_PX**2)
    taper = squared.neg_().add_(1).clamp_(min=0)
    weights = taper.square_().mul_(sign).div_(offset)  # (1 - d²/a²)² is close to a Kaiser window
    return weights.div_(weights.sum(-1, keepdim=True))
