"""Cells find the pairs that all distances show."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.models.neighbours import nearest_first, pairs_within


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 60), m=st.integers(0, 60), radius=st.floats(0.1, 12), seed=st.integers(0, 1000))
def test_pairs_are_those_of_all_distances(n, m, radius, seed):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(n, 3, generator=generator, dtype=torch.float64) * 10 - 5
    second = torch.rand(m, 3, generator=generator, dtype=torch.float64) * 10
    i, j, distance = pairs_within(first, second, radius)
    expected = torch.nonzero(torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist") < radius)
    assert sorted(zip(i.tolist(), j.tolist())) == [tuple(pair) for pair in expected.tolist()]
    assert (i.diff() >= 0).all()
    torch.testing.assert_close(distance, (first[i] - second[j]).norm(dim=-1))


def test_partners_stand_nearest_first():
    points = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 3], [9, 9, 9]])
    i, j, distance = pairs_within(points, points, 3.5)
    is_other = i != j
    partners, lengths = nearest_first(i[is_other], j[is_other], distance[is_other], 4)
    assert partners.tolist() == [[1, 2], [0, 2], [1, 0], [-1, -1]]
    assert lengths[:3].tolist() == [[1, 3], [1, 2], [2, 3]]
    assert lengths[3].tolist() == [pytest.approx(float("inf"))] * 2
