"""Atoms to electrostatic potential: electron scattering factors, displaced solvent, maps.

The potential of an atom is the transform of its scattering factor, so atoms are deposited on a grid with B-spline
weights, one grid for each kind of atom, and each grid is multiplied by the scattering factor of its kind in Fourier
space. Nothing here is shared with the slices that reconstruction and refinement use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier

PENG_COEFFICIENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "H": ((0.0349, 0.1201, 0.1970, 0.0573, 0.1195), (0.5347, 3.5867, 12.3471, 18.9525, 38.6269)),
    "C": ((0.0893, 0.2563, 0.7570, 1.0487, 0.3575), (0.2465, 1.7100, 6.4094, 18.6113, 50.2523)),
    "N": ((0.1022, 0.3219, 0.7982, 0.8197, 0.1715), (0.2451, 1.7481, 6.1925, 17.3894, 48.1431)),
    "O": ((0.0974, 0.2921, 0.6910, 0.6990, 0.2039), (0.2067, 1.3815, 4.6943, 12.7105, 32.4726)),
    "P": ((0.2548, 0.6106, 1.4541, 2.3204, 0.8477), (0.2908, 1.8740, 8.5176, 24.3434, 63.2996)),
    "S": ((0.2497, 0.5628, 1.3899, 2.1865, 0.7715), (0.2681, 1.6711, 7.0267, 19.5377, 50.3888)),
}
"""a (Å) and b (Å²) of f(s) = sum a exp(-b s²), s = 1 / 2d, up to 2 1/Å.

