"""How likely a map is, given a model: errors of Fourier shells, brought back to atoms as a field and a pair force.

In Fourier space the energy is the sum over coefficients of |Fo - K Fc|² / sigma², K and sigma² told shell by shell
from the model at hand, so that a poor model trusts coarse shells only and nothing is left to weigh by hand. For atoms
of one shape the same sum is a field that every atom stands in, less a force between atoms that depends on distance
alone. That force is cut off at some Å, and the field is changed to match, so that the right model stays at rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import HYDROGENS
from kernels.models.mates import Mates, neighbourhood
from kernels.models.neighbours import pairs_within
from kernels.specimen.potential import deposit, spline_response

_MARGIN_ANGSTROM = 8.0
_MASK_SIGMA_ANGSTROM, _MASK_LEVEL = 2.0, 0.02
"""Atoms per Å³, blurred, from which on the map counts in full: about 2 Å outside of a protein's surface."""
_COARSEST_ANGSTROM = 15.0
_COPIES_ANGSTROM = 5.0
"""From an atom of a model, within which residues of its copies are part of what the map shows of it."""
_N_SHELLS = 16
_STEP_ANGSTROM = 0.02
_SKIN_ANGSTROM = 1.0
_STRENGTH = {"C": 2.51, "N": 2.21, "O": 1.98, "S": 5.16, "P": 5.49}
"""Scattering of electrons at zero angle, Å, for neutral atoms (sum of Peng's coefficients); others count as carbon."""
_HYDROGEN = 0.53


