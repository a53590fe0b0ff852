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
    "F": ((0.1083, 0.3175, 0.6487, 0.5846, 0.1421), (0.2057, 1.3439, 4.2788, 11.3932, 28.7881)),
    "MG": ((0.2314, 0.6866, 0.9677, 2.1882, 1.1339), (0.3278, 2.2720, 10.9241, 39.2898, 101.9748)),
    "CL": ((0.2443, 0.5397, 1.3919, 2.0197, 0.6621), (0.2468, 1.5242, 6.1537, 16.6687, 42.3086)),
    "CA": ((0.4054, 1.3880, 2.1602, 3.7532, 2.2063), (0.3499, 3.0991, 11.9608, 53.9353, 142.3892)),
    "MN": ((0.3796, 1.2094, 1.7815, 2.5420, 1.5937), (0.2699, 2.0455, 7.4726, 31.0604, 91.5622)),
    "FE": ((0.3946, 1.2725, 1.7031, 2.3140, 1.4795), (0.2717, 2.0443, 7.6007, 29.9714, 86.2265)),
    "CU": ((0.4314, 1.3208, 1.5236, 1.4671, 0.8562), (0.2694, 1.9223, 7.3474, 28.9892, 90.6246)),
    "ZN": ((0.4288, 1.2646, 1.4472, 1.8294, 1.0934), (0.2593, 1.7998, 6.7500, 25.5860, 73.5284)),
    "SE": ((0.4477, 1.1678, 1.5843, 2.8087, 1.1956), (0.2405, 1.5442, 6.3231, 19.4610, 52.0233)),
    "BR": ((0.4798, 1.1948, 1.8695, 2.6953, 0.8203), (0.2504, 1.5963, 6.9653, 19.8492, 50.3233)),
    "I": ((0.7047, 1.9484, 2.5940, 4.1526, 1.5057), (0.2455, 1.8638, 6.7639, 21.8007, 56.4395)),
}
"""a (Å) and b (Å²) of f(s) = sum a exp(-b s²), s = 1 / 2d, up to 2 1/Å.

Source: Peng, Ren, Dudarev & Whelan, Acta Cryst. 1996, A52:257, table 1 (International Tables C, table 4.3.2.2).
"""

DISPLACED_VOLUME_ANGSTROM3 = {
    "H": 5.15, "C": 16.44, "N": 2.49, "O": 9.13, "P": 5.73, "S": 19.86, "MG": 17.16, "CA": 31.89, "MN": 9.20,
    "FE": 7.99, "CU": 8.78, "ZN": 9.85, "SE": 28.73, "F": 13.31, "CL": 22.45, "BR": 26.52, "I": 32.52,
}  # fmt: skip
"""Volume of solvent that an atom takes the place of.

Source: Fraser, MacRae & Suzuki, J. Appl. Cryst. 1978, 11:693; metals and selenium as in CRYSOL, Svergun et al., J.
Appl. Cryst. 1995, 28:768; halogens as spheres of Bondi's radii, J. Phys. Chem. 1964, 68:441.
"""

VOLT_ANGSTROM3_PER_ANGSTROM = 47.87801
"""h² / (2 pi m e): a scattering factor in Å times this is the volume integral of the potential in V Å³."""

WATER_MOLECULES_PER_ANGSTROM3 = 0.0314
"""Vitreous ice of 0.94 g/cm³."""

RIDING_B_ANGSTROM2 = 8 * math.pi**2 * 1.09**2 / 3
"""B-factor that stands for hydrogens at 1.09 Å all round the atom that carries them."""


_B_LEVELS_ANGSTROM2 = (
    0.0, 6.0, 12.0, 18.0, 25.0, 33.0, 42.0, 52.0, 64.0, 78.0, 95.0, 115.0, 140.0, 175.0, 220.0, 290.0, 400.0, 600.0,
)  # fmt: skip
"""Between two of them a fall-off is told by the mean of both: too much by at most 1 % of the peak of the atom."""