Source: Peng, Ren, Dudarev & Whelan, Acta Cryst. 1996, A52:257, table 1 (International Tables C, table 4.3.2.2).
"""

DISPLACED_VOLUME_ANGSTROM3 = {"H": 5.15, "C": 16.44, "N": 2.49, "O": 9.13, "P": 5.73, "S": 19.86}
"""Volume of solvent that an atom takes the place of. Source: Fraser, MacRae & Suzuki, J. Appl. Cryst. 1978, 11:693."""

VOLT_ANGSTROM3_PER_ANGSTROM = 47.87801
"""h² / (2 pi m e): a scattering factor in Å times this is the volume integral of the potential in V Å³."""

WATER_MOLECULES_PER_ANGSTROM3 = 0.0314
"""Vitreous ice of 0.94 g/cm³."""

RIDING_B_ANGSTROM2 = 8 * math.pi**2 * 1.09**2 / 3
"""B-factor that stands for hydrogens at 1.09 Å all round the atom that carries them."""


@dataclass(frozen=True)
class Atoms:
    """Heavy atoms with the hydrogens that ride on them."""

    coordinates_angstrom: Tensor
    """(n, 3) in (z, y, x), relative to the origin of the map."""
    elements: tuple[str, ...]
    """n symbols out of `PENG_COEFFICIENTS`."""
    n_hydrogens: Tensor
    """(n,) hydrogens bound to each atom."""
    b_factor_angstrom2: float = 40.0

    def __post_init__(self) -> None:
        n = len(self.elements)
        if self.coordinates_angstrom.shape != (n, 3) or self.n_hydrogens.shape != (n,):
            raise ValueError(
                f"{n} elements, but coordinates {tuple(self.coordinates_angstrom.shape)} and hydrogens"
                f" {tuple(self.n_hydrogens.shape)}; expected ({n}, 3) and ({n},)"
            )
        for element in set(self.elements):
            if element not in PENG_COEFFICIENTS:
                raise ValueError(f"element {element!r} has no scattering factor; known: {', '.join(PENG_COEFFICIENTS)}")

    def __len__(self) -> int:
        return len(self.elements)

    def kinds(self) -> list[tuple[str, Tensor, Tensor, float]]:
        """(element, indices, weights, B-factor in Å²) of each kind of atom, hydrogens last."""
        symbols = sorted(set(self.elements))
        number = torch.tensor([symbols.index(e) for e in self.elements])
        kinds = []
        for i, symbol in enumerate(symbols):
            index = torch.nonzero(number == i).squeeze(1)
            kinds.append((symbol, index, torch.ones(len(index)), self.b_factor_angstrom2))
        carriers = torch.nonzero(self.n_hydrogens > 0).squeeze(1)
        if len(carriers):
            weights = self.n_hydrogens[carriers].float()
            kinds.append(("H", carriers, weights, self.b_factor_angstrom2 + RIDING_B_ANGSTROM2))
        return kinds


def scattering_factor(element: str, frequency_per_angstrom: Tensor) -> Tensor:
    """Elastic scattering factor in Å at frequencies 1 / d of any shape."""
    a, b = PENG_COEFFICIENTS[element]
    squared = frequency_per_angstrom**2 / 4
    return sum((ai * torch.exp(-bi * squared) for ai, bi in zip(a, b)), torch.zeros_like(squared))


def water_potential_volts() -> float:
    """Mean inner potential of vitreous ice made of neutral atoms: 4.6 V."""
    zero = torch.zeros(1)
    factor = scattering_factor("O", zero) + 2 * scattering_factor("H", zero)
    return WATER_MOLECULES_PER_ANGSTROM3 * VOLT_ANGSTROM3_PER_ANGSTROM * float(factor)


def atomic_potential(
    element: str, frequency_per_angstrom: Tensor, b_factor_angstrom2: float, *, is_in_ice: bool
) -> Tensor:
    """Transform of the potential of one atom in V Å³, less that of the ice it displaces when ``is_in_ice``.

    Source
    ------
    Displaced solvent as a Gaussian of the atom's volume: Fraser, MacRae & Suzuki 1978, eq. 6.
    """
    squared = frequency_per_angstrom**2
    potential = VOLT_ANGSTROM3_PER_ANGSTROM * scattering_factor(element, frequency_per_angstrom)
    if is_in_ice:
        volume = DISPLACED_VOLUME_ANGSTROM3[element]
        potential = potential - water_potential_volts() * volume * torch.exp(-math.pi * volume ** (2 / 3) * squared)
    return potential * torch.exp(-b_factor_angstrom2 * squared / 4)


def density_map(atoms: Atoms, n: int, pixel_size_angstrom: float, *, is_in_ice: bool = True) -> Tensor:
    """(n, n, n) potential in V of ``atoms`` around element n // 2, band-limited to the grid.

    Memory: about 60 n³ bytes, for the half-transforms of a grid 1.5 times as fine.
    """
    fine = fourier.fast_size(math.ceil(1.5 * n))
    fine_size = n * pixel_size_angstrom / fine
    fine_shape, shape = (fine,) * 3, (n,) * 3
    grid = fourier.frequency_length(shape, pixel_size_angstrom)
    total = torch.zeros(grid.shape, dtype=torch.complex64)
    for element, index, weights, b_factor in atoms.kinds():
        points = atoms.coordinates_angstrom[index].float() / fine_size + fine // 2
        deposited = deposit(points, weights, fine_shape)
        half = fourier.crop_transform(fourier.transform(deposited, 3), fine_shape, shape)
        total += half * atomic_potential(element, grid, b_factor, is_in_ice=is_in_ice)
    return fourier.inverse(total / spline_response(shape, fine / n), shape) / pixel_size_angstrom**3


def deposit(points_px: Tensor, weights: Tensor, shape: Sequence[int]) -> Tensor:
    """Grids on which points stand as cubic B-splines; the grid is periodic.

    Parameters
    ----------
    points_px
        (..., n, ndim) positions in px from element 0, slowest axis first.
    weights
        (n,) or (..., n) weight of each point; each grid sums to that of its weights.

    Returns
    -------
    (..., \\*shape) grids. Memory: 4^ndim numbers of 12 bytes a point.
    """
    ndim = len(shape)
    batch = points_px.shape[:-2]
    base = points_px.floor()
    spline = _cubic_spline(points_px - base)
    n_grids, size = math.prod(batch), math.prod(shape)
    index = torch.arange(n_grids, device=points_px.device).reshape(*batch, 1, *([1] * ndim)) * size
    values = weights[(..., *([None] * ndim))]
    taps = torch.arange(-1, 3, device=points_px.device)
    stride = size
    for axis, extent in enumerate(shape):
        stride //= extent
        view = [1] * ndim
        view[axis] = 4
        wrapped = (base[..., axis].long()[..., None] + taps) % extent
        index = index + (wrapped * stride).reshape(*points_px.shape[:-1], *view)
        values = values * spline[..., axis, :].reshape(*points_px.shape[:-1], *view)
    grids = torch.zeros(n_grids * size, dtype=points_px.dtype, device=points_px.device)
    grids.index_add_(0, index.reshape(-1), values.expand(index.shape).reshape(-1))
    return grids.reshape(*batch, *shape)


def _cubic_spline(fraction: Tensor) -> Tensor:
    """(..., 4) weights of the elements from floor - 1 to floor + 2."""
    f, g = fraction, 1 - fraction
    inner = torch.stack([4 - 6 * f**2 + 3 * f**3, 4 - 6 * g**2 + 3 * g**3], dim=-1)
    return torch.cat([(g**3)[..., None], inner, (f**3)[..., None]], dim=-1) / 6


def spline_response(shape: Sequence[int], supersampling: float) -> Tensor:
    """(\\*half_shape) transform of the spline of `deposit` on a grid ``supersampling`` times as fine as ``shape``."""
    per_axis = torch.sinc(fourier.frequencies(shape) / supersampling) ** 4
    return per_axis.prod(-1)
