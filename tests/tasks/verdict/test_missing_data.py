"""Which views are missing, in words that somebody at the microscope can act on."""

import torch

from kernels.particles.view_coverage import view_coverage
from kernels.rotations import from_rotation_vector, random_rotations
from tasks.verdict.missing_data import view_words


def test_a_preferred_view_asks_for_a_tilt():
    flat = torch.zeros(300, 3)
    flat[:, 0] = torch.linspace(0, 6.28, 300)
    words = view_words(view_coverage(from_rotation_vector(flat)))
    assert "100% of the particles look along one axis" in words and "tilted by 30 to 40 degrees" in words


def test_views_from_everywhere_ask_for_nothing():
    words = view_words(view_coverage(random_rotations(3000, torch.Generator().manual_seed(0))))
    assert words.startswith("views are even enough")
