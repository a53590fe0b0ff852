"""Templates, local correlation, peaks and thresholds against their closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kernels.micrographs.picking import (
    band_pass,
    blob_templates,
    contaminated,
    correlate,
    distinct,
    flattened,
    noise_threshold,
    peaks,
    phase_randomised,
    rotated,
    without_particles,
)
from kernels.windows import add_windows


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_blob_has_the_volume_of_its_shell():
    ball, shell = blob_templates(64, 2.0, [80.0], [0.0, 0.5])
    assert float(ball.sum()) * 4 == pytest.approx(4 / 3 * math.pi * 40**3, rel=2e-3)
    assert float(shell.sum() / ball.sum()) == pytest.approx(1 - 0.5**3, rel=5e-3)
    assert float(shell[32, 32]) == pytest.approx(40.0)


@given(y=st.integers(20, 50), x=st.integers(20, 70), gain=st.floats(0.1, 50), level=st.floats(-100, 100))
@settings(max_examples=15, deadline=None)
def test_a_template_correlates_perfectly_with_itself_at_any_gain_and_level(y, x, gain, level):
    templates = noise(3, 20, 20)
    image = add_windows(torch.zeros(71, 91), torch.tensor([[y, x]]), gain * templates[1:2]) + level
    score, which = correlate(image.double(), templates.double(), radius_px=9.0)
    assert float(score[y, x]) == pytest.approx(1.0, abs=1e-3)
    assert int(which[y, x]) == 1
    assert float(score[10:-10, 10:-10].max()) <= 1.001


def test_scores_do_not_depend_on_how_many_templates_are_taken_at_once(monkeypatch):
    templates, image = noise(7, 16, 16), noise(40, 52, seed=1)
    together = correlate(image, templates, 7.0)
    monkeypatch.setattr("kernels.micrographs.picking._TEMPLATES_AT_ONCE", 2)
    for a, b in zip(together, correlate(image, templates, 7.0)):
        assert_close(a, b)


def test_white_noise_scores_as_student_would_have_it():
    score, _ = correlate(noise(300, 320), noise(1, 20, 20, seed=5), 8.0)
    n = int((torch.hypot(*torch.meshgrid(torch.arange(20.0) - 10, torch.arange(20.0) - 10, indexing="ij")) <= 8).sum())
    assert float(score[20:-20, 20:-20].std()) == pytest.approx(1 / math.sqrt(n - 1), rel=0.05)


def test_turning_by_a_whole_turn_changes_nothing_and_by_quarters_is_exact():
    template = noise(1, 21, 21)
    turned = rotated(template, 4)
    assert_close(turned[0], template[0], atol=1e-5, rtol=0)
    for quarter in (1, 2, 3):
        options = [torch.rot90(template[0], sign * quarter, (0, 1)) for sign in (1, -1)]
        assert min(float((turned[quarter] - option).abs().max()) for option in options) < 1e-4


def test_round_templates_have_no_distinct_rotations():
    ball = blob_templates(40, 2.0, [50.0], [0.0])
    assert len(distinct(rotated(ball, 24), 18.0, 0.97)) == 1
    uneven = ball * (torch.arange(40) > 20)
    assert len(distinct(rotated(uneven, 24), 18.0, 0.97)) > 4


def test_the_band_lets_the_particle_pass_and_stops_gradients_and_detail():
    weights = band_pass(torch.tensor([0.0, 1 / 1000, 1 / 60, 1 / 20, 1 / 10]), 300.0, 15.0)
    assert weights[0] == 0
    assert weights[1] < 0.05
    assert weights[2] > 0.98
    assert weights[3] > 0.98
    assert weights[4] < 1e-4


@given(offset=st.tuples(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45)))
@settings(max_examples=20, deadline=None)
def test_the_summit_of_a_parabola_is_found_between_pixels(offset):
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(41.0), indexing="ij")
    score = 1 - ((y - 12 - offset[0]) ** 2 + (x - 25 - offset[1]) ** 2) / 100
    coordinate, height = peaks(score, 60.0)
    assert_close(coordinate, torch.tensor([[12 + offset[0], 25 + offset[1]]]), atol=2e-3, rtol=0)
    assert float(height[0]) == float(score[12, 25])


def test_a_peak_on_the_edge_stays_in_the_image():
    score = torch.zeros(20, 31)
    score[19, 5], score[18, 5], score[7, 30], score[0, 0] = 1.0, 0.9, 0.8, 0.7
    coordinate, _ = peaks(score, 4.0)
    assert_close(coordinate[:3], torch.tensor([[19.0, 5.0], [7.0, 30.0], [0.0, 0.0]]))


@given(distance=st.floats(2, 12), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_peaks_keep_their_distance_fall_in_height_and_leave_no_gap(distance, seed):
    score = noise(50, 60, seed=seed)
    coordinate, height = peaks(score, distance)
    assert (height.diff() <= 0).all()
    position = coordinate.round()
    gaps = torch.cdist(position, position) + torch.eye(len(position)) * 1e3
    assert float(gaps.min()) >= distance - 1e-4 - math.sqrt(2)  # rounding of the sub-pixel part
    assert float(height[0]) == float(score.max())


def test_randomised_phases_keep_the_spectrum_and_lose_the_particles():
    image = noise(60, 70)
    image[20:30, 20:30] -= 5
    random = phase_randomised(image, torch.Generator().manual_seed(8))
    assert_close(torch.fft.rfft2(random).abs(), torch.fft.rfft2(image).abs(), atol=2e-3, rtol=1e-3)
    assert abs(float(torch.corrcoef(torch.stack([image.flatten(), random.flatten()]))[0, 1])) < 0.1


def test_subtracting_the_particles_leaves_what_was_there_without_them():
    templates, ground = noise(2, 12, 12, seed=4), noise(50, 60, seed=5) * 1e-3
    position, which = torch.tensor([[10, 10], [30, 40], [30, 6]]), torch.tensor([0, 1, 1])
    image = add_windows(ground, position, 7 * templates[which])
    rest = without_particles(image, templates, which, position)
    assert float((rest - ground).abs().max()) < 0.01


def test_the_threshold_takes_the_asked_share_of_noise():
    real, noise_like = 0.6 + 0.05 * noise(300), 0.25 + 0.05 * noise(700, seed=1)
    height = torch.cat([real, noise_like]).sort(descending=True).values
    null = 0.25 + 0.05 * noise(2800, seed=2)
    threshold = noise_threshold(height, null, 4, torch.ones(1000), share=0.05)
    false_share = float((noise_like >= threshold).sum() / (height >= threshold).sum())
    assert false_share == pytest.approx(0.05, abs=0.02)
    assert float((real >= threshold).float().mean()) > 0.99


def test_peaks_of_noise_are_all_refused():
    null = noise(500, seed=2).mul(0.05)
    height = noise(200, seed=3).mul(0.05).sort(descending=True).values
    assert (height >= noise_threshold(height, null, 1, torch.ones(200), share=0.05)).sum() <= 1
    assert noise_threshold(torch.zeros(0), null, 1, torch.zeros(0), 0.05) == 1.0


def test_a_slope_on_a_high_level_is_taken_away_and_a_minority_does_not_bend_it():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 100), torch.linspace(-1, 1, 130), indexing="ij")
    image = noise(100, 130) + 2 * y - x * y
    raised = image + 20000.0
    raised[:40, :40] -= 500
    rest = flattened(raised)
    is_outside = torch.ones(100, 130, dtype=torch.bool)
    is_outside[:40, :40] = False
    assert_close(rest[is_outside], (image - 2 * y + x * y)[is_outside], atol=0.2, rtol=0)


def test_a_dark_ball_is_contamination_and_a_slope_or_a_particle_is_not():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 200), torch.linspace(-1, 1, 220), indexing="ij")
    image = noise(200, 220) + 3 * y + 2 * x * x
    pixel_y, pixel_x = torch.meshgrid(torch.arange(200.0), torch.arange(220.0), indexing="ij")
    particles = torch.tensor([[60, 60], [60, 160], [150, 160]])
    for centre in particles:
        image -= 1.5 * (torch.hypot(pixel_y - centre[0], pixel_x - centre[1]) < 10)
    assert not contaminated(flattened(image), 10.0, particles).any()
    from_ball = torch.hypot(pixel_y - 150, pixel_x - 60)
    found = contaminated(flattened(image - 10 * (from_ball < 25)), 10.0, particles)
    assert found[from_ball < 25].all()
    assert not found[from_ball > 25 + 40].any()
