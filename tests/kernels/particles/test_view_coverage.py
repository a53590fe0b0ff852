"""Views from everywhere, from one side and from around an axis cover Fourier space as geometry says."""

import math

import pytest
import torch

from kernels.particles.view_coverage import half_sphere, view_coverage
from kernels.rotations import from_rotation_vector, random_rotations

Z = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


def test_random_views_cover_evenly():
    found = view_coverage(random_rotations(4000, torch.Generator().manual_seed(0)))
    assert found.evenness > 0.97
    assert found.seldom_share == 0
    assert found.preferred_share < 0.18


def test_views_along_one_axis_leave_the_axis_out():
    """All particles lie flat: directions at right angles to the beam are seen, the beam's own is not."""
    turns = torch.zeros(500, 3)
    turns[:, 0] = torch.linspace(0, 6.28, 500)
    found = view_coverage(from_rotation_vector(turns))
    assert found.evenness < 0.1
    assert float((found.weakest @ Z).abs()) > math.cos(math.radians(12))
    assert float((found.preferred @ Z).abs()) > math.cos(math.radians(5))
    assert found.preferred_share == 1
    assert found.seldom_share == pytest.approx(1 - math.sin(math.radians(4.5)), abs=0.06)


def test_side_views_see_everything_but_the_axis_most():
    """Slices through an axis: each direction is sampled as one over the sine of its angle with the axis."""
    tilt = from_rotation_vector(torch.tensor([0.0, math.pi / 2, 0.0]))
    spin = torch.zeros(2000, 3)
    spin[:, 0] = torch.linspace(0, 2 * math.pi, 2001)[:-1]
    found = view_coverage(tilt @ from_rotation_vector(spin))
    sine = (1 - (found.direction @ Z) ** 2).sqrt()
    away = sine > 0.3
    expected = 1 / sine[away]
    ratio = found.sampling[away] / expected
    assert float(ratio.std() / ratio.mean()) < 0.05
    assert found.seldom_share == 0


def test_symmetry_adds_views():
    flat = torch.zeros(200, 3)
    flat[:, 0] = torch.linspace(0, 6.28, 200)
    alone, cube = (view_coverage(from_rotation_vector(flat), symmetry) for symmetry in ("C1", "O"))
    assert cube.seldom_share < alone.seldom_share - 0.1
    assert alone.preferred_share == 1 and cube.preferred_share == pytest.approx(1 / 3)


def test_directions_are_spread_evenly():
    directions = half_sphere(1000)
    assert torch.allclose(directions.norm(dim=1), torch.ones(1000, dtype=torch.float64))
    moments = directions.T @ directions / 1000
    assert torch.allclose(moments, torch.eye(3, dtype=torch.float64) / 3, atol=0.005)
