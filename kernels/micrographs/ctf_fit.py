"""Defocus, astigmatism and phase shift from a power spectrum.

The spectrum is modelled as b(k) + e(k) g(k) CTF², with a smooth background b, a smooth envelope e >= 0 and a known
directional loss g. An exhaustive search over defocus and astigmatism is a matched filter in polar bins; the
refinement that follows is Gauss-Newton on all parameters at once, weighted with the model's own variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.ctf import Defocus, ctf, phase_aberration
from kernels.micrographs.power_spectrum import Blur, PolarSpectrum
from kernels.optics import Optics

_DEFOCUS_STEP_ANGSTROM = 100.0
_ENVELOPES_ANGSTROM2 = (20.0, 60.0, 200.0)
"""exp(-B k²) of the rings that the search tries: seen to about 4, 7 and 12 Å."""
_HALF_DIFFERENCES_ANGSTROM = (0.0, 100.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1100.0, 1500.0, 2000.0, 2500.0)
_SEARCH_DIRECTIONS = 20
_BACKGROUND_DEGREE = 8
_ENVELOPE_DEGREE = 4
_RINGS_IN_WINDOW = 3.0
_SHELLS_OF_DOUBT = 6
_NO_BLUR_ANGSTROM = 2.0


@dataclass(frozen=True)
class CtfFit:
    """A fitted CTF and how well it agrees with the spectrum."""

    defocus: Defocus
    """Scalars."""
    deviation_angstrom: float
    """Standard error of the mean defocus, from the curvature of the fit; it knows nothing of a wrong ring."""
    correlation: float
    """Between the equi-phase averages of spectrum and model, from the first ring to the fit resolution."""
    fit_resolution_angstrom: float
    curve: Tensor
    """(4, shell): frequency 1/Å, observed and fitted rings as share of the power, correlation over three rings."""


def fit_ctf(
    spectrum: PolarSpectrum,
    optics: Optics,
    *,
    defocus_range_angstrom: tuple[float, float] = (3000.0, 50000.0),
    expected_astigmatism_angstrom: float = 1000.0,
    phase_shifts_rad: Tensor | None = None,
    blur: Blur | None = None,
    agreement: float = 0.5,
) -> CtfFit:
    """Fit defocus, astigmatism and, where candidates are given, the phase shift.

    Parameters
    ----------
    spectrum
        Cut to the range of frequencies to fit.
    expected_astigmatism_angstrom
        Standard deviation of the prior on u - v; holds it back where rings are faint.
    phase_shifts_rad
        (candidate,) phase shifts to search; None for none.
    blur
        Drift found at low frequency. The rings are fitted with none, half and all of it, and the best is kept:
        ignoring a drift of 10 Å costs 190 Å of defocus and 280 Å of astigmatism where rings are faint.
    agreement
        Correlation over three rings below which a fit is no longer trusted.
    """
    if spectrum.power.shape[1] < 20:
        raise ValueError(
            f"a CTF fit needs 20 or more frequency shells, found {spectrum.power.shape[1]};"
            " widen the range of resolution or use a larger micrograph"
        )
    flat = _flattened(spectrum)
    fits = []
    for share in (0.0,) if blur is None or blur.extent_angstrom < _NO_BLUR_ANGSTROM else (0.0, 0.5, 1.0):
        loss = torch.ones_like(flat)
        if blur is not None:
            loss = Blur(share * blur.extent_angstrom, blur.angle_rad).loss(spectrum.frequency_per_angstrom)
        start = _search(
            flat, spectrum, loss, optics, defocus_range_angstrom, expected_astigmatism_angstrom, phase_shifts_rad
        )
        fits.append(
            _refine(
                flat, spectrum, loss, optics, start, defocus_range_angstrom, expected_astigmatism_angstrom,
                phase_shifts_rad is not None,
            )
        )  # fmt: skip
    fitted = min(fits, key=lambda f: f.misfit)
    mean, cosine, sine, phase = fitted.parameters.tolist()
    half_difference = math.hypot(cosine, sine)
    defocus = Defocus.of(
        mean + half_difference, mean - half_difference, 0.5 * math.atan2(sine, cosine) % math.pi, phase % math.pi
    )
    curve = _equiphase_curve(flat - fitted.background, fitted.rings, spectrum, defocus, optics)
    resolution = _fit_resolution(curve, agreement)
    seen = curve[0] <= max(1 / resolution, float(curve[0, 19]))
    correlation = float(torch.corrcoef(curve[1:3, seen])[0, 1].nan_to_num())
    return CtfFit(defocus, fitted.deviation, correlation, resolution, curve)


def _chebyshev(frequency: Tensor, degree: int) -> Tensor:
    """(..., degree + 1) Chebyshev polynomials over the range of ``frequency``."""
    low, high = frequency.min(), frequency.max()
    angle = torch.arccos(((2 * frequency - low - high) / (high - low)).clamp(-1, 1))
    return torch.cos(angle[..., None] * torch.arange(degree + 1, device=frequency.device))


def _smooth_profile(spectrum: PolarSpectrum) -> Tensor:
    """(shell,) smooth curve through the radial profile: the scale of the noise, not the background under the rings."""
    basis = _chebyshev(spectrum.shell_frequency_per_angstrom, 5)
    weight = spectrum.n_pixels.sum(0).sqrt()[:, None]
    log_profile = spectrum.profile.clamp(min=1e-30).log()[:, None]
    return (basis @ torch.linalg.lstsq(basis * weight, log_profile * weight).solution)[:, 0].exp()


def _flattened(spectrum: PolarSpectrum) -> Tensor:
    """(direction, shell) power over the smooth profile: about one, with the same noise at every frequency."""
    return spectrum.power / _smooth_profile(spectrum)


def _search(
    flat: Tensor,
    spectrum: PolarSpectrum,
    loss: Tensor,
    optics: Optics,
    defocus_range_angstrom: tuple[float, float],
    expected_astigmatism_angstrom: float,
    phase_shifts_rad: Tensor | None,
) -> Tensor:
    """(4,) mean defocus, half difference times cos and sin of twice its angle, phase shift, on a grid."""
    values, weight, angle, loss = _coarse_directions(flat, spectrum, loss)
    low, high = defocus_range_angstrom
    grid = torch.arange(low, high + 1, _DEFOCUS_STEP_ANGSTROM, device=flat.device)
    phases = torch.zeros(1) if phase_shifts_rad is None else phase_shifts_rad
    found = [
        _astigmatism_search(
            _matched_filter(values, weight, loss, spectrum.shell_frequency_per_angstrom, grid, float(phase), optics),
            angle, grid, expected_astigmatism_angstrom, is_isotropic=len(phases) > 1,
        )
        for phase in phases
    ]  # fmt: skip
    best = max(range(len(found)), key=lambda i: found[i][0])
    if len(phases) > 1:
        response = _matched_filter(
            values, weight, loss, spectrum.shell_frequency_per_angstrom, grid, float(phases[best]), optics
        )
        found[best] = _astigmatism_search(response, angle, grid, expected_astigmatism_angstrom, is_isotropic=False)
    return torch.tensor([*found[best][1], float(phases[best])], device=flat.device)


def _coarse_directions(flat: Tensor, spectrum: PolarSpectrum, loss: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values and weights (direction, shell), angles (direction,) and loss with fewer directions."""
    n_shells = flat.shape[1]
    weight = spectrum.n_pixels.reshape(_SEARCH_DIRECTIONS, -1, n_shells)
    total = weight.sum(1).clamp(min=1)
    values = (flat.reshape_as(weight) * weight).sum(1) / total
    angle = (torch.arange(_SEARCH_DIRECTIONS, device=flat.device) + 0.5) * (math.pi / _SEARCH_DIRECTIONS)
    return values, weight.sum(1), angle, (loss.reshape_as(weight) * weight).sum(1) / total


