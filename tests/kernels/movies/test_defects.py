"""Bad pixels put into counts are found, and nothing else is."""

import torch

from kernels.movies.defects import clusters, odd_lines, odd_pixels, outlying_pixels, spikes


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


def test_odd_pixels_are_hot_or_dead_and_good():
    expected = torch.full((50, 60), 30.0)
    total = torch.poisson(expected, generator=torch.Generator().manual_seed(3))
    total[3, 4], total[5, 6], total[7, 8] = 200, 0, 500
    is_good = torch.ones(50, 60, dtype=torch.bool)
    is_good[7, 8] = False
    hot, dead = odd_pixels(total, expected, is_good)
    assert hot.tolist() == [3 * 60 + 4] and dead.tolist() == [5 * 60 + 6]
    assert len(odd_pixels(torch.zeros(50, 60), torch.full((50, 60), 2.0), is_good)[1]) == 0  # may be chance


def test_lines_that_change_by_themselves_are_odd_and_broad_changes_are_not():
    error = 0.01
    change = error * torch.randn(300, generator=torch.Generator().manual_seed(4))
    change += 0.3 * torch.exp(-((torch.arange(300) - 150) ** 2) / 1e4)
    assert odd_lines(change, error).tolist() == []
    change[77] -= 0.5
    change[200:203] += 0.4
    assert odd_lines(change, error).tolist() == [77, 200, 201, 202]
    assert odd_lines(change[:3], error).tolist() == []


def test_clusters_touch_at_sides_and_corners():
    at = [(0, 0), (1, 1), (2, 2), (1, 3), (7, 7), (7, 8), (20, 5), (21, 5), (22, 5), (23, 5)]
    index = torch.tensor([y * 30 + x for y, x in at])
    assert clusters(index, 30, 4) == [(0, 0, 4, 3), (5, 20, 1, 4)]
    assert clusters(index[:0], 30, 1) == []
