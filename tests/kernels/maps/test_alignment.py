"""A map that was rotated, shifted or mirrored is laid back over the one it came from."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels.maps.alignment import align_map, inverted, map_correlation, transformed
from kernels.rotations import angular_distance_rad, from_rotation_vector
from tests.truth.gaussian_particles import cage_points, gaussian_map

PIXEL = 4.0
TURN = from_rotation_vector(torch.tensor([0.9, -1.3, 0.6]))
SHIFT_PX = torch.tensor([1.5, -2.0, 0.75])


@pytest.mark.parametrize(("symmetry", "n"), [("C1", 32), ("O", 36), ("D2", 33)])
def test_a_planted_rotation_and_shift_are_found(symmetry, n):
    points = cage_points(symmetry, n_per_unit=8, radius_angstrom=32, seed=4)
    moving = gaussian_map(points, n, PIXEL, 5.0)
    fixed = gaussian_map(points @ TURN.T + SHIFT_PX * PIXEL, n, PIXEL, 5.0)
    found = align_map(moving, fixed, symmetry, is_hand_tested=False)
    assert found.correlation > 0.99
    assert math.degrees(angular_distance_rad(found.rotation, TURN, symmetry)) < 1.0
    assert_close(found.shift_px, SHIFT_PX, atol=0.1, rtol=0)


def test_the_hand_is_found():
    points = cage_points("O", n_per_unit=3, radius_angstrom=45, seed=6)
    fixed = gaussian_map(points @ TURN.T, 32, PIXEL, 4.0)
    moving = gaussian_map(-points, 32, PIXEL, 4.0)
    both = align_map(moving, fixed, "O")
    assert both.is_mirrored
    assert both.correlation > 0.99
    assert align_map(moving, fixed, "O", is_hand_tested=False).correlation < both.correlation - 0.02


def test_inversion_is_exact_and_undoes_itself():
    points = cage_points("C1", seed=2)
    for n in (32, 33):
        density_map = gaussian_map(points, n, PIXEL, 5.0)
        assert_close(inverted(density_map)[1:, 1:, 1:], gaussian_map(-points, n, PIXEL, 5.0)[1:, 1:, 1:])
        assert_close(inverted(inverted(density_map)), density_map)


def test_a_transformed_map_is_the_map_of_transformed_points():
    points = cage_points("C1", radius_angstrom=32, seed=2)
    found = transformed(gaussian_map(points, 32, PIXEL, 7.0), TURN, SHIFT_PX)
    expected = gaussian_map(points @ TURN.T + SHIFT_PX * PIXEL, 32, PIXEL, 7.0)
    assert map_correlation(found, expected) > 0.995


def test_maps_of_different_size_are_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"\(8, 8, 8\) and \(9, 9, 9\)"):
        align_map(torch.zeros(8, 8, 8), torch.zeros(9, 9, 9))
