"""The fixed pattern of counts: detail is kept as it is, what varies over tens of pixels is not."""

import pytest
import torch

from kernels.movies.fixed_pattern import BIN, detail, local_mean, pattern_of
from tests.truth.detector_session import generator

pytestmark = pytest.mark.usefixtures("one_thread")


def poisson(mean, shape=(160, 203), seed=1):
    return torch.poisson(torch.as_tensor(mean).expand(shape), generator=generator(seed))


@pytest.mark.parametrize("mean", [0.2, 3.0, 60.0])
def test_poisson_counts_have_noise_one_and_no_pattern(mean):
    found = detail(poisson(mean))
    assert found.noise == pytest.approx(1, abs=0.02)
    assert float(found.excess.mean()) == pytest.approx(0, abs=4 * (mean / 160 / 203) ** 0.5)
    assert float(found.expected.mean()) == pytest.approx(mean, rel=0.03)


def test_the_local_mean_of_a_plane_is_the_plane_and_bad_pixels_have_no_say():
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(203.0), indexing="ij")
    plane = 5 + 0.02 * y - 0.01 * x
    spoilt = plane.clone()
    spoilt[50, 60] = 1e6
    inner = (slice(3 * BIN, -3 * BIN), slice(3 * BIN, -3 * BIN))
    found = local_mean(spoilt, spoilt < 1e5)
    torch.testing.assert_close(found[inner], plane[inner], atol=0.01, rtol=0)
    assert float(local_mean(torch.ones(9, 17), torch.zeros(9, 17, dtype=torch.bool)).abs().max()) == 0


def test_a_pattern_of_pixels_is_found_and_an_uneven_beam_is_not():
    pixels = 0.03 * torch.randn(320, 304, generator=generator(2))
    beam = torch.linspace(0.7, 1.2, 304)
    found = pattern_of((1 + pixels) * beam)
    slope = float((found * pixels).sum() / pixels.square().sum())
    assert slope == pytest.approx(1, abs=0.02)
    assert float((found - pixels).square().mean().sqrt()) < 0.004  # the mean of some 600 pixels has 0.03 / 24


def test_hot_and_dead_pixels_are_pulled_in_and_spare_their_neighbours():
    counts = poisson(50.0)
    counts[40, 41], counts[80, 81] = 5000, 0
    found = detail(counts)
    assert found.is_hot.nonzero().tolist() == [[40, 41]]
    assert float(found.excess[40, 41]) < 60 and float(found.excess[80, 81]) < -20
    assert float(found.expected[40, 46]) == pytest.approx(50, abs=2)
    bad = torch.ones_like(counts, dtype=torch.bool)
    bad[40, 41] = False
    assert float(detail(counts, bad).excess[40, 41]) == 0
