"""Balls cut out of a block are pockets of their volume; what opens to the outside is one where it is deep."""

import math

import pytest
import torch

from kernels.models.pockets import Probes, pockets
from kernels.rotations import from_rotation_vector

RADIUS = 1.7


def block(half: float, holes: list[tuple[tuple[float, float, float], float]]) -> torch.Tensor:
    """Atoms without room between them, and a dense skin of atoms around each hole."""
    axis = torch.arange(-half, half + 1e-6, 1.6, dtype=torch.float64)
    atoms = torch.cartesian_prod(axis, axis, axis)
    for middle, radius in holes:
        centre = torch.tensor(middle, dtype=torch.float64)
        reach = radius + RADIUS
        n = int(4 * math.pi * reach**2 / 0.3)
        k = torch.arange(n, dtype=torch.float64) + 0.5
        tilt, turn = torch.acos(1 - 2 * k / n), math.pi * (1 + 5**0.5) * k
        skin = torch.stack([tilt.cos(), tilt.sin() * turn.sin(), tilt.sin() * turn.cos()], 1) * reach + centre
        atoms = torch.cat([atoms[(atoms - centre).norm(dim=1) > reach], skin])
    return atoms


def search(atoms: torch.Tensor, probes: Probes | None = None):
    residue = (atoms[:, 2] > 0).long()
    return pockets(atoms, torch.full((len(atoms),), RADIUS, dtype=torch.float64), residue, 2, probes)


@pytest.mark.parametrize(("radius", "seed"), [(3.0, 0), (4.0, 1), (6.0, 2)])
def test_a_ball_has_its_volume_wherever_the_grid_lies(radius, seed):
    generator = torch.Generator().manual_seed(seed)
    turn, shift = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    found = search(block(radius + 5.6, [((0, 0, 0), radius)]) @ from_rotation_vector(turn).T + shift)
    assert len(found) == 1
    true = 4 / 3 * math.pi * radius**3
    assert float(found.volume_angstrom3[0]) == pytest.approx(true, rel=0.04, abs=6)
    torch.testing.assert_close(found.centre_angstrom[0], shift, atol=0.2, rtol=0)


def test_pockets_stand_by_their_volume_and_know_their_residues():
    found = search(block(14, [((0, 0, -7), 3.0), ((0, 0, 6.5), 4.0)]))
    assert len(found) == 2
    assert found.volume_angstrom3[0] > 2 * found.volume_angstrom3[1]
    assert found.is_lining.tolist() == [[False, True], [True, False]]
    assert found.centre_angstrom[:, 2].tolist() == pytest.approx([6.5, -7.0], abs=0.2)


def test_a_hole_for_neither_probe_or_for_both_is_no_pocket():
    assert len(search(block(9, [((0, 0, 0), 1.2)]))) == 0
    bowl = block(9, [])
    middle = torch.tensor([0.0, 0.0, 9.0], dtype=torch.float64)
    bowl = bowl[(bowl - middle).norm(dim=1) > 8]
    assert float(search(bowl).volume_angstrom3.sum()) < 30
    assert len(search(block(9, []))) == 0


def test_a_void_of_any_size_is_one_where_the_large_probe_has_no_way_in():
    atoms = block(13, [((0, 0, 0), 8.0)])
    closed = search(atoms)
    assert float(closed.volume_angstrom3[0]) == pytest.approx(4 / 3 * math.pi * 8**3, rel=0.03)
    way = atoms[:, :2].norm(dim=1) + 1e3 * (atoms[:, 2] < 0)
    narrow = search(atoms[way > 2.5 + RADIUS])
    assert float(narrow.volume_angstrom3[0]) == pytest.approx(4 / 3 * math.pi * 8**3, rel=0.1)
    wide = search(atoms[way > 5.5 + RADIUS])
    assert float(wide.volume_angstrom3.sum()) < 0.2 * float(closed.volume_angstrom3[0])


def test_a_box_that_is_too_large_is_refused():
    atoms = torch.tensor([[0.0, 0.0, 0.0], [900.0, 900.0, 900.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="at most 100 million"):
        search(atoms)
