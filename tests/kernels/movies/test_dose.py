"""Dose weights against the published curve, and sums whose noise they leave alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kernels.fourier import frequency_length
from kernels.movies.dose import critical_dose, dose_weights, restored


def test_the_dose_weight_at_zero_frequency_is_one():
    weights = dose_weights(torch.zeros(1), torch.tensor([1.0, 40.0, 200.0]))
    assert_close(weights, torch.ones(3, 1))


def test_without_dose_nothing_fades():
    assert_close(dose_weights(torch.linspace(0, 0.5, 9), torch.zeros(1)), torch.ones(1, 9))


def test_critical_dose_at_3_angstrom_is_that_of_the_published_fit():
    # 0.245 * 3**1.665 + 2.81 = 0.245 * 6.2285 + 2.81
    assert_close(critical_dose(torch.tensor(1 / 3)), torch.tensor(4.336), atol=2e-3, rtol=0)


def test_slower_electrons_do_more_damage():
    # Grant & Grigorieff: 0.8 at 200 kV; the squared speeds (0.5479 and 0.7765 c)² give 0.57 at 120 and 300 kV... of 1
    frequency = torch.tensor([0.1, 0.3])
    at_300 = critical_dose(frequency, 300.0)
    assert_close(critical_dose(frequency, 200.0) / at_300, torch.full((2,), 0.80), atol=0.005, rtol=0)
    assert_close(critical_dose(frequency, 120.0) / at_300, torch.full((2,), 0.571), atol=0.002, rtol=0)


@given(dose=st.floats(0.1, 100), more=st.floats(0.1, 50), voltage=st.sampled_from([120.0, 200.0, 300.0]))
def test_weights_fall_with_dose_and_with_frequency(dose, more, voltage):
    frequency = torch.linspace(0.01, 0.5, 20)
    weights = dose_weights(frequency, torch.tensor([dose, dose + more]), voltage)
    assert bool((weights[0] >= weights[1]).all())
    assert bool((weights.diff(dim=1) <= 0).all())
    assert bool(((weights >= 0) & (weights <= 1)).all())


def test_a_weighted_sum_of_noise_has_the_noise_of_the_plain_sum_at_every_frequency():
    shape, n_frames = (192, 200), 20
    frames = torch.randn(n_frames, *shape, generator=torch.Generator().manual_seed(3))
    transforms = torch.fft.rfft2(frames)
    frequency = frequency_length(shape, 1.1)
    weights = dose_weights(frequency, 2.0 * torch.arange(1, n_frames + 1))
    weighted = restored((transforms * weights).sum(0), weights.square().sum(0), n_frames)
    plain_power = n_frames * shape[0] * shape[1]
    for low, high in ((0.02, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.45)):
        shell = (frequency >= low) & (frequency < high)
        n_independent = int(shell.sum())
        power = float(weighted[shell].abs().square().mean()) / plain_power
        assert abs(power - 1) < 4 / n_independent**0.5


def test_at_zero_frequency_the_weighted_sum_is_the_plain_sum():
    transforms = torch.full((5, 1), 7.0 + 0j)
    weights = dose_weights(torch.zeros(1), torch.arange(5.0))
    assert_close(restored((transforms * weights).sum(0), weights.square().sum(0), 5), torch.full((1,), 35.0 + 0j))