def _matched_filter(
    values: Tensor, weight: Tensor, loss: Tensor, frequency: Tensor, grid: Tensor, phase: float, optics: Optics
) -> Tensor:
    """(envelope, defocus, direction) response of rings of each defocus, in standard deviations.

    A smooth background is projected out of data and rings alike.
    """
    vectors = torch.stack([torch.zeros_like(frequency), frequency], dim=-1)
    defocus = Defocus(grid, grid, torch.zeros_like(grid), torch.full_like(grid, phase))
    rings = ctf(vectors, defocus, optics).square()
    envelopes = torch.exp(-torch.tensor(_ENVELOPES_ANGSTROM2, device=frequency.device)[:, None] * frequency**2)
    root = weight.mean(0).sqrt()
    basis = torch.linalg.qr(_chebyshev(frequency, _BACKGROUND_DEGREE) * root[:, None]).Q
    rings = rings * envelopes[:, None] * root
    rings = rings - (rings @ basis) @ basis.T
    rings = rings / rings.norm(dim=-1, keepdim=True)
    data = (values - values.mean(1, keepdim=True)) * root
    data = data - (data @ basis) @ basis.T
    response = rings @ (data * loss).T
    spread = response.sum(-1, keepdim=True).abs().median(dim=1, keepdim=True).values / 0.6745
    return response / spread


