"""Resolution against particles: lines with a known B-factor, maps with a known B-factor, and too little to go by."""

import math

import pytest
import torch

from kernels import fourier
from kernels.maps.fsc import fsc
from kernels.maps.resolution_forecast import ResolutionPoint, forecast, point_of
from kernels.rotations import symmetry_group
from tests.truth.gaussian_particles import cage_points

LIMIT = 2.0


@pytest.fixture(autouse=True)
def _one_thread():
    """Arrays of a few thousand numbers are slower on several threads, much slower where others want the cores."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def reached(n_particles: float, b_factor: float, offset: float) -> float:
    """1 / resolution at which ln N - ln k - B k² / 2 is the offset, by bisection."""
    low, high = 1e-4, 10.0
    for _ in range(80):
        k = (low + high) / 2
        low, high = (k, high) if math.log(k) + b_factor * k**2 / 2 < math.log(n_particles) - offset else (low, k)
    return low


def line(numbers: list[int], b_factor: float, offset: float, error: float = 1e-3, generator=None):
    points = []
    for n in numbers:
        k = reached(n, b_factor, offset)
        if generator is not None:
            k += error * float(torch.randn((), generator=generator))
        points.append(ResolutionPoint(n, 1 / k, error))
    return points


@pytest.mark.parametrize("b_factor", [60.0, 150.0, 400.0])
def test_a_line_gives_its_b_factor_and_goes_on_as_it_is(b_factor):
    offset = math.log(1000) - math.log(1 / 8) - b_factor / 128  # 1000 particles reach 8 Å
    found = forecast(line([1000, 2000, 4000, 8000, 16000], b_factor, offset, 2e-4), LIMIT)
    assert found.b_factor_angstrom2.estimate == pytest.approx(b_factor, rel=0.04)
    expected = 1 / reached(64000, b_factor, offset)
    assert found.resolution_angstrom(64000).estimate == pytest.approx(max(expected, LIMIT), rel=0.01)
    needed = found.n_particles(5.0)
    assert needed.low < math.exp(offset + b_factor / 50 - math.log(5)) < needed.high


def test_intervals_hold_what_they_say():
    b_factor, offset, numbers = 120.0, 7.5, [500, 1000, 2000, 4000, 8000]
    generator = torch.Generator().manual_seed(1)
    n_repeats, inside = 60, [0, 0]
    for _ in range(n_repeats):
        found = forecast(line(numbers, b_factor, offset, 2e-3, generator), LIMIT)
        if found.is_supported:
            b, reach = found.b_factor_angstrom2, found.resolution_angstrom(32000)
            inside[0] += b.low < b_factor < b.high
            inside[1] += reach.low < 1 / reached(32000, b_factor, offset) < reach.high
    # 90 % of 60 is 54 ± 2.3
    assert min(inside) >= 48


def test_maps_of_a_known_b_factor_lose_and_gain_particles_as_they_should():
    """Half maps of a signal that falls with B = 90 Å², and noise as N particles leave it, its power ∝ k / N."""
    n, pixel, b_factor = 64, 1.5, 90.0
    generator = torch.Generator().manual_seed(4)
    frequency = fourier.frequency_length((n,) * 3, pixel)
    signal = fourier.transform(torch.randn(n, n, n, generator=generator), 3) * (-b_factor * frequency**2 / 4).exp()

    def curve(n_particles: int) -> torch.Tensor:
        level = (10_000 * frequency / n_particles).sqrt()
        halves = [
            fourier.inverse(signal + level * fourier.transform(torch.randn(n, n, n, generator=generator), 3), (n,) * 3)
            for _ in range(2)
        ]
        return fsc(halves[0], halves[1])

    numbers = [250, 500, 1000, 2000, 4000]
    points = [point_of(curve(m), m, n * pixel, 1, 1.0) for m in numbers]
    found = forecast(points[:4], 2 * pixel)
    assert found.b_factor_angstrom2.estimate == pytest.approx(b_factor, rel=0.1)
    reach = found.resolution_angstrom(4000)
    assert reach.estimate == pytest.approx(points[4].resolution_angstrom, rel=0.03)
    assert reach.low < points[4].resolution_angstrom * 1.01
    assert reach.high > points[4].resolution_angstrom * 0.99


def test_too_little_evidence_is_said_and_no_figure_is_made_of_it():
    def point(n, d, error=1e-3):
        return ResolutionPoint(n, d, error)

    two = forecast([point(1000, 8.0), point(2000, 7.0)], LIMIT)
    assert "2 numbers of particles" in two.reason
    assert "3 more are coarser than 15 Å" in forecast([point(n, 20.0) for n in (100, 200, 400)], LIMIT).reason
    close = forecast([point(1000, 8.0), point(1500, 7.6), point(2000, 7.3)], LIMIT)
    assert "from 1000 to 2000 particles only" in close.reason
    still = forecast([point(n, 7.0 + 0.01 * i) for i, n in enumerate((1000, 2000, 4000, 8000))], LIMIT)
    assert "stands at 7.0 Å whatever the number" in still.reason
    vague = forecast([point(1000, 8.0, 0.02), point(2000, 7.6, 0.02), point(4000, 7.7, 0.02)], LIMIT)
    assert "anything between" in vague.reason
    for found in (two, close, still, vague):
        assert not found.is_supported
        with pytest.raises(ValueError, match="is_supported"):
            found.resolution_angstrom(1e5)
    assert forecast([], LIMIT).reason.startswith("0 numbers")


def test_the_pixel_size_ends_what_can_be_reached():
    at_limit = [ResolutionPoint(n, d, 1e-3) for n, d in ((500, 6.1), (1000, 6.0), (2000, 6.0), (4000, 6.0))]
    assert "pixel size limits at 6.0 Å, which is reached" in forecast(at_limit, 6.0).reason
    b_factor, offset = 100.0, 8.0
    found = forecast(line([250, 500, 1000, 2000], b_factor, offset, 3e-4), limit_angstrom=5.0)
    assert found.is_supported
    reach = found.resolution_angstrom(1e9)
    assert (reach.low, reach.estimate, reach.high) == (5.0, 5.0, 5.0)
    assert found.n_particles(4.9) is None


def test_the_interval_of_the_b_factor_holds_it_for_structures_whose_spectra_undulate():
    """Random hollow structures: their shells scatter about the B-factor by tens of percent, and so do the estimates."""
    width_angstrom, field_angstrom, mask_fraction, symmetry = 2.4, 100.0, 0.3, "D2"
    b_factor = 8 * math.pi**2 * width_angstrom**2
    shells = torch.arange(21, dtype=torch.float64)
    k = (shells / field_angstrom).clamp(min=1e-3)
    n_operations = len(symmetry_group(symmetry))
    n_independent = (2 * math.pi * shells**2 * mask_fraction / n_operations).round().long().clamp(min=1)
    shell_of = torch.repeat_interleave(shells.long(), n_independent)
    # 1600 particles reach about 6 Å
    level = 0.143 / 0.857 / 6 / 800 * math.exp(b_factor / 72)
    generator = torch.Generator().manual_seed(3)

    def noise() -> torch.Tensor:
        return torch.randn(len(shell_of), dtype=torch.complex128, generator=generator)

    def of_shells(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(shells), dtype=torch.float64).index_add_(0, shell_of, values)

    is_inside, estimates = [], []
    for seed in range(40):
        points = cage_points(symmetry, 20, 34.0, seed)
        phase = 2 * math.pi * k[:, None] * torch.pdist(points.double())  # Debye's formula
        power = (1 + 2 * (torch.sin(phase) / phase).sum(1) / len(points)) * (-b_factor * k**2 / 2).exp()
        signal = noise()
        signal = signal * (power * n_independent / of_shells(signal.abs() ** 2)).sqrt()[shell_of]
        signal = signal * (level / k[shell_of]).sqrt()
        found, sums, n_particles = [], [torch.zeros_like(signal), torch.zeros_like(signal)], 0
        for n_more in (100, 100, 200, 400, 800):  # nested parts, as the stage has them
            n_particles += n_more
            sums = [total + n_more / 2 * signal + math.sqrt(n_more / 2) * noise() for total in sums]
            shared = of_shells((sums[0] * sums[1].conj()).real)
            curve = shared / (of_shells(sums[0].abs() ** 2) * of_shells(sums[1].abs() ** 2)).sqrt()
            found.append(point_of(curve, n_particles, field_angstrom, n_operations, mask_fraction))
        said = forecast(found, 5.0).b_factor_angstrom2
        is_inside.append(said.low < b_factor < said.high)
        estimates.append(said.estimate)
    # 90 % of 40 is 36 ± 1.9
    assert sum(is_inside) >= 33
    assert sorted(estimates)[20] == pytest.approx(b_factor, rel=0.1)
