"""Figures: what is drawn lies where the data say, whatever is odd about them."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies
from kernels.optics import Optics
from kernels.rotations import euler_to_matrix, random_rotations
from tasks.plots import exposures, maps, page, particles
from tasks.plots.style import png, stretch_limits


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def is_pick_colour(image: np.ndarray) -> np.ndarray:
    return (image[..., 1] > 200) & (image[..., 0] < 120)


def test_the_preview_keeps_the_field_of_view_and_what_is_dark():
    micrograph = np.random.default_rng(0).normal(0, 1, (300, 420)).astype(np.float32)
    y, x = np.mgrid[:300, :420]
    micrograph[(y - 90) ** 2 + (x - 330) ** 2 < 30**2] -= 2
    preview = exposures.micrograph_preview(micrograph, 140, 2.0)
    assert preview.shape == (100, 140)
    assert preview[30, 110] < 60
    assert preview[70, 30] > 100
    darkest = np.median(np.argwhere(preview < np.percentile(preview, 3)), axis=0)
    np.testing.assert_allclose(darkest, [30, 110], atol=3)


def test_circles_are_drawn_around_the_picks():
    micrograph = np.random.default_rng(0).normal(0, 1, (400, 600)).astype(np.float32)
    image = pixels(exposures.micrograph_with_picks(micrograph, 1.0, np.array([[100.0, 450.0]]), 40, size_px=300))
    assert image.shape == (200, 300, 3)
    found = np.argwhere(is_pick_colour(image))
    np.testing.assert_allclose(found.mean(axis=0), [50, 225], atol=1)
    np.testing.assert_allclose(np.ptp(found, axis=0), [40, 40], atol=2)
    without = pixels(exposures.micrograph_with_picks(micrograph, 1.0, np.zeros((0, 2)), 40, size_px=300))
    assert not is_pick_colour(without).any()


def test_a_micrograph_with_nan_or_one_value_is_still_a_picture():
    for value in (np.nan, 3.0):
        image = exposures.micrograph_preview(np.full((60, 80), value, np.float32), 40, 1.0)
        assert image.shape == (30, 40)


def test_both_halves_of_the_spectrum_agree_where_the_fit_is_right():
    """The observed half is mirrored: astigmatic rings have to go on across the seam."""
    optics = Optics(300, 2.7, 0.1, 1.5)
    grid = frequencies((256, 256), optics.pixel_size_angstrom)
    model = torch.abs(ctf(grid, Defocus.of(22000, 15000, 0.7), optics)).numpy()
    left, right = exposures._two_halves(model, model, 0.5)
    assert left.shape == right.shape
    middle = left.shape[0] // 2
    rows = slice(middle - 30, middle + 30)
    seam = np.abs(left[rows, -1] - right[rows, 0]).mean()
    # without the mirroring the rings would meet those of the other direction
    assert seam < 0.1
    upside_down = np.abs(left[rows, -12] - right[rows, 11]).mean()
    turned = np.abs(np.roll(left[::-1], 1, axis=0)[rows, -12] - right[rows, 11]).mean()
    assert turned < upside_down


@pytest.mark.parametrize("n_frames", [0, 1, 12])
@pytest.mark.parametrize("n_patches", [0, 1, 25])
def test_motion_is_drawn_for_any_number_of_frames_and_patches(n_frames, n_patches):
    path = np.cumsum(np.ones((n_frames, 2)), axis=0)
    centres = np.random.default_rng(0).uniform(0, 900, (n_patches, 2))
    figure = exposures.motion_trajectory(path, centres, np.repeat(path[None], n_patches, 0), (900, 1000))
    assert pixels(png(figure)).std() > 0


def test_the_motion_path_is_drawn_in_angstrom_with_y_downwards():
    shifts = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 10.0]])
    axes = exposures.motion_trajectory(shifts).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), shifts[:, ::-1])
    assert axes.yaxis_inverted()
    assert axes.get_xlabel() == "x / Å"


def test_local_motion_is_drawn_to_the_scale_that_its_title_says():
    centres = np.array([[100.0, 100.0], [500.0, 700.0]])
    paths = np.zeros((2, 3, 2))
    paths[:, :, 1] = [[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]]
    field = exposures.motion_trajectory(paths[0], centres, paths, (800, 900)).axes[1]
    drawn = field.collections[0].get_segments()
    shown, px = (float(word) for word in re.findall(r"[\d.]+", field.get_title(loc="left")))
    assert np.ptp(drawn[1][:, 0]) == pytest.approx(4.0 * px / shown, rel=0.02)
    np.testing.assert_allclose(drawn[0][0], [100, 100])


def test_orientations_from_one_direction_fill_one_cell_and_even_ones_all():
    north = euler_to_matrix(*torch.tensor([0.3, 0.0, 1.0], dtype=torch.float64))[None].repeat(500, 1, 1).numpy()
    one = particles.orientation_distribution(north).axes[0].collections[0].get_array()
    assert (np.asarray(one) > 0).mean() < 0.02
    even = particles.orientation_distribution(random_rotations(20000, torch.Generator().manual_seed(1)).numpy())
    relative = np.asarray(even.axes[0].collections[0].get_array())
    assert relative.min() > 0.2
    assert relative.max() < 2.0


def test_viewing_direction_is_the_map_axis_along_the_beam():
    """A particle tilted by 90° with rot 0 is seen along x of the map: azimuth 0, latitude 0."""
    rotation = euler_to_matrix(*torch.deg2rad(torch.tensor([0.0, 90.0, 25.0], dtype=torch.float64)))
    np.testing.assert_allclose(rotation[0].numpy(), [0, 0, 1], atol=1e-12)  # (z, y, x)


def test_the_gallery_shows_kept_classes_first_and_largest_first():
    averages = np.random.default_rng(0).normal(0, 1, (5, 20, 20))
    figure = particles.class_gallery(
        averages, np.array([5, 50, 20, 7, 1]), np.array([9.0, 12, 30, np.nan, 8]), np.array([1, 0, 1, 1, 0], bool)
    )
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == ["20 · 30 Å", "7", "5 · 9 Å", "50 · 12 Å", "1 · 8 Å"]


def test_slices_and_projections_have_the_map_behind_them():
    density = np.zeros((20, 22, 24), np.float32)
    density[10, 4, 18] = 1.0
    drawn = [a.get_images()[0].get_array() for a in maps.projections(density, 1.0).axes]
    assert [tuple(np.argwhere(image > 0)[0]) for image in drawn] == [(4, 18), (10, 18), (10, 4)]
    first = maps.central_slices(density, 1.0).axes[0].get_images()[0].get_array()
    assert first.shape == (22, 24)
    assert first[4, 18] == 1


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_map_is_still_a_picture(value):
    density = np.full((16, 16, 16), value, np.float32)
    assert pixels(png(maps.central_slices(density, 1.0))).shape[2] == 3
    assert pixels(png(maps.local_resolution_histogram(density, None, None))).shape[2] == 3


def test_fsc_shows_all_four_curves_and_both_thresholds():
    frequency = np.linspace(0, 0.25, 50)
    fsc = np.exp(-20 * frequency)
    figure = maps.fsc_curves(np.stack([frequency, fsc, fsc, fsc / 10, fsc]), 5.0)
    axes = figure.axes[0]
    labels = {line.get_label() for line in axes.lines}
    assert {"unmasked", "masked", "masked, phases randomised", "corrected"} <= labels
    assert {"0.143", "0.5", "5.00 Å"} <= {text.get_text() for text in axes.texts}


def test_the_line_of_a_guinier_plot_lies_on_amplitudes_of_its_b_factor():
    squared = np.linspace(0.001, 0.04, 60)
    axes = maps.guinier(squared, 5 - 120 / 4 * squared, -120.0).axes[0]
    line = axes.lines[1]
    np.testing.assert_allclose(line.get_ydata(), 5 - 30 * line.get_xdata(), atol=1e-9)


def test_series_count_only_what_exposures_have():
    values = np.array([1.0, np.nan, 3.0, 10.0])
    figure = exposures.session_overview(
        [exposures.Series("Defocus", "µm", values)], np.array([True, True, True, False])
    )
    good, bad, median = figure.axes[0].lines
    assert list(good.get_xdata()) == [1, 3]
    assert list(bad.get_xdata()) == [4]
    assert median.get_ydata()[0] == 2.0


def test_limits_of_a_constant_image_are_not_equal():
    low, high = stretch_limits(np.ones((4, 4)))
    assert low < 1 < high


def test_text_on_the_page_is_escaped_and_numbers_are_flush():
    html = page.table(("name", "n"), [("<b>", "1\u202f200"), ("c", "–")], "a & b")
    assert "&lt;b&gt;" in html and "a &amp; b" in html
    assert html.count('class="number"') == 3
    assert 'alt="&quot;x&quot;"' in page.picture(b"", '"x"')