def _astigmatism_search(
    response: Tensor, angle: Tensor, grid: Tensor, expected_astigmatism_angstrom: float, *, is_isotropic: bool
) -> tuple[float, tuple[float, float, float]]:
    """Best score (half the squared deviation less the prior) and its mean defocus, cos and sin half differences."""
    half = torch.tensor(_HALF_DIFFERENCES_ANGSTROM[:1] if is_isotropic else _HALF_DIFFERENCES_ANGSTROM)
    half = half.to(response)
    offsets = half[:, None, None] * torch.cos(2 * (angle - angle[:, None]))
    steps = (offsets / (grid[1] - grid[0])).round().long().reshape(-1, len(angle))
    row = torch.arange(len(grid), device=grid.device)
    total = torch.zeros(response.shape[0], steps.shape[0], len(grid), device=grid.device)
    for j in range(len(angle)):
        total += response[:, (row + steps[:, j, None]).clamp(0, len(grid) - 1), j]
    prior = 0.5 * (2 * half / expected_astigmatism_angstrom).square().repeat_interleave(len(angle))
    score = 0.5 * total.clamp(min=0).square() - prior[:, None]
    best = int(score.argmax())
    pair, position = (best // len(grid)) % steps.shape[0], best % len(grid)
    difference, direction = half[pair // len(angle)], angle[pair % len(angle)]
    return float(score.max()), (
        float(grid[position]),
        float(difference * torch.cos(2 * direction)),
        float(difference * torch.sin(2 * direction)),
    )


@dataclass(frozen=True)
class _Fitted:
    parameters: Tensor
    background: Tensor
    rings: Tensor
    deviation: float
    misfit: float


def _refine(
    flat: Tensor,
    spectrum: PolarSpectrum,
    loss: Tensor,
    optics: Optics,
    start: Tensor,
    defocus_range_angstrom: tuple[float, float],
    expected_astigmatism_angstrom: float,
    is_phase_fitted: bool,
    n_iterations: int = 12,
) -> _Fitted:
    """Gauss-Newton on defocus, astigmatism, phase shift, background and envelope together."""
    used = spectrum.n_pixels > 0
    y, count, vectors, g = flat[used], spectrum.n_pixels[used], spectrum.frequency_per_angstrom[used], loss[used]
    squared = vectors.square().sum(-1)
    angle = torch.atan2(vectors[:, 0], vectors[:, 1])
    radius = squared.sqrt()
    background, envelope = _chebyshev(radius, _BACKGROUND_DEGREE), _chebyshev(radius, _ENVELOPE_DEGREE)
    slope = math.pi * optics.wavelength_angstrom * squared
    slopes = torch.stack([slope, slope * torch.cos(2 * angle), slope * torch.sin(2 * angle), torch.ones_like(slope)])
    n_free = 4 if is_phase_fitted else 3
    prior = torch.tensor([0.0, *[(2 / expected_astigmatism_angstrom) ** 2] * 2, 0.0], device=flat.device)[:n_free]
    parameters = start.clone()
    variance = torch.ones_like(y)
    noise = 1.0
    step_limit = torch.tensor([300.0, 200.0, 200.0, 0.3], device=flat.device)[:n_free]
    for _ in range(n_iterations):
        chi = _phase(vectors, parameters, optics)
        rings = torch.sin(chi).square() * g
        linear = torch.cat([background, envelope * rings[:, None]], dim=1)
        weight = count / variance
        weighted = (linear * weight[:, None]).T
        coefficients = torch.linalg.lstsq((weighted @ linear).double(), (weighted @ y).double()).solution.float()
        residual = y - linear @ coefficients
        amplitude = (envelope @ coefficients[_BACKGROUND_DEGREE + 1 :]).clamp(min=0)
        model = background @ coefficients[: _BACKGROUND_DEGREE + 1] + amplitude * rings
        noise = float((weight * residual.square()).sum() / max(1, len(y) - linear.shape[1]))
        jacobian = (amplitude * g * torch.sin(2 * chi) * slopes[:n_free]).T
        full = torch.cat([jacobian, linear], dim=1) * weight[:, None]
        normal = full.T @ torch.cat([jacobian, linear], dim=1) / noise
        size = (
            torch.cat([normal.diagonal()[:n_free], torch.ones(linear.shape[1], device=y.device)])
            .clamp(min=1e-20)
            .sqrt()
        )
        normal[range(n_free), range(n_free)] += prior
        gradient = (jacobian * weight[:, None]).T @ residual / noise - prior * parameters[:n_free]
        right = torch.cat([gradient, torch.zeros(linear.shape[1], device=y.device)])
        scaled = (normal / size / size[:, None]).double()
        scaled += 1e-9 * torch.eye(len(scaled), device=y.device)
        step = (torch.linalg.solve(scaled, (right / size).double()) / size.double())[:n_free].float()
        step = torch.minimum(torch.maximum(step, -step_limit), step_limit)
        parameters[:n_free] += step
        parameters[0] = parameters[0].clamp(*defocus_range_angstrom)
        variance = model.clamp(min=0.05).square()
    covariance = torch.linalg.inv(scaled)
    deviation = float((covariance[0, 0] / size[0].double() ** 2).clamp(min=0).sqrt())
    out = torch.zeros(2, *flat.shape, device=flat.device)
    out[0][used] = background @ coefficients[: _BACKGROUND_DEGREE + 1]
    out[1][used] = amplitude * torch.sin(_phase(vectors, parameters, optics)).square() * g
    misfit = float((spectrum.n_pixels * (flat - out.sum(0)).square()).sum())
    return _Fitted(parameters, out[0], out[1], deviation, misfit)


def _phase(vectors: Tensor, parameters: Tensor, optics: Optics) -> Tensor:
    mean, cosine, sine, phase = parameters
    half = torch.hypot(cosine, sine)
    return phase_aberration(vectors, Defocus(mean + half, mean - half, 0.5 * torch.atan2(sine, cosine), phase), optics)


def _equiphase_curve(
    observed: Tensor, fitted: Tensor, spectrum: PolarSpectrum, defocus: Defocus, optics: Optics
) -> Tensor:
    """(4, shell) averages over bins of equal phase, so that astigmatism does not smear the rings.

    Each bin is counted at the frequency where the mean defocus has its phase.

    Source
    ------
    Zhang, Gctf, J. Struct. Biol. 2016, 193:1; Rohou & Grigorieff 2015.
    """
    frequency = spectrum.shell_frequency_per_angstrom
    used = spectrum.n_pixels > 0
    vectors, count = spectrum.frequency_per_angstrom[used], spectrum.n_pixels[used]
    mean = defocus.mean_angstrom.to(observed)
    round_defocus = Defocus(mean, mean, torch.zeros_like(mean), defocus.phase_shift_rad.to(observed))
    on_axis = torch.stack([torch.zeros_like(frequency), frequency], dim=-1)
    phase_1d = phase_aberration(on_axis, round_defocus, optics)
    chi = phase_aberration(vectors, defocus, optics)
    n = len(frequency)
    is_rising = bool((phase_1d.diff() > 0).all())
    if is_rising:
        upper = torch.searchsorted(phase_1d, chi).clamp(1, n - 1)
        share = ((chi - phase_1d[upper - 1]) / (phase_1d[upper] - phase_1d[upper - 1])).clamp(0, 1)
    else:  # spherical aberration turns the phase round: the frequency itself has to do
        length = vectors.norm(dim=-1)
        upper = torch.searchsorted(frequency, length).clamp(1, n - 1)
        share = ((length - frequency[upper - 1]) / (frequency[upper] - frequency[upper - 1])).clamp(0, 1)
    columns = torch.stack([count, count * observed[used], count * fitted[used]])
    sums = torch.zeros(3, n, device=observed.device)
    sums.index_add_(1, upper - 1, columns * (1 - share))
    sums.index_add_(1, upper, columns * share)
    averages = sums[1:] / sums[0].clamp(min=1e-6)
    transfer = torch.sin(phase_1d).square()
    correlation = _window_correlation(averages[0], transfer, phase_1d / math.pi)
    return torch.cat([frequency[None], averages, correlation[None]])


def _window_correlation(observed: Tensor, transfer: Tensor, ring: Tensor) -> Tensor:
    """(shell,) Pearson correlation over `_RINGS_IN_WINDOW` rings around each shell, at least 12 shells."""
    n = len(observed)
    distance = (ring[:, None] - ring[None]).abs()
    place = torch.arange(n, device=observed.device)
    is_near = (distance <= _RINGS_IN_WINDOW / 2) | ((place[:, None] - place[None]).abs() <= 6)
    window = is_near.to(observed) / is_near.sum(1, keepdim=True)

    def covariance(a: Tensor, b: Tensor) -> Tensor:
        return window @ (a * b) - (window @ a) * (window @ b)

    denominator = (covariance(observed, observed) * covariance(transfer, transfer)).clamp(min=1e-20).sqrt()
    return covariance(observed, transfer) / denominator


def _fit_resolution(curve: Tensor, agreement: float) -> float:
    """Å where the correlation falls below ``agreement`` for `_SHELLS_OF_DOUBT` shells or to the end of the range."""
    is_good = curve[3] >= agreement
    ahead = torch.nn.functional.pad(is_good.float(), (0, _SHELLS_OF_DOUBT - 1))
    is_lost = ahead.unfold(0, _SHELLS_OF_DOUBT, 1).sum(-1) == 0
    found = is_lost.nonzero()
    last = int(found[0, 0]) if len(found) else len(is_good) - 1
    return float(1 / curve[0, last])
