"""The contour of a map parts molecule from solvent, and local correlation is that of its definition."""

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.map_field import MapField, contour_level
from kernels.models.rigid_body import RigidBody, Template


def test_the_contour_lies_between_two_levels():
    generator = torch.Generator().manual_seed(0)
    voxels = 0.1 * torch.randn(20, 20, 20, generator=generator)
    voxels[5:12, 5:12, 5:12] += 2.0
    level = contour_level(voxels)
    assert 0.4 < level < 1.6
    assert int((voxels > level).sum()) == pytest.approx(7**3, abs=3)
    assert contour_level(torch.zeros(4, 4, 4)) == 0


def test_the_local_correlation_is_what_its_definition_says():
    generator = torch.Generator().manual_seed(3)
    grid = DensityGrid(torch.randn(24, 26, 28, generator=generator), 3.2, torch.zeros(3, dtype=torch.float64))
    body = RigidBody.of(9 * torch.randn(60, 3, generator=generator, dtype=torch.float64), torch.ones(60))
    field = MapField(grid, 8.0, 0.4, body.reach_angstrom)
    template = Template.of(body, 8.0, field.voxel)
    (found,) = field.correlations(template, torch.eye(3)[None])
    at = torch.tensor([11, 13, 14])
    inside = torch.nonzero(template.mask)
    where = inside - template.mask.shape[0] // 2 + at
    density, expected = grid.voxels[tuple(where.T)], template.density[tuple(inside.T)]
    known = torch.corrcoef(torch.stack([density, expected]))[0, 1]
    assert float(found[tuple(at)]) == pytest.approx(float(known), abs=1e-4)
