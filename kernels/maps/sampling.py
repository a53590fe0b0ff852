"""Density at any place, with its gradient: cubic B-splines through the voxels, or straight lines between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from kernels import fourier
from kernels.interpolation import spline_response
from kernels.maps.grid import DensityGrid

_WORKING_ELEMENTS = 8_000_000
"""Taps that are gathered at once."""


def spline_coefficients(voxels: Tensor) -> Tensor:
    """(z, y, x) coefficients whose cubic B-spline passes through every voxel of a periodic map."""
    return torch.fft.irfftn(torch.fft.rfftn(voxels) / _response(voxels), s=voxels.shape)


def spline_values(coefficients: Tensor) -> Tensor:
    """(z, y, x) voxels that the spline of `spline_coefficients` passes through."""
    return torch.fft.irfftn(torch.fft.rfftn(coefficients) * _response(coefficients), s=coefficients.shape)


def _response(voxels: Tensor) -> Tensor:
    """(z, y, x // 2 + 1) of the spline in all three directions."""
    response = torch.ones((), device=voxels.device)
    frequency = fourier.frequencies(voxels.shape, device=voxels.device)
    for axis in range(3):
        response = response * spline_response(frequency[..., axis])
    return response


def sampled(coefficients: Tensor, points_px: Tensor) -> Tensor:
    """(...) density at positions (..., 3) in voxels; differentiable once with respect to the positions.

    Beyond its edges the map is periodic.

    Parameters
    ----------
    coefficients
        (z, y, x) of `spline_coefficients`.
    """
    values: Tensor = _Sampled.apply(coefficients, points_px.reshape(-1, 3))  # type: ignore[no-untyped-call]
    return values.reshape(points_px.shape[:-1])


def linear_values(grid: DensityGrid, coordinates_angstrom: Tensor) -> Tensor:
    """(...) density at positions (..., 3) in Å, linear between the voxels, 0 outside of the map; differentiable."""
    voxels = grid.voxels
    last = torch.tensor(voxels.shape, device=voxels.device) - 1
    # grid_sample thinks in (x, y, z) from -1 to 1 between the middles of the first and the last voxel
    places = (grid.to_voxels(coordinates_angstrom) * (2 / last) - 1).flip(-1).to(voxels.dtype)
    found = grid_sample(voxels[None, None], places.reshape(1, -1, 1, 1, 3), align_corners=True)
    return found.reshape(places.shape[:-1])


class _Sampled(torch.autograd.Function):
    """The gradient is made with the value, from the same taps, so that nothing of 64 times the points is kept."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, points_px: Tensor) -> Tensor:
        chunk = max(1, _WORKING_ELEMENTS // 64)
        parts = [_value_and_gradient(coefficients, some) for some in points_px.split(chunk)]
        values = torch.cat([value for value, _ in parts]) if parts else points_px.new_zeros(0)
        gradient = torch.cat([gradient for _, gradient in parts]) if parts else points_px.new_zeros(0, 3)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * upstream[0][:, None]


def _value_and_gradient(coefficients: Tensor, points_px: Tensor) -> tuple[Tensor, Tensor]:
    shape = coefficients.shape
    base = points_px.floor()
    fraction = (points_px - base).to(coefficients.dtype)
    taps = torch.arange(-1, 3, device=points_px.device)
    index = (base.long()[..., None] + taps) % torch.tensor(shape, device=points_px.device)[:, None]
    flat = (index[:, 0, :, None, None] * shape[1] + index[:, 1, None, :, None]) * shape[2] + index[:, 2, None, None, :]
    density = coefficients.reshape(-1)[flat]
    weight, slope = _taps(fraction)
    along_x = torch.einsum("pzyx,ptx->ptzy", density, torch.stack([weight[:, 2], slope[:, 2]], 1))
    along_y = torch.einsum("pzy,pty->ptz", along_x[:, 0], torch.stack([weight[:, 1], slope[:, 1]], 1))
    slope_x = torch.einsum("pzy,py,pz->p", along_x[:, 1], weight[:, 1], weight[:, 0])
    value = (along_y[:, 0] * weight[:, 0]).sum(-1)
    slope_z = (along_y[:, 0] * slope[:, 0]).sum(-1)
    slope_y = (along_y[:, 1] * weight[:, 0]).sum(-1)
    gradient = torch.stack([slope_z, slope_y, slope_x], dim=-1)
    return value.to(points_px.dtype), gradient.to(points_px.dtype)


def _taps(fraction: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4) weights of the voxels from floor - 1 to floor + 2, and their slopes."""
    f, g = fraction, 1 - fraction
    weight = torch.stack([g**3, 4 - 6 * f**2 + 3 * f**3, 4 - 6 * g**2 + 3 * g**3, f**3], dim=-1) / 6
    slope = torch.stack([-3 * g**2, -12 * f + 9 * f**2, 12 * g - 9 * g**2, 3 * f**2], dim=-1) / 6
    return weight, slope
