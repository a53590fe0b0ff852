"""Power spectra of micrographs: averaged over tiles, in polar bins, and what they tell of drift and ice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier

FINEST_RESOLUTION_ANGSTROM = 2.8
"""Spectra are used to here, or to Nyquist: as in CTFFIND, and far enough to see the ice ring at 3.7 Å."""

SMALLEST_SIDE_PX = 128

_LARGEST_TILE_PX = 2048
_TAPER = 0.05
"""Share of a tile's side over which each edge fades."""


@dataclass(frozen=True)
class PowerSpectrum:
    """Power of a micrograph, one for white noise of its own variance."""

    power: Tensor
    """(y, x_half) in rfft order, for an image of ``shape`` pixels of ``pixel_size_angstrom``."""
    shape: tuple[int, int]
    pixel_size_angstrom: float
    n_tiles: int
    """How many it is the mean of."""


@dataclass(frozen=True)
class PolarSpectrum:
    """A power spectrum averaged in bins of direction and frequency; opposite directions are one."""

    power: Tensor
    """(direction, shell)"""
    n_pixels: Tensor
    """(direction, shell) coefficients in each bin; 0 where the bin is empty."""
    frequency_per_angstrom: Tensor
    """(direction, shell, 2) mean frequency vector (y, x) of each bin, of the root mean square length."""

    @property
    def shell_frequency_per_angstrom(self) -> Tensor:
        """(shell,) mean length in each shell."""
        length = self.frequency_per_angstrom.norm(dim=-1)
        return (length * self.n_pixels).sum(0) / self.n_pixels.sum(0).clamp(min=1)

    @property
    def angle_rad(self) -> Tensor:
        """(direction, shell) from x towards y."""
        return torch.atan2(self.frequency_per_angstrom[..., 0], self.frequency_per_angstrom[..., 1])

    @property
    def profile(self) -> Tensor:
        """(shell,) power averaged over all directions."""
        return (self.power * self.n_pixels).sum(0) / self.n_pixels.sum(0).clamp(min=1)

    def between(self, low_per_angstrom: float, high_per_angstrom: float) -> PolarSpectrum:
        """Only the shells in a range of frequencies."""
        length = self.shell_frequency_per_angstrom
        kept = (length >= low_per_angstrom) & (length <= high_per_angstrom) & (self.n_pixels.sum(0) > 0)
        return PolarSpectrum(self.power[:, kept], self.n_pixels[:, kept], self.frequency_per_angstrom[:, kept])


