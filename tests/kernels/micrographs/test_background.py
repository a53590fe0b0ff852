"""Background of particle images against what was planted."""

import pytest
import torch
from torch.testing import assert_close

from kernels.masks import distance_from_origin, soft_circle
from kernels.micrographs.background import normalised, without_outliers


def images(n=5, side=48, seed=0):
    return torch.randn(n, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_background_has_no_mean_no_slope_and_unit_deviation():
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    raw = 7 * images() + 200 + 3 * y - 1.5 * x - 40 * soft_circle(48, 14.0, 2.0)
    even = normalised(raw, 18.0)
    outside = distance_from_origin((48, 48)) > 18
    background = even[:, outside]
    assert_close(background.mean(-1), torch.zeros(5), atol=1e-4, rtol=0)
    assert_close(background.std(-1), torch.ones(5), atol=1e-4, rtol=0)
    for axis in (y, x):
        slope = (background * (axis[outside] - axis[outside].mean())).sum(-1) / axis[outside].var()
        assert slope.abs().max() < 1e-1 * outside.sum() ** 0.5


def test_gain_level_and_slope_of_a_micrograph_do_not_matter_and_dark_stays_dark():
    y, _ = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    raw = images() - 3 * soft_circle(48, 14.0, 2.0)
    assert_close(normalised(12 * raw + 900 + 30 * y, 18.0), normalised(raw, 18.0), atol=2e-3, rtol=0)
    assert (normalised(raw, 18.0)[:, 24, 24 - 8 : 24 + 8].mean(-1) < -2).all()


def test_an_image_of_one_value_becomes_zero():
    assert_close(normalised(torch.full((2, 32, 32), 5.0), 10.0), torch.zeros(2, 32, 32), atol=1e-6, rtol=0)


def test_a_particle_that_fills_its_box_has_no_background():
    with pytest.raises(ValueError, match="use a larger box"):
        normalised(images(side=32), 40.0)


def test_wild_pixels_are_mended_and_others_stay():
    clean = images(3, 40, seed=2)
    wild = clean.clone()
    wild[0, 10, 12], wild[1, 0, 39], wild[1, 20, 20] = 60.0, -45.0, 80.0
    mended, count = without_outliers(wild)
    assert count.tolist() == [1, 2, 0]
    assert mended.abs().max() < 5
    is_same = mended == clean
    assert int((~is_same).sum()) == 3
