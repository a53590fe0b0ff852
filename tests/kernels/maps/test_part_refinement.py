"""The frame of a part, what is taken off images, and poses near known ones, on particles without noise."""

import math

import pytest
import torch

from kernels import fourier
from kernels.maps.part_refinement import (
    NearbySearch,
    align_nearby,
    joined,
    middle_in_image,
    place_of,
    subtracted,
    to_part,
    to_whole,
    turn_grid,
)
from kernels.masks import falling_edge
from kernels.particles.expectation import disc, pack, shift_grid
from kernels.particles.likelihood import Observation
from kernels.particles.pose_prior import PosePrior
from kernels.rotations import angular_distance_rad, from_rotation_vector, symmetry_group
from tests.truth.gaussian_particles import cage_points, gaussian_map
from tests.truth.moving_domain import PIXEL, WIDTH, N, moving_domain


@pytest.fixture(scope="module")
def truth():
    return moving_domain(12, turn_deg=10, move_angstrom=3, signal_to_noise=1e8, seed=3)


@pytest.fixture(scope="module")
def left(truth):
    """Coefficients, images without their bodies, CTFs, and what the domains alone look like, on the scale of images."""
    found = disc(N, 18)
    images, transfer = pack(fourier.transform(truth.imaged.images), found) / N, pack(truth.imaged.transfer, found)
    body, centred = (gaussian_map(p, N, PIXEL, WIDTH) for p in (truth.body, truth.domain - truth.middle))
    nothing = torch.zeros_like(images)
    bodies = -subtracted(nothing, transfer, found, body, truth.rotation, truth.shift / PIXEL)
    domains = -subtracted(nothing, transfer, found, centred, truth.rotation @ truth.turn, truth.copy_place / PIXEL)
    both = bodies + domains
    scale = (images.conj() * both).real.sum() / both.abs().square().sum()
    without = subtracted(images, transfer, found, scale * body, truth.rotation, truth.shift / PIXEL)
    return found, without, transfer, scale * domains, scale


def test_a_part_lies_about_the_middle_of_its_mask_and_goes_back(truth):
    place = place_of(truth.mask)
    middle = torch.tensor(place.middle_px) * PIXEL
    assert (middle - truth.middle).norm() < 2 * PIXEL
    alone = gaussian_map(truth.domain - middle, N, PIXEL, WIDTH)
    there = to_part(truth.domain_density, place)
    assert (there - alone).abs().max() < 1e-4 * alone.max()
    assert torch.equal(to_whole(there, place), truth.domain_density)
    with pytest.raises(ValueError, match="the mask is empty"):
        place_of(torch.zeros(8, 8, 8))


def test_without_the_rest_images_are_those_of_the_part(left):
    _, without, _, domains, _ = left
    assert (without - domains).abs().square().sum() < 0.003 * domains.abs().square().sum()


def test_poses_of_a_part_are_found_from_those_of_the_whole(truth, left):
    found, without, transfer, _, scale = left
    place = place_of(truth.mask)
    start = truth.shift / PIXEL + middle_in_image(truth.rotation, place)
    known = PosePrior(truth.rotation, start, math.radians(10), 2.0)
    search = NearbySearch(9, turn_grid(math.radians(20), 0.25), shift_grid(3.0, 1.0), 4)
    observation = Observation(without, transfer, torch.full((without.shape[1],), 1e-3))
    reference = scale * to_part(truth.domain_density, place)
    fit, _ = align_nearby(observation, found, reference, 17, known, truth.rotation, start, search)
    assert angular_distance_rad(fit.rotation, truth.rotation @ truth.turn).max() < math.radians(0.5)
    middle = torch.tensor(place.middle_px) * PIXEL - truth.middle
    moved = truth.rotation @ (truth.middle + truth.move + (truth.turn @ middle))[..., None]
    assert (fit.shift_px * PIXEL - moved[..., 1:, 0] - truth.shift).norm(dim=1).max() < 0.1 * PIXEL


def test_turns_of_the_grid_fill_a_ball():
    grid = turn_grid(0.3, 0.1)
    assert torch.equal(grid[0], torch.zeros(3))
    assert grid.norm(dim=1).max() < 0.3 + 1e-6
    assert len(grid) == pytest.approx(4 / 3 * math.pi * 27, rel=0.1)
    turned = from_rotation_vector(grid)
    assert angular_distance_rad(turned, torch.eye(3)).max() == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("symmetry", ["C1", "D2"])
def test_a_part_stands_in_every_copy_of_the_joined_map(truth, symmetry):
    """The whole lacks the domain; joined with the domain alone it is all there."""
    operations = symmetry_group(symmetry).float()
    domain = truth.domain - truth.middle + torch.tensor([33.0, 27.0, -9.0])
    body = cage_points(symmetry, 20, 12.0, 5)
    distance = torch.cdist(grid_positions(), domain).amin(1).reshape(N, N, N)
    mask = falling_edge(distance, 6.0, 6.0)
    copies = torch.einsum("sij,pj->spi", operations, domain).reshape(-1, 3)
    whole, part = gaussian_map(body, N, PIXEL, 3.0), gaussian_map(domain, N, PIXEL, 3.0)
    found = joined(whole, part, mask, operations)
    expected = gaussian_map(torch.cat([body, copies]), N, PIXEL, 3.0)
    assert (found - expected).norm() < 0.05 * expected.norm()
    torch.testing.assert_close(found[mask == 1], part[mask == 1], atol=0.01 * float(part.max()), rtol=0)


def grid_positions() -> torch.Tensor:
    """(voxel, 3) Å"""
    axis = (torch.arange(N) - N // 2) * PIXEL
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
