"""Structures come to lie where they stand in a map, however they were turned before."""

import math

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.docking import Placements, correlations, fitted, fitting_field, searched
from kernels.models.map_fit import model_density
from kernels.models.placement_evidence import FEATURES, contour_of, placement_evidence
from kernels.models.rigid_body import RigidBody
from kernels.rotations import from_rotation_vector, random_rotations
from tests.truth.cage_model import cage_subunit

RESOLUTION = 7.0


@pytest.fixture(scope="module")
def case():
    """A subunit in a map of 7 Å away from the origin, with noise; and the same turned and moved away."""
    model = cage_subunit(90)
    low, high = model.coordinates_angstrom.amin(0) - 22, model.coordinates_angstrom.amax(0) + 30
    shape = [int(n) for n in ((high - low) / 2.0).ceil()]
    empty = DensityGrid(torch.zeros(shape), 2.0, low)
    density = model_density(model, empty, RESOLUTION).voxels
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    grid = empty.with_voxels(density + 0.5 * density.std() * noise)
    rotation = random_rotations(1, torch.Generator().manual_seed(5))[0].double()
    turned = model.at((model.coordinates_angstrom - model.coordinates_angstrom.mean(0)) @ rotation.T + 300.0)
    return grid, model, turned


def rmsd(a, b) -> float:
    return float((a - b).square().sum(-1).mean().sqrt())


@pytest.fixture(scope="module")
def found(case):
    grid, _, turned = case
    return searched(grid, fitting_field(grid, RESOLUTION), RigidBody.of_model(turned), 25, 5)


def test_a_turned_structure_comes_back(case, found):
    _, model, turned = case
    assert rmsd(found.placed(turned.coordinates_angstrom), model.coordinates_angstrom) < 0.7
    assert float(found.correlation[0]) > 0.8
    assert (found.correlation.diff() <= 0).all()
    assert float(found.correlation[0] - found.correlation[1]) > 0.1


@pytest.mark.parametrize("resolution", [4.0, 9.0])
def test_a_fit_is_not_drawn_away_by_what_is_denser(resolution):
    model = cage_subunit(60)
    apart = torch.tensor([0.0, 0.0, 22.0], dtype=torch.float64)
    low, high = model.coordinates_angstrom.amin(0) - 15, model.coordinates_angstrom.amax(0) + apart + 15
    voxel = resolution / 3
    empty = DensityGrid(torch.zeros([int(n) for n in ((high - low) / voxel).ceil()]), voxel, low)
    density = model_density(model, empty, resolution).voxels
    beside = model_density(model.at(model.coordinates_angstrom + apart), empty, resolution).voxels
    field, body = fitting_field(empty.with_voxels(density + 4 * beside), resolution), RigidBody.of_model(model)
    own = Placements(torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1))
    turn = from_rotation_vector(torch.tensor([[0.15, -0.18, 0.15]], dtype=torch.float64))
    off = Placements(turn, torch.tensor([[1.0, -1.0, 2.0]], dtype=torch.float64), torch.zeros(1))
    at_its_place = float(correlations(field, body, own.rotation, own.shift_angstrom)[0])
    for start in (own, off):
        found = fitted(field, body, start)
        assert float(found.correlation[0]) > at_its_place - 0.01
        assert rmsd(found.placed(model.coordinates_angstrom), model.coordinates_angstrom) < 1.5


def test_poses_are_rotations_and_differ(case, found):
    _, _, turned = case
    identity = torch.eye(3, dtype=torch.float64).expand(len(found), 3, 3)
    torch.testing.assert_close(found.rotation @ found.rotation.transpose(1, 2), identity, atol=1e-5, rtol=0)
    assert (torch.linalg.det(found.rotation) > 0).all()
    placed = [found.placed(turned.coordinates_angstrom, i) for i in range(len(found))]
    assert all(rmsd(placed[i], placed[j]) > 3 for i in range(len(found)) for j in range(i))


def test_a_mirrored_structure_fits_less(case, found):
    grid, _, turned = case
    wrong = searched(grid, fitting_field(grid, RESOLUTION), RigidBody.of_model(turned).mirrored(), 5, 1)
    assert float(found.correlation[0] - wrong.correlation[0]) > 0.08
    assert not math.isnan(float(wrong.correlation[0]))


def test_only_what_the_map_shows_fits_better_than_its_mirror_image(case):
    grid, model, _ = case
    field = fitting_field(grid, RESOLUTION)
    right = RigidBody.of_model(model)
    bodies = (right, right.mirrored())
    found = [searched(grid, field, one, 20, 20) for one in bodies]
    for body, poses, images, sign in zip(bodies, found, reversed(found), (1, -1)):
        best = poses.take(torch.tensor([0]))
        told = placement_evidence(field, contour_of(field), body, best, poses, images)
        assert sign * float(told.over_mirrored[0]) > 0.1 and sign * float(told.over_mirrored_there[0]) > 0.1
        assert told.features().shape == (1, len(FEATURES))
