"""Soft masks against their geometry."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from kernels.masks import distance_from_origin, distance_outside, soft_circle, soft_mask_from_map, soft_sphere


@given(n=st.integers(24, 49), radius_px=st.floats(4, 8), edge_px=st.floats(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_disc_is_one_up_to_its_radius_and_zero_beyond_its_edge(n, radius_px, edge_px):
    disc = soft_circle(n, radius_px, edge_px)
    distance = distance_from_origin((n, n))
    assert distance[n // 2, n // 2] == 0
    assert (disc[distance <= radius_px] == 1).all()
    assert (disc[distance >= radius_px + edge_px + 1e-3] == 0).all()
    between = (distance > radius_px) & (distance < radius_px + edge_px)
    assert ((disc[between] >= 0) & (disc[between] <= 1)).all()


def test_the_edge_is_one_half_midway():
    assert math.isclose(float(soft_circle(33, 6.0, 4.0)[16, 24]), 0.5, abs_tol=1e-6)


def test_a_sharp_ball_has_the_volume_of_a_ball():
    volume = float(soft_sphere(64, 20.0).sum())
    assert volume == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.01)


def test_a_disc_can_be_oblong_images_centre():
    disc = soft_circle((20, 31), 4.0, 2.0)
    assert disc.shape == (20, 31)
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(31.0), indexing="ij")
    assert float((disc * y).sum() / disc.sum()) == pytest.approx(10, abs=1e-4)
    assert float((disc * x).sum() / disc.sum()) == pytest.approx(15, abs=1e-4)


def test_distances_are_those_of_the_exact_transform():
    inside = torch.rand(17, 20, 23, generator=torch.Generator().manual_seed(5)) > 0.998
    assert 0 < inside.sum() < 30
    exact = torch.as_tensor(distance_transform_edt(~inside.numpy()), dtype=torch.float32)
    found = distance_outside(inside, 6.0)
    near = exact <= 6.0
    torch.testing.assert_close(found[near], exact[near])
    assert (found[~near] > 6.0).all()


def test_the_mask_of_a_ball_is_a_larger_soft_ball():
    ball = soft_sphere(40, 8.0)
    mask = soft_mask_from_map(ball, 0.5, extend_px=3.0, edge_px=4.0)
    distance = distance_from_origin((40, 40, 40))
    assert (mask[distance <= 10.2] == 1).all()  # the voxelised surface lies up to 0.8 px inside of the ball's
    assert (mask[distance >= 15.01] == 0).all()
    assert float(mask[20, 20, 20 + 8 + 3 + 2]) == pytest.approx(0.5, abs=1e-5)


def test_a_mask_grows_with_its_extension_and_holds_the_density():
    noise = torch.randn(20, 24, 22, generator=torch.Generator().manual_seed(1))
    small, large = (soft_mask_from_map(noise, 3.0, e, 2.0) for e in (0.0, 2.0))
    assert (large >= small).all()
    assert (small[noise > 3.0] == 1).all()


def test_a_threshold_above_the_map_is_refused_with_its_maximum():
    with pytest.raises(ValueError, match="the largest is 2"):
        soft_mask_from_map(torch.full((4, 4, 4), 2.0), 3.0, 1.0, 1.0)
