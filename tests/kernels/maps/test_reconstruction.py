"""Reconstruction from projections with a known map behind them."""

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.maps.fsc import fsc
from kernels.maps.projection import Accumulator, half_disc, insert, prepare_volume, slices
from kernels.maps.reconstruction import complete, reconstruct, symmetrise, symmetrise_map
from kernels.optics import Optics
from kernels.rotations import random_rotations, symmetry_group

N = 32


def gaussian_map(centres: torch.Tensor, sigma_px: float, n: int = N) -> torch.Tensor:
    axis = torch.arange(n, dtype=torch.float32) - n // 2
    z, y, x = (torch.exp(-((axis - c[:, None]) ** 2) / (2 * sigma_px**2)) for c in centres.unbind(-1))
    return torch.einsum("mz,my,mx->zyx", z, y, x)


def symmetric_phantom(symmetry: str, sigma_px: float = 1.0, n: int = N) -> torch.Tensor:
    unit = torch.tensor([[6.0, 3.0, 1.0], [-4.0, 5.0, 2.5]]) * n / 32
    centres = torch.einsum("gij,aj->gai", symmetry_group(symmetry).float(), unit).reshape(-1, 3)
    return gaussian_map(centres, sigma_px, n)


def back_projected(density_map: torch.Tensor, n_views: int, seed: int = 1) -> Accumulator:
    n = density_map.shape[-1]
    rotations, points = random_rotations(n_views, torch.Generator().manual_seed(seed)), half_disc(n / 2 - 1)
    accumulator = Accumulator.empty(n, n / 2 - 1)
    insert(accumulator, slices(prepare_volume(density_map), rotations, points), torch.ones(1), rotations, points)
    return accumulator


@pytest.mark.parametrize("symmetry", ["C3", "C4", "D2", "D5", "T", "O", "I"])
def test_one_asymmetric_unit_of_views_gives_the_symmetric_map(symmetry):
    truth = symmetric_phantom(symmetry)
    n_views = max(30, 400 // len(symmetry_group(symmetry)))
    found = reconstruct(back_projected(truth, n_views), symmetry)
    assert fsc(found, truth)[:13].min() > 0.98
    assert abs((found * truth).sum() / (truth * truth).sum() - 1) < 0.05


@pytest.mark.parametrize("symmetry", ["C2", "C4", "D2", "O"])
def test_symmetrised_sums_are_invariant_under_every_operation(symmetry):
    sums = symmetrise(complete(back_projected(symmetric_phantom("C1"), 20)), symmetry)
    again = symmetrise(sums, symmetry)
    n = len(symmetry_group(symmetry))
    assert_close(again.weight / n, sums.weight)
    assert_close(again.data / n, sums.data, atol=1e-3, rtol=1e-4)


def test_a_symmetrised_map_is_the_mean_over_its_mates():
    truth = symmetric_phantom("D3", 2.0)
    assert_close(symmetrise_map(truth, "D3"), truth, atol=0.06, rtol=0)
    lopsided = gaussian_map(torch.tensor([[0.0, 7.0, 0.0]]), 2.0)
    expected = gaussian_map(torch.tensor([[0.0, 7.0, 0.0], [0.0, 0.0, 7.0], [0.0, -7.0, 0.0], [0.0, 0.0, -7.0]]), 2.0)
    assert_close(symmetrise_map(lopsided, "C4"), expected / 4, atol=1e-4, rtol=0)


def test_noiseless_particles_with_ctf_give_the_map_back():
    truth = symmetric_phantom("O", 0.9)
    generator = torch.Generator().manual_seed(3)
    rotations, points = random_rotations(60, generator), half_disc(N / 2 - 1)
    optics = Optics(300, 2.7, 0.1, 2.0)
    u = 8000 + 12000 * torch.rand(60, generator=generator)
    transfer = ctf(points / (N * 2.0), Defocus(u, u - 300, torch.zeros(60), torch.zeros(60)), optics)
    images = slices(prepare_volume(truth), rotations, points) * transfer
    accumulator = Accumulator.empty(N, N / 2 - 1)
    insert(accumulator, images * transfer, transfer**2, rotations, points)
    found = reconstruct(accumulator, "O", 1e4)
    assert fsc(found, truth)[2:13].min() > 0.98
    # scale in the pass band: the map, and no multiple of it
    both = torch.stack([fourier.transform(found, 3), fourier.transform(truth, 3)])
    band = (fourier.shell_index((N,) * 3) >= 4) & (fourier.shell_index((N,) * 3) <= 10)
    ratio = (both[0] * both[1].conj()).real[band].sum() / (both[1].abs() ** 2)[band].sum()
    assert abs(ratio - 1) < 0.05


def test_the_wiener_filter_shrinks_a_shell_by_its_signal_to_noise_ratio():
    accumulator = back_projected(symmetric_phantom("C1"), 2000)
    plain = fourier.transform(reconstruct(accumulator, "C1", 1e6), 3)
    ratio = torch.full((N // 2 + 1,), 1e6)
    ratio[7] = 1.0
    ratio[12:] = 0.0
    filtered = fourier.transform(reconstruct(accumulator, "C1", ratio), 3)
    index = fourier.shell_index((N,) * 3)
    gain = fourier.shell_sums((filtered * plain.conj()).real, index, 16) / fourier.shell_sums(
        plain.abs() ** 2, index, 16
    )
    assert abs(gain[7] - 0.5) < 0.08  # voxels of the shell have unequal weights
    assert abs(gain[5] - 1) < 0.02
    assert gain[13] < 0.01


def test_a_smaller_box_gives_the_resampled_map():
    accumulator = back_projected(symmetric_phantom("C1", 2.5), 300)
    small = reconstruct(accumulator, box=20)
    truth = fourier.resample(reconstruct(accumulator), (20, 20, 20))
    assert (small - truth).norm() / truth.norm() < 0.03
