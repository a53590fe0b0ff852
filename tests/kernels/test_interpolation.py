"""Splines that reproduce polynomials, and displaced samples compared with Fourier shifts and known functions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kernels.fourier import frequency_length, shift
from kernels.interpolation import sample_displaced, spline_basis, spline_field, spline_response


@given(n_control=st.integers(1, 12), position=st.floats(-0.2, 1.2))
def test_spline_weights_add_up_to_one_and_their_slopes_to_zero(n_control, position):
    at = torch.tensor(position, dtype=torch.float64)
    assert_close(spline_basis(at, n_control).sum(), torch.tensor(1.0, dtype=torch.float64))
    assert abs(float(spline_basis(at, n_control, 1).sum())) < 1e-9


def test_spline_derivatives_are_those_of_finite_differences():
    at = torch.linspace(0.03, 0.96, 40, dtype=torch.float64)
    step = 1e-5
    for n_control in (3, 4, 7):
        for order in (1, 2):
            above = spline_basis(at + step, n_control, order - 1)
            below = spline_basis(at - step, n_control, order - 1)
            away_from_knots = (at * (n_control - 3)).frac().sub(0.5).abs() < 0.49
            slope = spline_basis(at, n_control, order)
            assert_close(((above - below) / (2 * step))[away_from_knots], slope[away_from_knots], atol=1e-5, rtol=1e-4)


def test_control_points_on_a_line_give_that_line():
    at = torch.linspace(0, 1, 30, dtype=torch.float64)
    control = torch.arange(8, dtype=torch.float64) - 1  # control point a sits at (a - 1) / (n - 3)
    assert_close(spline_basis(at, 8) @ control, at * 5)


def test_a_prefiltered_spline_goes_through_its_samples():
    samples = torch.randn(64, generator=torch.Generator().manual_seed(1))
    coefficients = torch.fft.irfft(torch.fft.rfft(samples) / spline_response(torch.fft.rfftfreq(64)), n=64)
    again = (coefficients.roll(1) + 4 * coefficients + coefficients.roll(-1)) / 6
    assert_close(again, samples, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(96, 130), (127, 65), (33, 32), (20, 25)])
def test_no_displacement_gives_the_image_back(shape):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    assert_close(sample_displaced(image, torch.zeros(4, 4, 2)), image, atol=5e-3, rtol=0)


@settings(deadline=None, max_examples=15)
@given(displacement=st.tuples(st.floats(-7, 7), st.floats(-7, 7)))
def test_a_uniform_displacement_is_a_fourier_shift(displacement):
    coarse = torch.randn(160, 144, generator=torch.Generator().manual_seed(3))
    transform = torch.fft.rfft2(coarse)
    image = torch.fft.irfft2(transform * (frequency_length(coarse.shape) < 0.4), s=coarse.shape)
    control = torch.tensor(displacement).expand(5, 4, 2)
    shifted = shift(image, -torch.tensor(displacement))
    inner = (slice(16, -16), slice(16, -16))
    difference = sample_displaced(image, control)[inner] - shifted[inner]
    assert float(difference.std() / shifted[inner].std()) < 0.03


def test_amplitudes_are_kept_to_nine_tenths_of_nyquist():
    n = 256
    image = torch.randn(n, n, generator=torch.Generator().manual_seed(4))
    worst = torch.tensor([0.5, 0.5])  # half a pixel is where interpolation loses most
    moved = sample_displaced(image, worst.expand(4, 4, 2))
    window = torch.zeros(n, n)
    window[16:-16, 16:-16] = 1
    expected = torch.fft.rfft2(shift(image, -worst) * window)
    found = torch.fft.rfft2(moved * window)
    frequency = frequency_length((n, n))

    def kept(low: float, high: float) -> float:
        ring = (frequency >= low) & (frequency < high)
        return float((found * expected.conj()).real[ring].sum() / expected.abs().square()[ring].sum())

    assert abs(kept(0.0, 0.2) - 1) < 0.01
    assert abs(kept(0.2, 0.4) - 1) < 0.01
    assert kept(0.4, 0.45) > 0.85
    assert kept(0.45, 0.5) > 0.4


def test_a_smooth_field_displaces_a_known_function():
    shape = (220, 260)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")

    def wave(at_y, at_x):
        return torch.sin(2 * math.pi * (0.11 * at_y + 0.07 * at_x)) + torch.cos(
            2 * math.pi * (0.05 * at_y - 0.16 * at_x)
        )

    control = 3 * torch.rand(6, 6, 2, generator=torch.Generator().manual_seed(5)) - 1.5
    field = spline_field(control, (y[:, 0] + 0.5) / shape[0], (x[0] + 0.5) / shape[1])
    expected = wave(y + field[..., 0], x + field[..., 1])
    inner = (slice(12, -12), slice(12, -12))
    difference = (sample_displaced(wave(y, x), control) - expected)[inner]
    # 3 px over 70 px of the field: within a block of 32 px the constant component errs by up to 0.7 px × 0.5
    assert float(difference.square().mean().sqrt()) < 0.12


def test_sampling_is_linear():
    generator = torch.Generator().manual_seed(6)
    first, second = torch.randn(2, 80, 70, generator=generator)
    control = torch.randn(5, 5, 2, generator=generator)
    together = sample_displaced(2 * first - 3 * second, control)
    apart = 2 * sample_displaced(first, control) - 3 * sample_displaced(second, control)
    assert_close(together, apart, atol=1e-4, rtol=1e-4)
