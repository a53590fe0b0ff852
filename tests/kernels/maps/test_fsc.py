"""Shell correlations of maps whose correlation is known."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.maps.fsc import (
    corrected_fsc,
    crossing_shell,
    fsc,
    randomise_phases,
    resolution_angstrom,
    signal_to_noise,
    significant_correlation,
)


def noise(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, n, n, generator=torch.Generator().manual_seed(seed))


def soft_sphere(n: int, radius_px: float) -> torch.Tensor:
    axis = torch.arange(n) - n // 2
    distance = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    return ((radius_px + 2 - distance) / 4).clamp(0, 1)


@pytest.mark.parametrize("n", [24, 25])
def test_a_map_correlates_with_itself_and_its_multiples(n):
    density_map = noise(n, 1)
    assert_close(fsc(density_map, 3 * density_map), torch.ones(n // 2 + 1))
    assert_close(fsc(density_map, -density_map), -torch.ones(n // 2 + 1))


def test_independent_noise_correlates_as_its_number_of_coefficients_says():
    n = 32
    curves = torch.stack([fsc(noise(n, 2 * s), noise(n, 2 * s + 1)) for s in range(40)])
    index, weights = fourier.shell_index((n,) * 3), fourier.hermitian_weights((n,) * 3)
    counts = fourier.shell_sums(weights.expand(index.shape), index, n // 2 + 1)
    expected = 1 / (counts / 2).sqrt() / math.sqrt(2)  # real part of the mean of counts / 2 unit phasors
    ratio = (curves.std(0) / expected)[2:]
    assert (curves.mean(0)[2:].abs() < 4 * expected[2:] / math.sqrt(40)).all()
    assert abs(ratio.mean() - 1) < 0.1


def test_equal_signal_and_noise_give_one_half():
    n = 48
    signal = noise(n, 3)
    curve = fsc(signal + noise(n, 4), signal + noise(n, 5))
    assert abs(curve[6:].mean() - 0.5) < 0.01
    assert abs(signal_to_noise(curve)[6:].mean() - 1) < 0.05


def test_images_have_shell_correlations_too():
    image = noise(32, 6)[0]
    assert_close(fsc(image, image), torch.ones(17))


def test_random_phases_keep_amplitudes_and_stay_real():
    n = 20
    transform = fourier.transform(noise(n, 7), 3)
    mixed = randomise_phases(transform, (n, n, n), 4, torch.Generator().manual_seed(1))
    again = fourier.transform(fourier.inverse(mixed, (n, n, n)), 3)
    index = fourier.shell_index((n, n, n))
    assert_close(again.abs(), transform.abs(), atol=1e-3, rtol=1e-3)
    assert_close(again[index < 4], transform[index < 4], atol=1e-3, rtol=1e-3)
    assert fsc(fourier.inverse(mixed, (n, n, n)), noise(n, 7))[5:].abs().max() < 0.3


def test_random_phases_reveal_what_the_mask_correlates():
    """Two halves share the signal below shell 10 only; a tight mask correlates them beyond it."""
    n = 64
    index = fourier.shell_index((n,) * 3)
    mask = soft_sphere(n, 9.0)
    shared = fourier.transform(noise(n, 8) * mask, 3)
    low = fourier.inverse(torch.where(index < 10, shared, torch.zeros_like(shared)), (n,) * 3)
    halves = [low + 0.03 * noise(n, 9), low + 0.03 * noise(n, 10)]
    # a common window of single voxels: correlation that comes from the mask alone
    tight = mask.sqrt() * (low > low[mask > 0.5].quantile(0.6))
    curves = corrected_fsc(halves[0], halves[1], tight, torch.Generator().manual_seed(2))
    beyond = slice(14, 28)
    assert curves.unmasked[beyond].abs().mean() < 0.05
    assert curves.masked[beyond].mean() > 0.3
    assert curves.corrected[beyond].mean().abs() < 0.5 * curves.masked[beyond].mean()
    assert curves.corrected[1:8].min() > 0.8


def test_without_signal_there_is_no_resolution():
    curves = corrected_fsc(noise(32, 11), noise(32, 12), soft_sphere(32, 10), torch.Generator().manual_seed(3))
    assert resolution_angstrom(curves.corrected, 32, 2.0) > 2 * 32 * 2.0 / 16


def test_the_crossing_is_interpolated_between_shells():
    curve = torch.tensor([1.0, 1.0, 0.9, 0.5, 0.1, 0.0, 0.0])
    assert crossing_shell(curve, 0.3) == pytest.approx(3.5)
    assert resolution_angstrom(curve, 100, 1.5, 0.3) == pytest.approx(150 / 3.5)


def test_one_low_shell_alone_is_no_crossing():
    curve = torch.tensor([1.0, 1.0, 0.1, 0.9, 0.8, 0.1, 0.0])
    assert crossing_shell(curve, 0.5) > 4
    assert resolution_angstrom(torch.zeros(5), 8, 1.0) == float("inf")
    assert crossing_shell(torch.ones(9), 0.143) == 8


def test_a_significant_correlation_is_one_that_symmetrised_noise_does_not_reach():
    from_shell = significant_correlation(40, 24)
    assert from_shell[30] == pytest.approx(0.143)
    assert from_shell[10] == pytest.approx(3 / math.sqrt(4 * math.pi * 100 / 24), rel=1e-3)
    assert (significant_correlation(40)[6:] == torch.tensor(0.143)).all()
    curve = torch.full((40,), 0.2)
    assert crossing_shell(curve, 0.143) == 39
    assert crossing_shell(curve, from_shell) == 0.0
