"""Turns about known axes are told as screws, in the frame of the first state."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kernels.models.domain_motion import closure_share, hinges, relative_screw, screw
from kernels.models.residue_places import representatives
from kernels.models.rigid_domains import rigid_domains
from kernels.rotations import from_rotation_vector
from tests.truth.cage_model import cage_subunit
from tests.truth.states import laid_elsewhere, turned


@settings(max_examples=40, deadline=None)
@given(angle=st.floats(0.2, 180), along=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_a_screw_is_what_it_was_made_of(angle, along, seed):
    axis, point = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    axis, point = axis / axis.norm(), 30 * point
    rotation = from_rotation_vector(axis * math.radians(angle)).T
    shift = point - point @ rotation + along * axis
    found = screw(rotation, shift, point)
    assert math.degrees(found.angle_rad) == pytest.approx(angle, abs=1e-4)
    sign = 1 if angle < 179.9 else math.copysign(1, float(found.axis @ axis))  # half a turn goes either way
    assert_close(found.axis, sign * axis, atol=1e-5, rtol=0)
    assert found.shift_angstrom == pytest.approx(sign * along, abs=1e-3)
    assert float(found.distance(point)) == pytest.approx(0, abs=0.02)


def test_a_turn_is_counterclockwise_in_the_right_handed_frame():
    quarter = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # of x to y, as rows of (z, y, x)
    x = torch.tensor([0.0, 0.0, 1.0])
    assert_close(x @ quarter.T, torch.tensor([0.0, 1.0, 0.0]))
    found = screw(quarter.T, torch.zeros(3), torch.zeros(3))
    assert_close(found.axis, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert math.degrees(found.angle_rad) == pytest.approx(90)


def test_a_shift_without_a_turn_is_told_as_one():
    found = screw(torch.eye(3), torch.tensor([0.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert found.angle_rad == 0 and found.shift_angstrom == pytest.approx(5)
    assert_close(found.axis, torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64))


@pytest.mark.parametrize("angle", [8.0, 20.0, 75.0])
def test_hinge_and_axis_are_found_within_half_a_degree(angle):
    model = cage_subunit()
    places = representatives(model)
    axis = torch.linalg.svd(places - places.mean(0), full_matrices=False).Vh[0]
    along = (places - places.mean(0)) @ axis
    moves = along > along.median()
    about = torch.linalg.cross(axis, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    point = places.mean(0)
    second = representatives(laid_elsewhere(turned(model, moves, about, point, angle, 1.5), 0.1))
    found = rigid_domains(places, second)
    assert len(found) == 2
    fixed = int(moves[found.domain == 0].double().mean() > 0.5)
    told = relative_screw(found, fixed, 1 - fixed, point)
    assert math.degrees(told.angle_rad) == pytest.approx(angle, abs=0.5)
    assert math.degrees(math.acos(min(1, float(told.axis @ about / about.norm())))) < 2
    assert float(told.distance(point)) < 0.5
    assert told.shift_angstrom == pytest.approx(1.5, abs=0.2)
    centres = [places[found.domain == k].mean(0) for k in (fixed, 1 - fixed)]
    assert closure_share(told.axis, *centres) > 0.9
    passing = hinges(found.domain, torch.zeros(len(places)))
    changes = torch.nonzero(moves[1:] != moves[:-1]).squeeze(1)
    for one in passing:
        assert (changes - one.first).abs().min() <= 4 or (changes - one.last).abs().min() <= 4


def test_hinges_lie_within_chains_and_pass_over_stray_residues():
    domain = torch.tensor([0] * 10 + [-1, -1] + [1] * 3 + [0] * 5 + [-1] + [1] * 8 + [0] * 9)
    chain = torch.tensor([0] * 29 + [1] * 9)
    found = [(one.domains, one.first, one.last) for one in hinges(domain, chain)]
    assert found == [((0, 1), 19, 21)]
