"""A gain made from movies: closer to the truth than none and than the plain mean, at any number of counts."""

import pytest
import torch

from kernels.movies.fixed_pattern import detail, pattern_of
from kernels.movies.gain_estimation import PatternSums, estimate_gain, mean_gain
from kernels.specimen.simulation import random_detector
from tests.truth.detector_session import counts, generator

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (160, 176)


def sums_of(detector, mean, n, seed=0, first_half=0):
    sums = PatternSums.zeros(SHAPE)
    for i in range(n):
        sums.add(detail(counts(detector, mean, generator(1000 * seed + i))), (first_half + i) % 2)
    return sums


def rms_error(gain, detector):
    """Against the fine detail of the response, on good pixels; that of no gain at all is the pattern's own RMS."""
    good = ~(detector.is_dead | detector.is_hot)
    truth = pattern_of(1 / detector.gain)
    return float((1 / gain.clamp(min=0.1) - 1 - truth)[good].square().mean().sqrt())


def bare_counts(detector, mean, seed):
    """No specimen: nothing but the detector and chance."""
    expected = (mean / detector.gain).masked_fill(detector.is_dead, 0.0).masked_fill(detector.is_hot, 40 * mean)
    return torch.poisson(expected, generator=generator(seed))


@pytest.mark.parametrize(("mean", "n"), [(1.0, 4), (10.0, 8), (40.0, 12), (400.0, 8)])
def test_the_estimate_is_better_than_none_and_than_the_plain_mean(mean, n):
    detector = random_detector(SHAPE, generator(1))
    sums = sums_of(detector, mean, n)
    found = estimate_gain(sums)
    error = rms_error(torch.where(found.is_defect, 1.0, found.gain), detector)
    assert error < 1.02 * rms_error(torch.ones(SHAPE), detector)
    assert error < 1.02 * rms_error(mean_gain(sums), detector)
    if found.explained > 0.3:
        assert found.rms_error == pytest.approx(error, rel=0.1)
        assert found.pattern_rms == pytest.approx(rms_error(torch.ones(SHAPE), detector), rel=0.1)


def test_very_many_counts_give_the_true_response():
    detector = random_detector(SHAPE, generator(2))
    sums = PatternSums.zeros(SHAPE)
    for i in range(4):
        sums.add(detail(bare_counts(detector, 1e5, i)), i % 2)
    found = estimate_gain(sums)
    assert found.explained > 0.98
    assert rms_error(torch.where(found.is_defect, 1.0, found.gain), detector) < 0.003
    assert torch.equal(found.is_defect, detector.is_dead | detector.is_hot)
    assert not found.gain[found.is_defect].any()


def test_columns_are_corrected_where_pixels_cannot_be():
    detector = random_detector(SHAPE, generator(3))
    found = estimate_gain(sums_of(detector, 6.0, 12))
    parts = {part.name: part for part in found.parts}
    assert parts["columns"].rms_error < 0.75 * parts["columns"].rms
    assert parts["pixels"].rms_error > 0.9 * parts["pixels"].rms


def test_counts_without_a_pattern_get_no_gain():
    detector = random_detector(SHAPE, generator(4), 0, 0)
    sums = PatternSums.zeros(SHAPE)
    for i in range(6):
        sums.add(detail(counts(detector, 40.0, generator(i)) * detector.gain), i % 2)
    found = estimate_gain(sums)
    assert float((found.gain - 1).abs().max()) < 0.02
    assert found.pattern_rms < 0.02 and not found.is_defect.any()


def test_sums_of_parts_are_the_sums_of_all():
    detector = random_detector(SHAPE, generator(5))
    parts = [sums_of(detector, 20.0, 3, seed=1), sums_of(detector, 20.0, 2, seed=2, first_half=1)]
    together = parts[0] + parts[1]
    assert together.n_exposures.tolist() == [3, 2]
    torch.testing.assert_close(together.excess, parts[0].excess + parts[1].excess)
    assert int(together.n_hot[detector.is_hot].min()) == 5
    with pytest.raises(ValueError, match="two halves"):
        estimate_gain(sums_of(detector, 20.0, 1))