@dataclass(frozen=True)
class Atoms:
    """Heavy atoms with the hydrogens that ride on them."""

    coordinates_angstrom: Tensor
    """(n, 3) in (z, y, x), relative to the origin of the map."""
    elements: tuple[str, ...]
    """n symbols out of `PENG_COEFFICIENTS`."""
    n_hydrogens: Tensor
    """(n,) hydrogens bound to each atom."""
    b_factor_angstrom2: float | Tensor = 40.0
    """Of all atoms, or (n,) of each."""
    occupancy: Tensor | None = None
    """(n,) share of the molecules that have the atom; 1 where none is given."""

    def __post_init__(self) -> None:
        n = len(self.elements)
        if isinstance(self.b_factor_angstrom2, Tensor) and self.b_factor_angstrom2.shape != (n,):
            raise ValueError(f"{n} elements, but B-factors {tuple(self.b_factor_angstrom2.shape)}; expected ({n},)")
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
        """(element, indices, weights, B-factor in Å²) of each kind of atom, hydrogens last.

        An atom with a B-factor of its own is shared between the two levels about it.
        """
        symbols = sorted(set(self.elements))
        number = torch.tensor([symbols.index(e) for e in self.elements])
        kinds = []
        for i, symbol in enumerate(symbols):
            index = torch.nonzero(number == i).squeeze(1)
            for chosen, weights, level in self._levels(index):
                kinds.append((symbol, chosen, weights * self._occupancy(chosen), level))
        carriers = torch.nonzero(self.n_hydrogens > 0).squeeze(1)
        for chosen, weights, level in self._levels(carriers):
            weights = weights * self.n_hydrogens[chosen].float() * self._occupancy(chosen)
            kinds.append(("H", chosen, weights, level + RIDING_B_ANGSTROM2))
        return kinds

    def _occupancy(self, index: Tensor) -> Tensor:
        return torch.ones(len(index)) if self.occupancy is None else self.occupancy[index].float()

    def _levels(self, index: Tensor) -> list[tuple[Tensor, Tensor, float]]:
        """(indices, shares, B-factor) of some atoms at each B-factor that stands for them."""
        if len(index) == 0:
            return []
        if not isinstance(self.b_factor_angstrom2, Tensor):
            return [(index, torch.ones(len(index)), self.b_factor_angstrom2)]
        levels = torch.tensor(_B_LEVELS_ANGSTROM2)
        b = self.b_factor_angstrom2[index].float().clamp(0, _B_LEVELS_ANGSTROM2[-1])
        upper = torch.searchsorted(levels, b, right=True).clamp(max=len(levels) - 1)
        share = (b - levels[upper - 1]) / (levels[upper] - levels[upper - 1])
        found = []
        for k, level in enumerate(_B_LEVELS_ANGSTROM2):
            weights = torch.where(upper == k, share, 0.0) + torch.where(upper - 1 == k, 1 - share, 0.0)
            used = torch.nonzero(weights).squeeze(1)
            if len(used):
                found.append((index[used], weights[used], level))
        return found


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


def density_map(atoms: Atoms, n: int | Sequence[int], pixel_size_angstrom: float, *, is_in_ice: bool = True) -> Tensor:
    """(z, y, x) potential in V of ``atoms`` around element n // 2, band-limited to the grid.

    Memory: about 55 bytes a voxel, for the transforms of a grid 1.5 times as fine.

    Parameters
    ----------
    n
        Side of the map, or its shape.
    """
    shape = (n, n, n) if isinstance(n, int) else tuple(n)
    fine_shape = tuple(fourier.fast_size(math.ceil(1.5 * side)) for side in shape)
    fine_size = torch.tensor([side * pixel_size_angstrom / fine for side, fine in zip(shape, fine_shape)])
    grid = fourier.frequency_length(shape, pixel_size_angstrom)
    total = torch.zeros(grid.shape, dtype=torch.complex64)
    for element, index, weights, b_factor in atoms.kinds():
        # about element 0, where the transform has its origin: the grid is periodic
        deposited = deposit(atoms.coordinates_angstrom[index].float() / fine_size, weights, fine_shape)
        half = fourier.crop_transform(torch.fft.rfftn(deposited), fine_shape, shape)
        del deposited
        total += half * atomic_potential(element, grid, b_factor, is_in_ice=is_in_ice)
    ratios = [fine / side for side, fine in zip(shape, fine_shape)]
    return fourier.inverse(total / spline_response(shape, ratios), shape) / pixel_size_angstrom**3


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


def spline_response(shape: Sequence[int], supersampling: float | Sequence[float]) -> Tensor:
    """(\\*half_shape) transform of the spline of `deposit` on a grid ``supersampling`` times as fine as ``shape``."""
    per_axis = torch.sinc(fourier.frequencies(shape) / torch.as_tensor(supersampling)) ** 4
    return per_axis.prod(-1)
