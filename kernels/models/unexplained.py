"""What a map shows beyond a model, and how likely atoms are to stand in it.

The model's density is scaled to the map shell by shell and taken away. What is left counts in units of its own noise:
each coefficient by the power that is left on its shell, so that errors of the model count as noise as well. Atoms that
are added then have a logarithm of their likelihood that is a sum over atoms less a sum over pairs of atoms, which is
all that peaks, ions and poses of ligands are judged by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients, spline_values
from kernels.specimen.potential import atomic_potential, scattering_factor

_PAIR_REACH_ANGSTROM = 30.0
_PAIR_STEP_ANGSTROM = 0.1
_N_PAIR_VECTORS = 60
_REFERENCE = "C"
"""The atom whose density is looked for; others count as multiples of it."""


@dataclass(frozen=True, eq=False)
class Unexplained:
    """Transform of map less model, with the scale and the noise of each shell."""

    difference: Tensor
    """(*half_shape) complex."""
    grid: DensityGrid
    """Where it lies; its voxels are those of map less model."""
    scale: Tensor
    """(shell,) of the map against the potential of a model in volts."""
    noise_power: Tensor
    """(shell,) mean square of a coefficient of the difference, as it is near the model, in the whole box."""
    resolution_angstrom: float

    def without(self, density: DensityGrid) -> Unexplained:
        """What is left when a density, on the same voxels and in volts, is explained as well; the noise stays."""
        shape = self.grid.voxels.shape
        taken = fourier.transform(density.voxels.float(), 3) * self.scale[fourier.shell_index(shape)]
        difference = self.difference - taken
        return replace(self, difference=difference, grid=self.grid.with_voxels(fourier.inverse(difference, shape)))


def unexplained(grid: DensityGrid, model_density: DensityGrid, near: Tensor, resolution_angstrom: float) -> Unexplained:
    """Map less model.

    Parameters
    ----------
    grid, model_density
        The map, and the potential of the model on the same voxels, with its B-factors and nothing cut off.
    near
        (z, y, x) soft mask around the model, inside of which scale and noise are taken: many maps are empty elsewhere.

    Source
    ------
    Difference of the kind of Yamashita et al., Acta Cryst. 2021, D77:1282, eq. 13; here its noise is what is left.
    """
    shape = grid.voxels.shape
    index = fourier.shell_index(shape)
    n_shells = int(index.max()) + 1
    weights = fourier.hermitian_weights(shape).expand(index.shape)
    observed = fourier.transform(grid.voxels.float(), 3)
    expected = fourier.transform(model_density.voxels.float(), 3)
    shown = fourier.transform(grid.voxels.float() * near, 3)
    cross = fourier.shell_sums((shown * expected.conj()).real * weights, index, n_shells)
    own = fourier.shell_sums(expected.abs().square() * weights, index, n_shells)
    scale = _smoothed(cross, own)
    difference = observed - expected * scale[index]
    voxels = fourier.inverse(difference, shape)
    return Unexplained(difference, grid.with_voxels(voxels), scale, _noise(voxels, near), resolution_angstrom)


def _noise(voxels: Tensor, near: Tensor) -> Tensor:
    """(shell,) mean square of a coefficient of the whole box, if it were everywhere as it is inside of a mask."""
    index = fourier.shell_index(voxels.shape)
    weights = fourier.hermitian_weights(voxels.shape).expand(index.shape)
    n_shells = int(index.max()) + 1
    power = fourier.transform(voxels * near, 3).abs().square() * weights
    n = fourier.shell_sums(weights, index, n_shells).clamp(min=1)
    return _smoothed(fourier.shell_sums(power, index, n_shells) / near.square().mean(), n)


def _smoothed(above: Tensor, below: Tensor) -> Tensor:
    """(shell,) ratio of sums over three shells."""
    kernel = torch.ones(1, 1, 3)

    def summed(values: Tensor) -> Tensor:
        return torch.nn.functional.conv1d(values.float()[None, None], kernel, padding=1)[0, 0]

    return summed(above) / summed(below).clamp(min=1e-30)


@dataclass(frozen=True, eq=False)
class AtomEvidence:
    """How much each place speaks for an atom there, and how much atoms take from one another.

    For atoms of weights w at places x the logarithm of the likelihood gains sum w · support(x) less half of the sum
    over all pairs of w w' pair(|x - x'|); the sum has an atom with itself once, and each other pair twice.
    """

    support: DensityGrid
    """(z, y, x) in nats of a carbon atom, as spline coefficients."""
    pairs: Tensor
    """(step,) in nats, at multiples of 0.1 Å."""

    @property
    def own(self) -> float:
        """Pair of an atom with itself: the square of the signal to noise of one carbon atom that is fully there."""
        return float(self.pairs[0])

    def at(self, places_angstrom: Tensor) -> Tensor:
        """(...) support at places (..., 3), differentiable."""
        return sampled(self.support.voxels, self.support.to_voxels(places_angstrom).float())

    def sigma(self) -> DensityGrid:
        """Support in standard deviations of its noise, on voxels."""
        return self.support.with_voxels(spline_values(self.support.voxels) / self.own**0.5)

    def pair(self, distance_angstrom: Tensor) -> Tensor:
        """(...) in nats at distances, linear between steps."""
        position = (distance_angstrom / _PAIR_STEP_ANGSTROM).clamp(max=len(self.pairs) - 1.001)
        lower = position.floor().long()
        return torch.lerp(self.pairs[lower], self.pairs[lower + 1], (position - lower).to(self.pairs.dtype))


def atom_evidence(found: Unexplained, b_factor_angstrom2: float) -> AtomEvidence:
    """Evidence for atoms of a B-factor in what a model leaves of a map."""
    grid = found.grid
    shape = grid.voxels.shape
    n_voxels = grid.voxels.numel()
    expected, weight = _expected_atom(found, b_factor_angstrom2)
    support = n_voxels * fourier.inverse(found.difference * expected * weight, shape)
    pairs = _pair_table(expected.square() * weight, shape, grid.voxel_size_angstrom)
    # the grid's elements are places: the transform's origin at n // 2 is that of the image, so nothing moves
    return AtomEvidence(grid.with_voxels(spline_coefficients(support)), pairs)


def _expected_atom(found: Unexplained, b_factor_angstrom2: float) -> tuple[Tensor, Tensor]:
    """(*half_shape) transform of one reference atom as the map shows it, and one over the noise; 0 out of the band."""
    shape, size = found.grid.voxels.shape, found.grid.voxel_size_angstrom
    frequency = fourier.frequency_length(shape, size)
    index = fourier.shell_index(shape)
    potential = atomic_potential(_REFERENCE, frequency, b_factor_angstrom2, is_in_ice=True)
    expected = found.scale[index] * potential / size**3
    used = (frequency < 1 / found.resolution_angstrom) & (found.scale[index] > 0) & (index > 0)
    weight = torch.where(used, 1 / found.noise_power[index].clamp(min=1e-30), 0.0)
    return expected, weight


def _pair_table(power: Tensor, shape: torch.Size, voxel_size_angstrom: float) -> Tensor:
    """(step,) sum of a power over all coefficients, times cos of the phase that a distance brings, by shells."""
    index = fourier.shell_index(shape)
    weights = fourier.hermitian_weights(shape).expand(index.shape)
    n_shells = int(index.max()) + 1
    total = fourier.shell_sums(power * weights, index, n_shells).double()
    radius = torch.arange(n_shells) / (max(shape) * voxel_size_angstrom)
    distance = torch.arange(int(_PAIR_REACH_ANGSTROM / _PAIR_STEP_ANGSTROM)) * _PAIR_STEP_ANGSTROM
    return (torch.sinc(2 * radius * distance[:, None]).double() * total).sum(1).float()


def element_weight(element: str, n_hydrogens: int, resolution_angstrom: float) -> float:
    """Scattering of an atom with its hydrogens in carbons, at half of the resolution's frequency."""
    frequency = torch.tensor(0.5 / resolution_angstrom)
    reference = scattering_factor(_REFERENCE, frequency)
    own = scattering_factor(element, frequency) + n_hydrogens * scattering_factor("H", frequency)
    return float(own / reference)


def half_of(found: Unexplained, half: DensityGrid, model_density: DensityGrid, near: Tensor) -> Unexplained:
    """The same of one half map: the scale is that of the whole map, the noise its own."""
    shape = half.voxels.shape
    expected = fourier.transform(model_density.voxels.float(), 3) * found.scale[fourier.shell_index(shape)]
    difference = fourier.transform(half.voxels.float(), 3) - expected
    voxels = fourier.inverse(difference, shape)
    return replace(found, difference=difference, grid=half.with_voxels(voxels), noise_power=_noise(voxels, near))
