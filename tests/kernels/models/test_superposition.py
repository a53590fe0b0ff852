"""Points are laid on points as a known turn and shift did."""

import pytest
import torch
from torch.testing import assert_close

from kernels.models.superposition import least_rmsd, rmsd, superposed, superposition
from kernels.rotations import random_rotations


def test_points_are_laid_on_their_turned_selves():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    weight = torch.ones(5, 4, dtype=torch.float64)
    rotation, shift = superposition(points, points @ turn + 3.0, weight)
    assert_close(points @ rotation + shift, points @ turn + 3.0)
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    assert_close(superposition(points, mirrored, weight)[0].det(), torch.ones(5, dtype=torch.float64))


def test_a_turned_set_comes_back_and_a_mirrored_one_does_not():
    generator = torch.Generator().manual_seed(1)
    places = 10 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    moved = places @ random_rotations(1, generator)[0].double().T + 7.0
    torch.testing.assert_close(superposed(moved, moved, places), places, atol=1e-4, rtol=0)
    assert least_rmsd(moved, places) < 1e-4 < rmsd(moved, places)
    mirrored = places * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert least_rmsd(mirrored, places) > 2.0
    assert rmsd(places, places + torch.tensor([0.0, 3.0, 4.0])) == pytest.approx(5.0)
