"""Bodies in one place overlap, those beside each other do not; copies by symmetry count as well."""

import torch

from kernels.models.mates import Mates
from kernels.models.placement_overlap import overlaps
from kernels.rotations import symmetry_group


def blob(n, at, seed=0):
    """Places 3.8 Å apart on a lattice."""
    side = round(n ** (1 / 3))
    axis = torch.arange(side, dtype=torch.float64) * 3.8
    return torch.cartesian_prod(axis, axis, axis) + torch.tensor(at, dtype=torch.float64)


def test_what_stands_in_one_place_overlaps_and_what_stands_beside_does_not():
    bodies = [blob(64, (0, 0, 0)), blob(64, (0, 0, 1.0)), blob(64, (0, 0, 15.2)), blob(8, (3.8, 3.8, 3.8))]
    found = overlaps(bodies)
    torch.testing.assert_close(found, found.T)
    assert found[0, 1] == 1 and found[0, 2] == 0 and found[0, 0] == 0
    assert found[0, 3] == 1  # all of the small one stands inside of the large one


def test_copies_by_symmetry_stand_in_the_way():
    mates = Mates(symmetry_group("C2"), torch.zeros(3, dtype=torch.float64))
    away, opposite = blob(27, (0, 0, 20.0)), -blob(27, (0, 0, 20.0))
    opposite[:, 0] *= -1  # half a turn about z
    found = overlaps([away, opposite, blob(27, (0, -4, -4))], mates)
    assert found[0, 1] == 1 and found[0, 0] == 0
    assert found[2, 2] > 0.3  # across the axis it meets itself
    assert overlaps([], mates).shape == (0, 0)
