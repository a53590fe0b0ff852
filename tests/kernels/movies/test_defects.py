"""Bad pixels put into counts are found, and nothing else is."""

import torch

from kernels.movies.defects import outlying_pixels, spikes


def counts(n_frames, mean=2.4, shape=(150, 201), seed=1):
    return torch.poisson(torch.full((n_frames, *shape), mean), generator=torch.Generator().manual_seed(seed))


def test_hot_and_dead_pixels_are_marked_and_not_their_neighbours():
    mean = counts(20).mean(0)
    bad = [(10, 20), (10, 21), (0, 0), (149, 200), (70, 3)]
    for y, x in bad[:4]:
        mean[y, x] = 60.0
    mean[70, 3] = 0.0
    marked = outlying_pixels(mean, 6.0)
    assert {tuple(at) for at in marked.nonzero().tolist()} == set(bad)


def test_an_uneven_beam_and_a_dark_disc_mark_nothing():
    y, x = torch.meshgrid(torch.arange(150.0), torch.arange(201.0), indexing="ij")
    level = 2.4 * torch.exp(-((y - 20) ** 2 + (x - 80) ** 2) / 2e4)
    disc = torch.sigmoid((((y - 90) ** 2 + (x - 100) ** 2).sqrt() - 30) / 3)
    frames = torch.poisson((level * (0.4 + 0.6 * disc)).expand(20, -1, -1), generator=torch.Generator().manual_seed(2))
    assert int(outlying_pixels(frames.mean(0), 7.0).sum()) <= 2


def test_rare_hits_are_spikes_and_counts_are_not():
    for mean in (0.1, 2.4, 30.0):
        frame = counts(1, mean)[0]
        assert len(spikes(frame)) <= 2
        frame[7, 9] = 200 + 50 * mean
        assert 7 * 201 + 9 in spikes(frame).tolist()
