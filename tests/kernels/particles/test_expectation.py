"""Likelihoods by matrix products against the loops that they stand for."""

import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.particles.expectation import (
    disc,
    expectation,
    log_likelihoods,
    pack,
    residual_power,
    shift_grid,
    shift_ramps,
    unpack,
)


def random_case(n=12, n_particles=3, n_references=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    coefficients = disc(n, 4)
    images = pack(fourier.transform(torch.randn(n_particles, n, n, generator=generator)), coefficients) / n
    references = pack(fourier.transform(torch.randn(n_references, n, n, generator=generator)), coefficients) / n
    transfer = torch.rand(n_particles, len(coefficients.shell), generator=generator) * 2 - 1
    noise_variance = 0.5 + torch.rand(len(coefficients.shell), generator=generator)
    return coefficients, images, references, transfer, noise_variance


def test_packing_and_unpacking_keeps_a_band_limited_image():
    for n in (16, 17):
        image = torch.randn(2, n, n, generator=torch.Generator().manual_seed(n))
        coefficients = disc(n, 5)
        length = fourier.frequency_length((n, n)) * n
        half = fourier.transform(image) * ((length <= 5) & (length > 0))
        assert_close(unpack(pack(half, coefficients), coefficients), half, atol=1e-4, rtol=0)


def test_the_power_of_the_disc_counts_every_coefficient_once():
    n = 16
    noise = torch.randn(200, n, n, generator=torch.Generator().manual_seed(3))
    coefficients = disc(n, 6)
    length = fourier.frequency_length((n, n)) * n
    full = fourier.transform(noise).abs().square() * fourier.hermitian_weights((n, n)) * ((length > 0) & (length <= 6))
    packed = pack(fourier.transform(noise), coefficients).abs().square()
    assert_close(2 * packed.sum(), full.sum(), rtol=1e-4, atol=0)


def test_log_likelihoods_equal_a_loop_over_particles_shifts_and_references():
    coefficients, images, references, transfer, noise_variance = random_case()
    shifts = shift_grid(1.0, 1.0)
    found = log_likelihoods(images, transfer, references, noise_variance, shift_ramps(coefficients, shifts))
    for i in range(len(images)):
        null = (images[i].abs().square() / noise_variance).sum()
        for t, shift in enumerate(shifts):
            ramp = pack(fourier.phase_ramp((12, 12), shift), coefficients)
            for r in range(len(references)):
                difference = images[i] - transfer[i] * ramp * references[r]
                expected = null - (difference.abs().square() / noise_variance).sum()
                assert_close(found[i, t, r], expected, atol=1e-4, rtol=1e-4)


def test_a_planted_reference_and_shift_are_found_and_the_sums_return_the_reference():
    coefficients, _, references, transfer, noise_variance = random_case()
    shifts = shift_grid(2.0, 1.0)
    planted_reference, planted_shift = torch.tensor([2, 0, 3]), torch.tensor([5, 0, 11])
    ramps = shift_ramps(coefficients, shifts)
    images = 40 * transfer * ramps[planted_shift] * references[planted_reference]
    prior = torch.full((len(shifts), len(references)), -1.0)
    sums, found = expectation(images, transfer, 40 * references, noise_variance, coefficients, shifts, prior)
    assert_close(found.reference, planted_reference)
    assert_close(found.shift, planted_shift)
    assert_close(sums.occupancy, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    seen = sums.occupancy > 0
    average = sums.numerator[seen] / sums.denominator[seen]
    assert_close(average, 40 * references[seen], atol=1e-2, rtol=1e-3)
    assert residual_power(sums, 40 * references).abs().max() < 1e-2


def test_blocks_add_up_to_the_whole():
    coefficients, images, references, transfer, noise_variance = random_case(n_particles=7)
    shifts = shift_grid(1.0, 1.0)
    prior = torch.zeros(len(shifts), len(references))
    whole, _ = expectation(images, transfer, references, noise_variance, coefficients, shifts, prior, groups=2)
    parts = [
        expectation(images[s], transfer[s], references, noise_variance, coefficients, shifts, prior, groups=2)[0]
        for s in (slice(0, 3), slice(3, 7))
    ]
    assert_close(whole.numerator, parts[0].numerator + parts[1].numerator, atol=1e-4, rtol=1e-4)
    assert_close(whole.denominator, parts[0].denominator + parts[1].denominator, atol=1e-5, rtol=1e-4)
    assert_close(whole.occupancy.sum(), torch.tensor(7.0))
