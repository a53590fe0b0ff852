"""Windows around points."""

import torch
from torch.testing import assert_close

from kernels.windows import add_windows, cut_windows, is_within


def test_the_centre_of_a_window_is_its_origin():
    image = torch.arange(11.0 * 17).reshape(11, 17)
    centre = torch.tensor([[5, 8], [4, 12], [6, 3]])
    for n in (4, 5):
        windows = cut_windows(image, centre, n)
        assert_close(windows[:, n // 2, n // 2], image[centre[:, 0], centre[:, 1]])
        y, x = 4 - n // 2, 12 - n // 2
        assert_close(windows[1], image[y : y + n, x : x + n])


def test_outside_of_the_image_there_is_nothing():
    windows = cut_windows(torch.ones(6, 9), torch.tensor([[0, 0], [5, 8]]), 4)
    assert int(torch.isnan(windows[0]).sum()) == 16 - 4
    assert int(torch.isnan(windows[1]).sum()) == 16 - 9


def test_windows_that_are_added_can_be_taken_away_again():
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(20, 23, generator=generator)
    centre = torch.tensor([[0, 3], [10, 11], [11, 12], [19, 22]])  # two overlap, two reach over the edge
    windows = torch.randn(4, 6, 6, generator=generator)
    there = add_windows(image, centre, windows)
    assert_close(
        float(there.sum() - image.sum()), float(cut_windows(image * 0 + 1, centre, 6).nan_to_num().mul(windows).sum())
    )
    assert_close(add_windows(there, centre, -windows), image, atol=1e-5, rtol=0)


def test_only_whole_windows_are_within():
    centre = torch.tensor([[2, 2], [1, 2], [8, 8], [9, 8]])
    assert is_within((10, 10), centre, 4).tolist() == [True, False, True, False]
    assert is_within((11, 10), centre, 5).tolist() == [True, False, False, False]
