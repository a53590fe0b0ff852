"""Maps from random starts, compared with the phantom whose projections they were made from."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.maps.ab_initio import FirstMap, Step, centred, improved, on_box, random_start, steps
from kernels.maps.alignment import align_map, map_correlation
from kernels.maps.projection import prepare_volume, slices
from kernels.masks import soft_sphere
from kernels.particles.expectation import disc, pack
from kernels.rotations import random_rotations, rotation_grid, symmetry_group
from tests.truth.gaussian_particles import cage_points, gaussian_map, gaussian_projections, imaged

N, PIXEL, DIAMETER = 30, 6.0, 120.0
MASK = soft_sphere(N, 11.0, 2.0)


def observed(points, n_particles, signal_to_noise, seed):
    """Coefficients and CTFs of images at random orientations, a little off centre."""
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(n_particles, generator)
    shift = 3.0 * torch.randn(n_particles, 2, generator=generator)
    projections = gaussian_projections(points, rotation, shift, N, PIXEL, 6.0)
    images = imaged(projections, PIXEL, signal_to_noise, seed)
    coefficients = disc(N, 12)
    return coefficients, pack(fourier.transform(images.images), coefficients) / N, pack(images.transfer, coefficients)


@pytest.mark.parametrize(("symmetry", "n_starts", "n_iterations"), [("O", 4, 10), ("D2", 1, 12)])
def test_the_likeliest_of_a_few_random_starts_is_the_particle(symmetry, n_starts, n_iterations):
    points = cage_points(symmetry, 6, 46.0, 5)
    coefficients, images, transfer = observed(points, 150, 0.3, 6)
    plan = steps(n_iterations, N, N * PIXEL, DIAMETER, 30.0, 20.0, 2.0)
    found = []
    for seed in range(n_starts):
        generator = torch.Generator().manual_seed(seed)
        state = random_start(images, transfer, coefficients, symmetry, plan[0].radius, MASK, generator)
        for step in plan:
            state = improved(state, images, transfer, coefficients, symmetry, step, MASK, generator)
        found.append(state)
    best = max(found, key=lambda state: state.log_likelihood)
    # the mirror image has the same projections
    truth = gaussian_map(points, N, PIXEL, 9.0)
    assert align_map(best.density, truth, symmetry).correlation > 0.9


def test_the_map_of_noise_free_images_stays_where_it_is():
    points = cage_points("C4", 8, 46.0, 3)
    coefficients, images, transfer = observed(points, 300, 1e3, 2)
    truth = gaussian_map(points, N, PIXEL, 6.0)
    scale = images.abs().square().sum() / (
        transfer.square().mean(0)
        * slices(prepare_volume(truth, 2, 13), rotation_grid(0.5, "C4"), coefficients.points).abs().square().mean(0)
    ).sum() / len(images)  # fmt: skip
    state = FirstMap(truth * scale.sqrt(), torch.ones(coefficients.n_shells), 0.25)
    step = Step(radius=8, spacing_rad=0.2, shift_radius_px=1.0, shift_step_px=1.0)
    for _ in range(2):
        generator = torch.Generator().manual_seed(1)
        state = improved(state, images, transfer, coefficients, "C4", step, MASK, generator)
    shell = fourier.frequency_length((N, N, N)) * N
    low = fourier.inverse(fourier.transform(truth, 3) * (shell <= 8), (N, N, N))
    assert map_correlation(state.density, low) > 0.97


def test_every_map_on_the_way_has_the_symmetry():
    coefficients, images, transfer = observed(cage_points("O", 6, 46.0, 5), 40, 0.3, 6)
    state = random_start(images, transfer, coefficients, "O", 5, MASK, torch.Generator().manual_seed(0))
    quarter = state.density[1:, 1:, 1:].transpose(1, 2).flip(2)
    assert_close(quarter, state.density[1:, 1:, 1:], atol=1e-3 * float(state.density.abs().max()), rtol=0)
    assert len(symmetry_group("O")) == 24


def test_steps_lead_from_one_resolution_to_the_other():
    plan = steps(12, 40, 200.0, 120.0, 40.0, 12.5, 3.0, first_temperature=4.0)
    radii = [step.radius for step in plan]
    assert radii == sorted(radii)
    assert (radii[0], radii[-1]) == (5, 16)
    assert plan[0].temperature == 4.0
    assert plan[-1].temperature == 1.0
    # the rim moves by 0.7 of the resolution
    assert plan[-1].spacing_rad * 60 == pytest.approx(0.7 * 12.5)
    assert all(math.isclose(3.0 / step.shift_step_px, round(3.0 / step.shift_step_px)) for step in plan)


def test_a_map_on_more_voxels_has_the_same_slices():
    density = gaussian_map(cage_points("O", 6, 46.0, 5), N, PIXEL, 8.0)
    rotations = random_rotations(3, torch.Generator().manual_seed(0))
    points = disc(N, 6).points
    fine = slices(prepare_volume(on_box(density, 48), 2, 8), rotations, points)
    coarse = slices(prepare_volume(density, 2, 8), rotations, points)
    assert (fine - coarse).abs().max() < 0.01 * coarse.abs().max()


def test_a_map_is_centred_as_far_as_its_symmetry_leaves_it_free():
    points = cage_points("O", 6, 36.0, 5) + torch.tensor([12.0, -6.0, 6.0])
    density = gaussian_map(points, N, PIXEL, 8.0)
    free = gaussian_map(cage_points("O", 6, 36.0, 5), N, PIXEL, 8.0)
    assert map_correlation(centred(density, "C1"), free) > 0.999
    along_z = gaussian_map(points - torch.tensor([12.0, 0.0, 0.0]), N, PIXEL, 8.0)
    assert map_correlation(centred(density, "C3"), along_z) > 0.999
    assert centred(density, "D2") is density
