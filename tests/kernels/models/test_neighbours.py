"""Cells find the pairs that all distances show."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.models.neighbours import nearest_first, pairs_within, pieces


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


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(0, 40), seed=st.integers(0, 1000))
def test_pieces_are_what_can_be_walked_to(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.randint(n, (2, m), generator=generator)
    reached = torch.eye(n)
    reached[i, j] = reached[j, i] = 1
    reached = torch.linalg.matrix_power(reached, n) > 0
    assert pieces(i, j, n).tolist() == [int(torch.nonzero(row)[0]) for row in reached]


def test_a_long_row_is_one_piece():
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    assert pieces(order[:-1], order[1:], 5000).unique().tolist() == [0]
