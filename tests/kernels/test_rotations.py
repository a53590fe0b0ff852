"""Rotations, Euler angles, samplings and point groups."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels.rotations import (
    angular_distance_rad,
    euler_to_matrix,
    from_rotation_vector,
    is_in_asymmetric_unit,
    is_subgroup,
    matrix_to_euler,
    random_rotations,
    rotation_grid,
    symmetry_group,
    to_asymmetric_unit,
)


def some_rotations(n: int = 50, seed: int = 0) -> torch.Tensor:
    return random_rotations(n, torch.Generator().manual_seed(seed)).double()


def test_random_rotations_are_proper_rotations():
    r = some_rotations()
    assert_close(r @ r.mT, torch.eye(3).double().expand_as(r), atol=1e-6, rtol=0)
    assert_close(torch.linalg.det(r), torch.ones(50).double(), atol=1e-6, rtol=0)


def test_euler_angles_survive_a_round_trip_with_the_poles():
    r = some_rotations()
    poles = [(0.4, 0.0, 0.3), (0.4, math.pi, 0.3)]
    angles = torch.tensor(poles, dtype=torch.float64)
    r = torch.cat([r, euler_to_matrix(*angles.unbind(-1))])
    assert_close(euler_to_matrix(*matrix_to_euler(r)), r, atol=1e-6, rtol=0)


def test_a_psi_rotation_turns_the_image_as_relion_does():
    # psi = 90°: Heymann's R takes the map's x axis to the image's -y axis
    r = euler_to_matrix(*torch.tensor([0.0, 0.0, math.pi / 2]).unbind())
    assert_close(r @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, -1.0, 0.0]), atol=1e-6, rtol=0)


def test_a_rotation_vector_about_z_takes_x_to_y():
    r = from_rotation_vector(torch.tensor([math.pi / 2, 0.0, 0.0]))
    assert_close(r @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "order"), [("C1", 1), ("C7", 7), ("D2", 4), ("D5", 10), ("T", 12), ("O", 24), ("I", 60)]
)
def test_point_groups_have_their_order_and_are_closed(name, order):
    group = symmetry_group(name)
    assert group.shape == (order, 3, 3)
    products = torch.einsum("aij,bjk->abik", group, group).reshape(-1, 1, 9)
    assert ((products - group.reshape(1, -1, 9)).abs().amax(-1).amin(-1) < 1e-6).all()


def test_subgroups_are_known_in_their_settings():
    assert all(is_subgroup(part, "O") for part in ("C1", "C2", "C4", "D2", "D4", "O"))
    assert not any(is_subgroup(part, "O") for part in ("C3", "C5", "D3", "T", "I"))  # the 3-fold of O lies on (1, 1, 1)
    assert is_subgroup("C3", "C6")
    assert not is_subgroup("C6", "C3")


def test_an_unknown_point_group_is_refused():
    with pytest.raises(ValueError, match="Cn or Dn"):
        symmetry_group("Q3")


@pytest.mark.parametrize("name", ["C1", "C4", "D3", "O", "I"])
def test_the_grid_leaves_no_orientation_further_than_its_spacing(name):
    spacing = 0.25
    grid = rotation_grid(spacing, name).double()
    distance = torch.stack([angular_distance_rad(r[None], grid, name).min() for r in some_rotations(100)])
    assert distance.max() < spacing


def test_the_grid_shrinks_with_the_order_of_the_group():
    assert len(rotation_grid(0.25)) / len(rotation_grid(0.25, "O")) == pytest.approx(24, rel=0.1)


def test_a_rotation_brought_to_the_asymmetric_unit_is_a_mate_of_itself():
    r = some_rotations()
    mate = to_asymmetric_unit(r, "D4")
    assert is_in_asymmetric_unit(mate, "D4").all()
    assert angular_distance_rad(r, mate, "D4").max() < 1e-3
