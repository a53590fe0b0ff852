"""What frames share, and the weights that follow."""

import torch
from torch.testing import assert_close

from kernels.movies.persistence import Persistence, fit_persistence

N_FRAMES = 12
LAG = torch.arange(N_FRAMES)[:, None]
FREQUENCY = torch.arange(60) / 300.0


def test_lasting_and_passing_power_are_told_apart():
    lasting = 0.3 * torch.exp(-FREQUENCY * 20)
    passing = torch.full_like(FREQUENCY, 0.02)
    kept = torch.exp(-(2.0 * 1.3**10) * FREQUENCY**2)
    covariance = lasting + passing * kept**LAG
    covariance[0] += 1.0
    found = fit_persistence(covariance, torch.arange(60) * 100.0 + 1, FREQUENCY)
    fine = slice(30, 58)  # beyond 10 Å; the coarse structure of ice lasts as long as that of protein
    assert_close(found.kept, kept)
    assert_close(found.lasting[fine], lasting[fine], atol=1e-3, rtol=0)
    assert_close(found.passing[fine], passing[fine], atol=1e-3, rtol=0)
    assert_close(found.noise[fine], torch.ones(28), rtol=0.01, atol=0)


def test_noise_that_frames_do_not_share_gets_no_weight():
    covariance = torch.zeros(N_FRAMES, 60)
    covariance[0] = 1.0
    found = fit_persistence(covariance, torch.full((60,), 100.0), FREQUENCY)
    constant, fading, _ = found.pair_weights(N_FRAMES)
    assert_close(constant + fading, torch.zeros(60), atol=1e-6, rtol=0)


def test_what_lasts_weighs_all_pairs_alike_and_as_the_inverse_covariance_says():
    signal, noise = torch.tensor([0.5]), torch.tensor([2.0])
    constant, fading, _ = Persistence(signal, torch.zeros(1), torch.ones(1), noise).pair_weights(N_FRAMES)
    assert_close(constant, signal / noise / (noise + N_FRAMES * signal), rtol=1e-4, atol=0)  # Sherman and Morrison
    assert_close(fading, torch.zeros(1), atol=1e-6, rtol=0)


def test_what_passes_weighs_neighbours_most():
    persistence = Persistence(torch.tensor([0.002]), torch.tensor([0.05]), torch.tensor([0.4]), torch.tensor([1.0]))
    constant, fading, decay = persistence.pair_weights(N_FRAMES)
    distance = (LAG - LAG.T).abs()
    matrix = 0.002 + 0.05 * 0.4**distance + torch.eye(N_FRAMES)
    exact = -torch.linalg.inv(matrix)
    for lag in (1, 2, 5):
        middle = float(exact[3, 3 + lag])
        assert_close(float(constant + fading * decay**lag), middle, rtol=0.05, atol=1e-4)
