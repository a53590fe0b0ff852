"""Maps of atoms whose B-factor is known, and halves whose resolution differs from place to place by construction."""

import math

import pytest
import torch

from kernels import fourier
from kernels.maps.sharpening import fsc_weight, guinier_fit, local_resolution, radial_amplitude, sharpened

N, PIXEL = 64, 1.2


def point_atoms(seed: int = 1) -> torch.Tensor:
    """Random whole-voxel points in a ball: a flat spectrum, as Wilson statistics ask for."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(N) - N // 2
    inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) < 24**2
    return inside * (torch.rand(N, N, N, generator=generator) < 0.05).float()


def blurred(density: torch.Tensor, b_factor: float) -> torch.Tensor:
    frequency = fourier.frequency_length(density.shape, PIXEL)
    return fourier.inverse(fourier.transform(density, 3) * torch.exp(-b_factor * frequency**2 / 4), density.shape)


@pytest.mark.parametrize("b_factor", [40.0, 90.0])
def test_the_guinier_plot_gives_the_b_factor_that_blurred_the_map(b_factor):
    fit = guinier_fit(blurred(point_atoms(), b_factor), torch.ones(N // 2 + 1), PIXEL, 3.0)
    assert fit.b_factor_angstrom2 == pytest.approx(-b_factor, abs=8)  # scatter of the amplitudes of 1900 atoms


def test_sharpening_undoes_the_blur_up_to_the_resolution():
    truth = point_atoms()
    curve, resolution = torch.ones(N // 2 + 1), 4.0
    found = radial_amplitude(sharpened(blurred(truth, 90.0), PIXEL, -90.0, curve, resolution))
    expected = radial_amplitude(truth)
    last = math.floor(N * PIXEL / resolution)
    assert (found[:last] / expected[:last] - 1).abs().max() < 0.05
    assert found[math.ceil(1.1 * N * PIXEL / resolution) + 1 :].max() < 1e-3 * expected[0]


def test_weights_are_the_correlation_of_the_mean_with_the_truth():
    """Signal and noise of equal power: FSC 1/2, and the mean of two halves correlates sqrt(2/3) with the signal."""
    assert fsc_weight(torch.tensor([1.0, 0.5, 0.0, -0.2])).tolist() == pytest.approx([1, math.sqrt(2 / 3), 0, 0])


def test_too_few_shells_for_a_guinier_plot_say_so():
    with pytest.raises(ValueError, match=r"found 0 shells between 10 and 12\.00 Å"):
        guinier_fit(point_atoms(), torch.ones(N // 2 + 1), PIXEL, 12.0)


def test_local_resolution_sees_which_side_is_better():
    """The lower half in x holds signal to 4 Å, the upper one to 8 Å; both carry the same noise."""
    generator = torch.Generator().manual_seed(4)
    signal, frequency = torch.randn(N, N, N, generator=generator), fourier.frequency_length((N,) * 3, PIXEL)

    def to_resolution(resolution: float) -> torch.Tensor:
        return fourier.inverse(fourier.transform(signal, 3) * (frequency < 1 / resolution), (N,) * 3)

    both = to_resolution(8.0)
    both[..., : N // 2] = to_resolution(4.0)[..., : N // 2]
    halves = [both + 0.3 * torch.randn(N, N, N, generator=generator) for _ in range(2)]
    mask = torch.zeros(N, N, N)
    mask[16:48, 16:48, 8:56] = 1
    found = local_resolution(*halves, mask, PIXEL, 24, 8)
    assert (found[mask == 0] == 0).all()
    assert (found[mask == 1] > 0).all()
    assert found[16:48, 16:48, 8:16].median() == pytest.approx(4.0, abs=0.5)
    # of the coarse side the windows hold four shells only, and its band ends in the midst of one
    assert found[16:48, 16:48, 46:52].median() == pytest.approx(8.0, abs=2.0)
    with pytest.raises(ValueError, match="the mask is empty"):
        local_resolution(*halves, torch.zeros(N, N, N), PIXEL, 24, 8)
