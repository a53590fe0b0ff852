"""Gain references: orientation, application, repair of bad pixels, agreement with counts."""

import pytest
import torch

from kernels.movies.gain import agreements, apply_gain, orient, repair_defects, replacements


def poisson(mean: float, shape, seed: int = 3):
    return torch.poisson(torch.full(shape, float(mean)), generator=torch.Generator().manual_seed(seed))


def test_a_quarter_turn_is_clockwise_with_row_zero_on_top():
    image = torch.arange(6).reshape(2, 3)
    assert orient(image, 90).tolist() == [[3, 0], [4, 1], [5, 2]]
    assert orient(image, 270).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert orient(image, 180).tolist() == [[5, 4, 3], [2, 1, 0]]


def test_flips_come_after_the_turn():
    image = torch.arange(6).reshape(2, 3)
    assert orient(image, 0, "vertical").tolist() == [[3, 4, 5], [0, 1, 2]]
    assert orient(image, 0, "horizontal").tolist() == [[2, 1, 0], [5, 4, 3]]
    assert torch.equal(orient(image, 90, "vertical"), orient(image, 90).flip(0))


def test_four_quarter_turns_are_none_and_other_angles_are_refused():
    image = torch.rand(5, 7)
    turned = image
    for _ in range(4):
        turned = orient(turned, 90)
    assert torch.equal(turned, image)
    assert torch.equal(orient(image, 360), image)
    with pytest.raises(ValueError, match="45°"):
        orient(image, 45)


def test_counts_behind_an_uneven_gain_come_out_flat():
    gain = 0.8 + 0.4 * torch.rand(13, 17, generator=torch.Generator().manual_seed(1))
    corrected = apply_gain(100 / gain.expand(3, 13, 17), gain)
    torch.testing.assert_close(corrected, torch.full((3, 13, 17), 100.0))


def test_a_gain_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="gain is"):
        apply_gain(torch.zeros(2, 4, 6), torch.ones(6, 4))


def test_bad_pixels_take_counts_from_good_ones_near_and_the_rest_stays():
    frames = poisson(20, (4, 31, 45))
    is_defect = torch.zeros(31, 45, dtype=torch.uint8)
    is_defect[3, 4] = is_defect[0, 0] = is_defect[30, 44] = 1
    is_defect[10:25, 20:24] = 1  # four dead columns
    spoilt = torch.where(is_defect != 0, 1e6, frames)
    repaired = repair_defects(spoilt, is_defect)
    assert torch.equal(repaired[:, is_defect == 0], frames[:, is_defect == 0])
    assert repaired.max() < 1000
    target, source = replacements(is_defect)
    distance = torch.stack([target // 45 - source // 45, target % 45 - source % 45]).abs().max(0).values
    assert distance.max() <= 4  # two columns to the next good one, and the next power of two above that


def test_repaired_pixels_have_the_mean_and_the_noise_of_their_neighbours():
    frames = poisson(9, (200, 24, 30))
    is_defect = torch.zeros(24, 30, dtype=torch.bool)
    is_defect[5:9, 7:12] = True
    filled = repair_defects(frames, is_defect)[:, is_defect]
    assert filled.mean() == pytest.approx(9, abs=0.3)  # 4000 draws of a Poisson variable with variance 9
    assert filled.var() == pytest.approx(9, abs=1.0)


def test_a_detector_without_a_good_pixel_is_refused():
    with pytest.raises(ValueError, match="all pixels"):
        repair_defects(torch.zeros(1, 4, 4), torch.ones(4, 4))


def test_a_gain_agrees_with_counts_in_its_own_orientation_only():
    generator = torch.Generator().manual_seed(6)
    gain = 1 + 0.04 * torch.randn(90, 90, generator=generator)
    gain[3, 5] = 0
    response = torch.where(gain > 0, 1 / gain.clamp_min(0.1), 0)
    beam = torch.linspace(20, 60, 90)[:, None]  # electrons of one movie, brighter at one side
    mean = torch.poisson(beam * response, generator=generator)
    mean[40, 40] = 5000
    # the gain varies by 0.04, counting by one over the square root of 40 = 0.16
    expected = 0.04 / (0.04**2 + 1 / 40) ** 0.5
    found = agreements(mean, gain)
    assert len(found) == 8
    assert found.pop((0, "none")) == pytest.approx(expected, abs=0.04)
    assert max(map(abs, found.values())) < 0.05  # four times 1 / 90
    assert agreements(mean, response)[0, "none"] == pytest.approx(-expected, abs=0.04)
    corrected = torch.poisson(beam.expand(90, 90), generator=generator)
    assert max(map(abs, agreements(corrected, gain).values())) < 0.05
    turned = agreements(mean, orient(gain, 90, "vertical"))
    assert max(turned, key=lambda other: turned[other]) == (90, "vertical")  # which undoes itself
    assert set(agreements(mean, torch.ones(90, 90)).values()) == {0.0}
    assert set(agreements(mean[:80], gain[:80])) == {(0, "none"), (0, "vertical"), (180, "none"), (180, "vertical")}