def averaged_power_spectrum(micrograph: Tensor, pixel_size_angstrom: float) -> PowerSpectrum:
    """Power spectrum of the whole micrograph, or the mean of those of tiles of up to 2048 px.

    Nothing is averaged here that need not be: bins of direction and frequency do that later, and neither narrow
    rings nor the area near the edges are lost as they are in many small windowed tiles. On noise with faint rings
    (1100 × 1200 Å) the astigmatism error is 90 to 110 Å this way, 160 Å with half-overlapping Hann tiles of 512 Å.

    Memory: `spectrum_memory_bytes`.

    Parameters
    ----------
    micrograph
        (y, x), finite. Values beyond six standard deviations are cut off.
    """
    if min(micrograph.shape) < SMALLEST_SIDE_PX:
        raise ValueError(
            f"a power spectrum needs {SMALLEST_SIDE_PX} px or more along each axis, found {tuple(micrograph.shape)}"
        )
    deviation, mean = torch.std_mean(micrograph)
    image = ((micrograph - mean) / deviation).clamp(-6, 6)
    sides = [_tile_side(n) for n in micrograph.shape]
    window = _taper(sides[0], image)[:, None] * _taper(sides[1], image)
    window = window / window.square().sum().sqrt()
    corners = [(y, x) for y in _starts(image.shape[0], sides[0]) for x in _starts(image.shape[1], sides[1])]
    power = torch.zeros(sides[0], sides[1] // 2 + 1, device=image.device)
    for y, x in corners:
        tile = image[y : y + sides[0], x : x + sides[1]]
        coefficients = torch.view_as_real(torch.fft.rfft2((tile - tile.mean()) * window))
        power += coefficients.square().sum(-1)
    return PowerSpectrum(power / len(corners), (sides[0], sides[1]), pixel_size_angstrom, len(corners))


def spectrum_memory_bytes(n_px: int) -> int:
    """Peak of `averaged_power_spectrum` and of a CTF fit, the micrograph included; measured from 1.5 to 24 Mpx."""
    return int(1.1 * (8.8 * n_px + 40e6 + min(160e6, 60 * n_px)))


def _tile_side(n: int) -> int:
    """Longest quick FFT size whose tiles, overlapping by little, cover ``n`` pixels."""
    longest = min(n, math.ceil(n / math.ceil(n / _LARGEST_TILE_PX) * (1 + _TAPER)))
    side = longest - longest % 2
    while fourier.fast_size(side) != side:
        side -= 2
    return side


def _starts(n: int, side: int) -> list[int]:
    count = math.ceil(n / _LARGEST_TILE_PX)
    if count == 1:
        return [(n - side) // 2]
    return [round(i * (n - side) / (count - 1)) for i in range(count)]


def _taper(n: int, like: Tensor) -> Tensor:
    width = max(1, round(n * _TAPER))
    place = torch.arange(n, device=like.device, dtype=like.dtype) + 0.5
    distance = torch.minimum(place, n - place) / width
    return torch.sin(0.5 * math.pi * distance.clamp(max=1)).square()


def square_spectrum(spectrum: PowerSpectrum, n: int = 512) -> Tensor:
    """(n, n // 2 + 1) amplitude over its radial trend, less one, as of an ``n`` × ``n`` image: for looking at.

    Same Nyquist frequency as the micrograph, rfft order; zero where nothing was measured.
    """
    device = spectrum.power.device
    place = (fourier.frequencies(spectrum.shape, device=device) * n).round().long()
    index = (place[..., 0] % n) * (n // 2 + 1) + place[..., 1]
    sums = torch.zeros(2, n * (n // 2 + 1), device=device)
    sums.index_add_(1, index.reshape(-1), torch.stack([spectrum.power, torch.ones_like(spectrum.power)]).flatten(1))
    power = (sums[0] / sums[1].clamp(min=1)).reshape(n, n // 2 + 1)
    shell = fourier.shell_index((n, n), device=device)
    counts = fourier.shell_sums((sums[1] > 0).to(power).reshape_as(power), shell, int(shell.max()) + 1)
    profile = fourier.shell_sums(power, shell, len(counts)) / counts.clamp(min=1)
    width = 2 * (n // 32) + 1
    trend = torch.nn.functional.avg_pool1d(profile[None], width, 1, width // 2, count_include_pad=False)[0]
    return torch.where(power > 0, (power / trend.clamp(min=1e-30)[shell]).sqrt() - 1, torch.zeros_like(power))


def polar_spectrum(spectrum: PowerSpectrum, n_directions: int = 60, extent_angstrom: float = 720.0) -> PolarSpectrum:
    """The spectrum in bins of direction and frequency, shells ``1 / extent_angstrom`` wide.

    The lines along the axes are left out: edges and bad detector rows and columns put power there that is none of
    the specimen's. The extent is cut to that of the image where this is smaller.
    """
    shape, pixel, device = spectrum.shape, spectrum.pixel_size_angstrom, spectrum.power.device
    y, x = fourier.frequencies(shape, pixel, device=device).unbind(-1)
    squared = x * x + y * y
    extent = min(extent_angstrom, min(shape) * pixel)
    n_shells = int(extent * min(0.5 / pixel, 1 / FINEST_RESOLUTION_ANGSTROM))
    near_axis = 2.5 / pixel
    used = (squared < ((n_shells - 0.5) / extent) ** 2) & (squared > (0.5 / extent) ** 2)
    used &= (y.abs() > near_axis / shape[0]) & (x.abs() > near_axis / shape[1])
    y, x, squared, power = y[used], x[used], squared[used], spectrum.power[used]
    shell = (squared.sqrt() * extent).round().long()
    direction = (torch.atan2(y, x) * (n_directions / math.pi)).floor().long() % n_directions
    columns = torch.stack([torch.ones_like(power), power, squared, x * x - y * y, 2 * x * y])
    sums = torch.zeros(5, n_directions * n_shells, device=device).index_add_(1, direction * n_shells + shell, columns)
    sums = sums.reshape(5, n_directions, n_shells)
    count = sums[0].clamp(min=1)
    length = (sums[2] / count).sqrt()
    # opposite vectors are one coefficient: directions are averaged as doubled angles
    mean_angle = 0.5 * torch.atan2(sums[4], sums[3])
    vectors = torch.stack([length * torch.sin(mean_angle), length * torch.cos(mean_angle)], dim=-1)
    return PolarSpectrum(sums[1] / count, sums[0] * spectrum.n_tiles, vectors)


@dataclass(frozen=True)
class Blur:
    """Loss of high frequencies along one direction, as drift during an exposure leaves it."""

    extent_angstrom: float
    """Length of the uniform straight motion that loses as much: power falls as exp(-(pi k extent)² / 3) along it."""
    angle_rad: float
    """Direction of the motion, from x towards y."""

    def loss(self, frequency_per_angstrom: Tensor) -> Tensor:
        """(...) share of the power that is left at frequency vectors (..., 2)."""
        y, x = frequency_per_angstrom[..., 0], frequency_per_angstrom[..., 1]
        along = x * math.cos(self.angle_rad) + y * math.sin(self.angle_rad)
        return torch.exp(-((math.pi * self.extent_angstrom * along) ** 2) / 3)


_BLUR_EXTENTS_ANGSTROM = (0.0, *(2.0 * 2 ** (i / 3) for i in range(22)))
_FLOOR_RISES = (-0.15, 0.0, 0.15, 0.3, 0.5)
"""How much higher than at its end the noise floor may be at zero frequency."""


def directional_blur(spectrum: PolarSpectrum) -> Blur:
    """Drift that explains how the power above the noise floor differs between directions.

    In each shell the specimen's power is free and only its distribution over directions is fitted, so rings, form
    factors and envelopes do not matter. The floor is the power where least is left of the specimen, at the end of
    the range, with a slope. Range: 0 to 250 Å; what blurs all directions alike is not seen, and a straight edge
    (a hole's rim, a crack) that fills the field looks like motion along itself.

    Parameters
    ----------
    spectrum
        Cut to the range of frequencies that holds the specimen, 1/100 to 1/8 Å for instance.
    """
    n_directions = spectrum.power.shape[0]
    profile, length = spectrum.profile, spectrum.shell_frequency_per_angstrom
    flat_floor = profile[2 * len(profile) // 3 :].quantile(0.2)
    floors = [flat_floor * (1 + rise * (1 - length / length.max())) for rise in _FLOOR_RISES]
    extents = torch.tensor(_BLUR_EXTENTS_ANGSTROM, device=profile.device)
    angles = torch.arange(0, n_directions, 2, device=profile.device) * (math.pi / n_directions)
    y, x = spectrum.frequency_per_angstrom.unbind(-1)
    along = x * torch.cos(angles)[:, None, None] + y * torch.sin(angles)[:, None, None]
    shares = [torch.exp(-((math.pi * float(extent) * along) ** 2) / 3) for extent in extents]
    variance = profile.square().expand_as(spectrum.power)
    extent, angle = 0.0, 0.0
    for _ in range(2):
        weight = spectrum.n_pixels / variance
        gains = torch.stack([_explained(spectrum.power, floor, weight, shares) for floor in floors])
        best = int(gains.argmax())
        floor_row, rest = divmod(best, gains[0].numel())
        row, column = divmod(rest, len(angles))
        extent, angle = _vertex(gains[floor_row, :, column], row, extents), float(angles[column])
        share, signal = shares[row][column], spectrum.power - floors[floor_row]
        strength = ((weight * share * signal).sum(0) / (weight * share * share).sum(0).clamp(min=1e-12)).clamp(min=0)
        variance = (floors[floor_row] + share * strength).square()
    return Blur(extent, angle)


def _explained(power: Tensor, floor: Tensor, weight: Tensor, shares: list[Tensor]) -> Tensor:
    """(extent, angle) minus the weighted squares that floor and specimen leave, the specimen fitted in each shell."""
    signal = power - floor
    gains = []
    for share in shares:
        projection = (share * (weight * signal)).sum(1).clamp(min=0)
        gains.append((projection.square() / (weight * share * share).sum(1).clamp(min=1e-12)).sum(-1))
    return torch.stack(gains) - (weight * signal.square()).sum()


def _vertex(score: Tensor, row: int, values: Tensor) -> float:
    """Value at the top of the parabola through the best score and its neighbours."""
    if row in (0, len(values) - 1):
        return float(values[row])
    a, b, c = (float(v) for v in score[row - 1 : row + 2])
    x = values[row - 1 : row + 2].tolist()
    left, right = (b - a) / (x[1] - x[0]), (c - b) / (x[2] - x[1])
    return 0.5 * (x[0] + x[1]) - left * 0.5 * (x[2] - x[0]) / (right - left) if right < left else x[1]


def ice_ring_ratio(spectrum: PolarSpectrum) -> float | None:
    """Power at the rings of crystalline ice, 3.9 to 3.4 Å, over that beside them; None where they are out of range.

    About one for thin vitreous ice, whose broad ring at 3.7 Å lifts it a little; crystals show as a multiple.
    """
    frequency, profile = spectrum.shell_frequency_per_angstrom, spectrum.profile
    on = (frequency >= 1 / 3.95) & (frequency <= 1 / 3.4)
    below = (frequency >= 1 / 4.6) & (frequency < 1 / 4.1)
    above = (frequency > 1 / 3.3) & (frequency <= 1 / 3.0)
    if float(frequency.max()) < 1 / 3.15 or not (bool(on.any()) and bool(below.any()) and bool(above.any())):
        return None
    beside = 0.5 * (profile[below].mean() + profile[above].mean())
    smooth = torch.nn.functional.avg_pool1d(profile[None], 3, 1, 1, count_include_pad=False)[0]
    return float(smooth[on].max() / beside)
