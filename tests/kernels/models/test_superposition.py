"""Points are laid on points as a known turn and shift did."""

import torch
from torch.testing import assert_close

from kernels.models.superposition import superposition


def test_points_are_laid_on_their_turned_selves():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    weight = torch.ones(5, 4, dtype=torch.float64)
    rotation, shift = superposition(points, points @ turn + 3.0, weight)
    assert_close(points @ rotation + shift, points @ turn + 3.0)
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    assert_close(superposition(points, mirrored, weight)[0].det(), torch.ones(5, dtype=torch.float64))
