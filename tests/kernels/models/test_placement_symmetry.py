"""The symmetry that made copies is named, with its axes, whatever is lacking or a little off."""

import math

import pytest
import torch

from kernels.models.placement_symmetry import symmetry_of
from kernels.models.screws import Motion, Screw, screw_of
from kernels.rotations import from_rotation_vector, random_rotations, symmetry_group


def scattered(motion, seed, turn_rad=0.012, move_angstrom=0.7):
    """Each copy a little off, as placements are."""
    generator = torch.Generator().manual_seed(seed)
    n = len(motion.rotation)
    turn = from_rotation_vector(turn_rad * torch.randn(n, 3, generator=generator, dtype=torch.float64))
    shift = move_angstrom * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return Motion(motion.rotation @ turn, motion.shift_angstrom + shift)


def body(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 12 * torch.randn(80, 3, generator=generator, dtype=torch.float64) + torch.tensor([5.0, -60.0, 35.0])


def copies_of(name, seed):
    """Copies by a point group about a place and in an orientation of its own."""
    generator = torch.Generator().manual_seed(seed)
    turn = random_rotations(1, generator)[0].double()
    centre = 40 * torch.randn(3, generator=generator, dtype=torch.float64)
    rotation = turn @ symmetry_group(name) @ turn.T
    return Motion(rotation, centre - rotation @ centre), turn, centre


@pytest.mark.parametrize("name", ["C2", "C3", "C7", "D2", "D3", "D5", "T", "O", "I"])
def test_a_point_group_is_named_with_its_axis(name):
    motion, turn, centre = copies_of(name, 3)
    found = symmetry_of(scattered(motion, 1), body())
    assert found is not None and found.name == name
    assert found.n_copies >= 0.95 * len(symmetry_group(name))
    assert found.error_angstrom < 4.0
    if name[0] in "CD" and name != "D2":
        assert abs(float(found.screw.axis @ turn[:, 0])) > math.cos(math.radians(3))
    if name[0] != "C":
        assert float((found.screw.centre_angstrom - centre).norm()) < 2.0


@pytest.mark.parametrize(("name", "lacking"), [("C3", [1]), ("D3", [2, 5]), ("T", [1, 4, 7]), ("C6", [2])])
def test_copies_that_lack_are_told(name, lacking):
    motion, _, _ = copies_of(name, 8)
    present = [k for k in range(len(motion.rotation)) if k not in lacking]
    found = symmetry_of(scattered(motion.take(torch.tensor(present)), 2), body())
    assert found is not None and found.name == name
    assert found.n_copies == len(present) and len(found.missing) == len(lacking)
    first = motion.take(present[found.first])
    expected = found.operations.take(found.missing).of(first.of(body())[None])
    true = motion.take(torch.tensor(lacking)).of(body()[None])
    nearest = (expected[:, None] - true[None]).square().sum(-1).mean(-1).sqrt().amin(1)
    assert float(nearest.max()) < 3.0


@pytest.mark.parametrize("twist_deg", [-166.5, 22.0, 120.0])
def test_a_helix_is_told_by_rise_and_twist(twist_deg):
    axis = torch.tensor([0.9, 0.3, -0.2], dtype=torch.float64)
    axis = axis / axis.norm()
    made = Screw(axis, torch.tensor([3.0, 40.0, -10.0], dtype=torch.float64), math.radians(twist_deg), 27.5)
    steps = torch.tensor([0, 1, 2, 4, 5])  # the fourth copy is lacking
    found = symmetry_of(scattered(made.power(steps), 4, 0.01, 0.5), body())
    assert found is not None and found.name == "helical"
    assert found.screw.rise_angstrom == pytest.approx(27.5, abs=0.4)
    turned = math.degrees(found.screw.angle_rad) - twist_deg
    assert abs((turned + 180) % 360 - 180) < 1.5
    assert float(found.screw.axis @ axis) > 0.999
    assert len(found.missing) == 3  # the fourth one, and one at each end


def test_a_screw_tells_the_sense_of_its_turn():
    made = Screw(torch.tensor([1.0, 0, 0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0.4, 5.0)
    # about z, a right-handed quarter takes x to y: in (z, y, x) order (0, 0, 1) to (0, 1, 0)
    quarter = Screw(made.axis, made.centre_angstrom, math.pi / 2, 0.0).power(torch.tensor([1]))
    x = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(quarter.of(x)[0], torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    again = screw_of(made.power(torch.tensor([1])).take(0), torch.ones(3, dtype=torch.float64))
    assert again.angle_rad == pytest.approx(0.4) and again.rise_angstrom == pytest.approx(5.0)


def test_copies_without_a_relation_have_no_symmetry():
    generator = torch.Generator().manual_seed(1)
    rotation = random_rotations(3, generator).double()
    shift = 60 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    assert symmetry_of(Motion(rotation, shift), body()) is None
    assert symmetry_of(Motion(rotation[:1], shift[:1]), body()) is None
