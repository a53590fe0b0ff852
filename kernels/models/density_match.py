"""How well atoms explain a map at some blur, with its slope: a pull by what the map shows and the atoms do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.cutting import coarser, cut_around
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled
from kernels.models.rigid_body import BELL
from kernels.specimen.potential import deposit, spline_response

_VOXELS_OF_RESOLUTION = 1 / 3
_INSIDE = 0.1
"""Of the strongest density of the first atoms: less is outside of them."""


@dataclass(frozen=True, eq=False)
class DensityMatch:
    """A blurred map that atoms are compared with."""

    grid: DensityGrid
    bell: Tensor
    """(half transform) of one atom, corrected for the spline that it is deposited as"""
    weights: Tensor
    """(atom,) how strongly each scatters"""
    size: float
    """Norm of the map where the first atoms are"""
    fixed: Tensor
    """(z, y, x) density of other molecules, which do not move"""

    def __call__(self, coordinates_angstrom: Tensor) -> Tensor:
        """Correlation with atoms (atom, 3) times a constant near 1; differentiable once.

        The constant is the share of the map around the atoms, so that other molecules in the box weaken nothing.
        """
        value: Tensor = _Matched.apply(self, self.grid.to_voxels(coordinates_angstrom))  # type: ignore[no-untyped-call]
        return value

    def density(self, coordinates_angstrom: Tensor) -> Tensor:
        """(z, y, x) of the atoms, and of the other molecules."""
        return self._density(self.grid.to_voxels(coordinates_angstrom))

    def _density(self, points: Tensor) -> Tensor:
        shape = self.grid.voxels.shape
        deposited = deposit(points.float(), self.weights, shape)
        return torch.fft.irfftn(torch.fft.rfftn(deposited) * self.bell, s=shape) + self.fixed


class _Matched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, match: DensityMatch, points: Tensor) -> Tensor:
        shown, seen = match._density(points), match.grid.voxels
        norm = shown.norm().clamp(min=1e-20)
        product = (shown * seen).sum()
        value = product / (norm * match.size)
        pull = (seen - (product / norm**2) * shown) / (norm * match.size)
        felt = torch.fft.irfftn(torch.fft.rfftn(pull) * match.bell, s=seen.shape)
        along = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad((sampled(felt, along) * match.weights).sum(), along)
        ctx.save_for_backward(gradient)
        return value.to(points.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * upstream[0]


def density_match(
    grid: DensityGrid,
    coordinates_angstrom: Tensor,
    weights: Tensor,
    resolution_angstrom: float,
    margin_angstrom: float,
    others: tuple[Tensor, Tensor] | None = None,
) -> DensityMatch:
    """A map around atoms at a resolution no better than its own, with the amplitudes that atoms have there.

    Parameters
    ----------
    coordinates_angstrom
        (atom, 3) where the atoms are thought to be.
    margin_angstrom
        Around them, within which they may move.
    others
        (atom, 3) Å and (atom,) weights of what else the map shows and is known already; it stays where it is.

    Memory: 40 bytes a voxel of a third of the resolution.

    Raises
    ------
    ValueError
        Where the map has no density at the atoms.
    """
    cut = cut_around(grid, coordinates_angstrom, margin_angstrom)
    voxel = _VOXELS_OF_RESOLUTION * resolution_angstrom
    if voxel > 1.05 * cut.voxel_size_angstrom:
        cut = coarser(cut, voxel)
    fast = [fourier.fast_size(n) for n in cut.voxels.shape]
    voxels = torch.zeros(fast)
    voxels[tuple(slice(0, n) for n in cut.voxels.shape)] = cut.voxels.float() - cut.voxels.float().mean()
    frequency = fourier.frequency_length(fast, cut.voxel_size_angstrom)
    bell = torch.exp(-2 * (torch.pi * BELL * resolution_angstrom * frequency) ** 2)
    bell[0, 0, 0] = 0  # the level of the solvent tells nothing
    box = replace(cut, voxels=voxels)
    match = DensityMatch(box, bell / spline_response(fast, 1.0), weights.float(), 1.0, torch.zeros(fast))
    atoms = match.density(coordinates_angstrom)
    matched = torch.fft.irfftn(_like(torch.fft.rfftn(voxels), torch.fft.rfftn(atoms), box), s=fast)
    if others is not None:
        points = box.to_voxels(others[0])
        is_inside = ((points > 0) & (points < torch.tensor(cut.voxels.shape) - 1)).all(1)
        known = replace(match, weights=others[1][is_inside].float())
        match = replace(match, fixed=known.density(others[0][is_inside]))
    inside = atoms > _INSIDE * atoms.max()
    size = float((matched * inside).norm())
    if not size > 0:
        raise ValueError("the map has no density where the model is; look at the map's origin, and at its sign")
    return replace(match, grid=box.with_voxels(matched), size=size)


def _like(observed: Tensor, calculated: Tensor, grid: DensityGrid) -> Tensor:
    """The map's transform with the power that atoms have on each shell."""
    shape = grid.voxels.shape
    index = fourier.shell_index(shape)
    n_shells = int(index.max()) + 1
    weights = fourier.hermitian_weights(shape).expand(index.shape)
    ours, theirs = (
        fourier.shell_sums(t.abs() ** 2 * weights, index, n_shells).double() for t in (calculated, observed)
    )
    ratio = (ours / theirs.clamp(min=float(theirs.max()) * 1e-12)).sqrt()
    return observed * ratio.to(observed.real.dtype)[index]