@dataclass(frozen=True, eq=False)
class MapLikelihood:
    """Negative logarithm of the likelihood of a map as a function of where atoms stand, up to a constant."""

    field: Tensor
    """(z, y, x) spline coefficients of what one unit of scattering gains."""
    grid: DensityGrid
    force: Tensor
    """(step, 2) energy of two units of scattering by distance, and its slope."""
    strength: Tensor
    """(atom,) scattering, 1 for carbon."""
    reach_angstrom: float

    def pairs(self, coordinates_angstrom: Tensor) -> tuple[Tensor, Tensor]:
        """(pair,) indices i < j of atoms that may come to feel each other."""
        i, j, _ = pairs_within(coordinates_angstrom, coordinates_angstrom, self.reach_angstrom + _SKIN_ANGSTROM)
        first = i < j
        return i[first], j[first]

    def __call__(self, coordinates_angstrom: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
        """Energy of all atoms; differentiable once."""
        own, shared = self.terms(coordinates_angstrom, pairs)
        return shared.sum() + own.sum()

    def terms(self, coordinates_angstrom: Tensor, pairs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(atom,) energy of each atom in the field, and (pair,) of each pair; what they add up to is differentiable."""
        i, j = pairs
        gained = sampled(self.field, self.grid.to_voxels(coordinates_angstrom)) * self.strength
        return -gained, self.shared(i, j, coordinates_angstrom[i] - coordinates_angstrom[j])

    def shared(self, i: Tensor, j: Tensor, apart_angstrom: Tensor) -> Tensor:
        """(pair,) energy of atoms i and j, one of them perhaps a copy, from the vectors (pair, 3) between them."""
        distance = apart_angstrom.square().sum(-1).clamp(min=1e-6).sqrt()
        felt: Tensor = _Tabulated.apply(self.force, distance)  # type: ignore[no-untyped-call]
        return felt * self.strength[i] * self.strength[j]

    def of(self, model: AtomicModel) -> MapLikelihood:
        """The same likelihood for other atoms: a part of the model, or what one part is replaced with."""
        return replace(self, strength=scattering_strength(model))


class _Tabulated(torch.autograd.Function):
    """A function of distance and its slope from a table, linear between its steps, 0 beyond it."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, distance: Tensor) -> Tensor:
        position = (distance / _STEP_ANGSTROM).clamp(max=len(table) - 1.001)
        lower = position.long()
        values = torch.lerp(table[lower], table[lower + 1], (position - lower)[:, None])
        ctx.save_for_backward(values[:, 1])
        return values[:, 0]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor]:
        (slope,) = ctx.saved_tensors
        return None, slope * upstream[0]


def map_likelihood(
    grid: DensityGrid, model: AtomicModel, resolution_angstrom: float, mates: Mates | None = None
) -> MapLikelihood:
    """The likelihood of a map near a model, with scale and error of each shell as the model tells them.

    Parameters
    ----------
    grid
        In the frame of the model; sharpened or not.
    mates
        Of a symmetric map: scale and errors are told with the copies that the map shows beside the model.

    Raises
    ------
    ValueError
        Where model and map agree in no shell.

    Source
    ------
    Gaussian likelihood of Fourier coefficients: Yamashita et al. 2021, Acta Cryst. D77:1282, eq. 3, with one shape
    of atom.
    """
    shown = model if mates is None else neighbourhood(model, mates, _COPIES_ANGSTROM).model
    seen = _seen(grid, shown)
    cut, shape, frequency, independent = seen.cut, seen.cut.voxels.shape, seen.frequency, seen.independent
    edges = torch.linspace(_COARSEST_ANGSTROM**-2, resolution_angstrom**-2, _N_SHELLS + 1)
    scale, error, _, _ = _shell_statistics(seen.observed, seen.calculated, frequency, edges)
    if not (scale > 0).any():
        raise ValueError("map and model agree in no shell; look at the map's origin, sign and hand")
    box = cut.voxels.numel() * cut.voxel_size_angstrom**3
    table, field_filter = _force_and_filter(scale, error, edges, resolution_angstrom, box, independent)
    gain = torch.fft.irfftn(seen.observed * field_filter(frequency), s=shape) * (independent * cut.voxels.numel())
    reach = (len(table) - 1) * _STEP_ANGSTROM
    return MapLikelihood(spline_coefficients(gain), cut, table, scattering_strength(model), reach)


def map_surprise(grid: DensityGrid, model: AtomicModel, resolution_angstrom: float) -> float:
    """Negative logarithm of a map's likelihood given a model, scale and errors at their best; lower is better.

    Counted from that of a model that says nothing: the sum over independent coefficients of log(1 - correlation²),
    shell by shell. Models of the same atoms may be compared, whatever scale and errors each was refined with.
    """
    seen = _seen(grid, model)
    edges = torch.linspace(_COARSEST_ANGSTROM**-2, resolution_angstrom**-2, _N_SHELLS + 1)
    _, error, power, count = _shell_statistics(seen.observed, seen.calculated, seen.frequency, edges)
    return float((count * (error / power).clamp(1e-9, 1).log()).sum()) * seen.independent


@dataclass(frozen=True, eq=False)
class _Seen:
    """Transforms of a masked map and of its model."""

    cut: DensityGrid
    observed: Tensor
    calculated: Tensor
    frequency: Tensor
    independent: float
    """Share of the coefficients that are independent: that of the mask in the box."""


def _seen(grid: DensityGrid, model: AtomicModel) -> _Seen:
    cut = _cut_around(grid, model.coordinates_angstrom)
    shape = cut.voxels.shape
    points = cut.to_voxels(model.coordinates_angstrom).float()
    strength = scattering_strength(model).float()
    frequency = fourier.frequency_length(shape, cut.voxel_size_angstrom)
    mask = _mask(deposit(points, torch.ones(len(points)), shape), frequency, cut.voxel_size_angstrom)
    outside = cut.voxels[mask < 0.05]
    level = outside.mean() if len(outside) else cut.voxels.min()
    observed = torch.fft.rfftn((cut.voxels - level) * mask)
    calculated = torch.fft.rfftn(deposit(points, strength, shape)) / spline_response(shape, 1.0)
    return _Seen(cut, observed, calculated, frequency, float(mask.mean()))


def scattering_strength(model: AtomicModel) -> Tensor:
    """(atom,) of each atom with the hydrogens that ride on it, times its occupancy; 1 for a bare carbon."""
    about = [model.residues[i].name for i in model.residue.tolist()]
    values = [
        (_STRENGTH.get(element, 2.51) + _HYDROGEN * HYDROGENS.get((residue, name), 0)) / _STRENGTH["C"]
        for residue, name, element in zip(about, model.names, model.elements)
    ]
    return torch.tensor(values, dtype=torch.float64) * model.occupancy.double()


def _cut_around(grid: DensityGrid, place: Tensor) -> DensityGrid:
    """The map within 8 Å of a model, and no further than it reaches."""
    points = grid.to_voxels(place)
    margin = _MARGIN_ANGSTROM / grid.voxel_size_angstrom
    whole = torch.tensor(grid.voxels.shape)
    low = (points.amin(0) - margin).floor().long().clamp(min=0)
    size = torch.minimum((points.amax(0) + margin).ceil().long() + 1, whole) - low
    if (size < 8).any():
        raise ValueError(f"the model lies outside of the map of {tuple(grid.voxels.shape)} voxels; look at its origin")
    size = torch.tensor([fourier.fast_size(int(n)) for n in size]).minimum(whole)
    low = torch.minimum(low, whole - size)
    z, y, x = (slice(int(a), int(a + n)) for a, n in zip(low, size))
    return replace(grid, voxels=grid.voxels[z, y, x].float(), origin_angstrom=grid.to_angstrom(low))


def _mask(atoms: Tensor, frequency: Tensor, voxel_size: float) -> Tensor:
    blur = torch.exp(-2 * (math.pi * _MASK_SIGMA_ANGSTROM * frequency) ** 2)
    density = torch.fft.irfftn(torch.fft.rfftn(atoms) * blur, s=atoms.shape) / voxel_size**3
    return (density / _MASK_LEVEL).clamp(0, 1)


def _shell_statistics(
    observed: Tensor, calculated: Tensor, frequency: Tensor, edges: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(shell,) scale K, at least 0; mean square error of a coefficient; its mean square; and number of coefficients."""
    shell = torch.bucketize(frequency**2, edges) - 1
    inside = (shell >= 0) & (shell < _N_SHELLS)
    index, fo, fc = shell[inside], observed[inside], calculated[inside]

    def mean(values: Tensor) -> Tensor:
        total = torch.zeros(_N_SHELLS, dtype=torch.float64).index_add_(0, index, values.double())
        return total / torch.bincount(index, minlength=_N_SHELLS).clamp(min=1)

    scale = (mean((fo * fc.conj()).real) / mean(fc.abs() ** 2).clamp(min=1e-30)).clamp(min=0)
    error = mean((fo - scale.to(fo.real.dtype)[index] * fc).abs() ** 2)
    count = torch.bincount(index, minlength=_N_SHELLS).double()
    floor = max(float(error.max()) * 1e-6, 1e-30)
    return scale, error.clamp(min=floor), mean(fo.abs() ** 2).clamp(min=floor), count


def _force_and_filter(
    scale: Tensor, error: Tensor, edges: Tensor, resolution: float, box: float, independent: float
) -> tuple[Tensor, Any]:
    """(step, 2) force between atoms and its slope; what the observed transform is multiplied with, by frequency."""
    finest = 1 / resolution
    s = torch.linspace(0, finest, 400, dtype=torch.float64)
    middle = ((edges[1:] + edges[:-1]) / 2).double()
    k = _between(middle, scale, s**2).clamp(min=float(scale.max()) * 1e-3)
    ideal = k**2 / _between(middle, error, s**2) * (s >= 1 / _COARSEST_ANGSTROM)
    ideal = ideal * 0.5 * (1 + torch.cos(math.pi * ((s / finest - 0.9) / 0.1).clamp(0, 1)))
    reach = min(max(1.4 * resolution, 4.0), 6.5)
    r = torch.arange(0, reach + _STEP_ANGSTROM, _STEP_ANGSTROM, dtype=torch.float64)
    kernel = torch.sinc(2 * s[:, None] * r)
    half = 0.5 * independent * box
    energy = half * torch.trapezoid((4 * math.pi * s**2 * ideal)[:, None] * kernel, s, dim=0)
    energy = energy * 0.5 * (1 + torch.cos(math.pi * ((r / reach - 0.5) / 0.5).clamp(0, 1)))
    kept = torch.trapezoid((4 * math.pi * r**2 * energy) * kernel, r, dim=1) / half  # the transform of what is left
    both = 2 * energy  # i with j and j with i
    slope = torch.gradient(both, spacing=_STEP_ANGSTROM)[0]
    over_scale = (kept / k) * 0.5 * (1 + torch.cos(math.pi * ((s / finest - 0.9) / 0.1).clamp(0, 1)))

    def field_filter(frequency: Tensor) -> Tensor:
        found = _between(s, over_scale, frequency.double().clamp(max=finest)) * (frequency <= finest)
        return found.to(frequency.dtype)

    return torch.stack([both, slope], -1), field_filter


def _between(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Values of y(x) at places, linear between the given ones and constant beyond them."""
    upper = torch.searchsorted(x, at.contiguous()).clamp(1, len(x) - 1)
    share = ((at - x[upper - 1]) / (x[upper] - x[upper - 1])).clamp(0, 1)
    return torch.lerp(y[upper - 1], y[upper], share)
