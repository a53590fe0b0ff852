"""Poses of simulated images, found again."""

import math

import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.maps.projection import prepare_volume, slices, slices_and_slopes
from kernels.optics import Optics
from kernels.particles.expectation import Disc, disc, pack, shift_grid, shift_ramps
from kernels.particles.likelihood import Observation, model, refine_poses, search_poses
from kernels.rotations import angular_distance_rad, from_rotation_vector, random_rotations, rotation_grid

N, PIXEL = 48, 3.0


def lopsided_map() -> torch.Tensor:
    """Gaussians without any symmetry."""
    generator = torch.Generator().manual_seed(5)
    axis = torch.arange(N, dtype=torch.float32) - N // 2
    centres = torch.randn(25, 3, generator=generator) * 6
    z, y, x = (torch.exp(-((axis - c[:, None]) ** 2) / (2 * 1.4**2)) for c in centres.unbind(-1))
    return torch.einsum("mz,my,mx->zyx", z, y, x)


def simulated(
    n_particles: int, signal_to_noise: float, radius: int, max_shift_px: float = 3.0
) -> tuple[Observation, Disc, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Observation, its disc, the map and the true poses; the ratio is that of variances over the image."""
    generator = torch.Generator().manual_seed(9)
    density_map, coefficients = lopsided_map(), disc(N, N // 2 - 1)
    rotation = random_rotations(n_particles, generator)
    shift_px = (2 * torch.rand(n_particles, 2, generator=generator) - 1) * max_shift_px
    u = 9000 + 9000 * torch.rand(n_particles, generator=generator)
    zero = torch.zeros(n_particles)
    transfer = ctf(coefficients.frequency_per_px / PIXEL, Defocus(u, u - 200, zero, zero), Optics(300, 2.7, 0.1, PIXEL))
    ones = torch.ones(len(coefficients.shell))
    clean = model(Observation(transfer.cfloat(), transfer, ones), prepare_volume(density_map), coefficients, rotation,
                  shift_px)  # fmt: skip
    noise = pack(fourier.transform(torch.randn(n_particles, N, N, generator=generator)), coefficients)
    variance = (clean.abs() ** 2).sum(1).mean() * 2 / N**2 / signal_to_noise * ones
    observation = Observation(clean + noise * (variance / N**2).sqrt(), transfer, variance)
    part = coefficients.within(radius)
    return observation.within(len(part.shell)), part, density_map, rotation, shift_px


def test_the_derivative_of_a_slice_is_its_finite_difference():
    """The transform's own slope, so the interpolated slice follows it up to the error of interpolation."""
    volume = prepare_volume(lopsided_map(), padding=4, with_slopes=True)
    rotation = random_rotations(5, torch.Generator().manual_seed(1))
    points = disc(N, 12).frequency_per_px * N
    values, slopes = slices_and_slopes(volume, rotation, points)
    assert_close(values, slices(volume, rotation, points))
    for axis in range(3):
        step = torch.zeros(3)
        step[axis] = 0.03
        ahead, behind = (slices(volume, from_rotation_vector(s) @ rotation, points) for s in (step, -step))
        difference = (ahead - behind) / 0.06
        assert (difference - slopes[..., axis]).norm() / difference.norm() < 0.06


def test_search_finds_the_nearest_orientation_and_shift_of_noisy_images():
    observation, coefficients, density_map, rotation, shift_px = simulated(12, 0.1, 8)
    grid, shifts = rotation_grid(math.radians(18)), shift_grid(5.0, 1.0)
    references = slices(prepare_volume(density_map), grid, coefficients.frequency_per_px * N)
    found = search_poses(observation, references, shift_ramps(coefficients, shifts), 3)
    nearest = angular_distance_rad(grid[found.orientation], rotation[:, None]).min(dim=1).values
    assert (nearest < math.radians(22)).all()  # spacing and noise
    assert (shifts[found.shift[:, 0]] - shift_px).norm(dim=-1).median() < 1.0
    assert (found.score.diff(dim=1) <= 0).all()
    unknown = search_poses(observation, 7 * references, shift_ramps(coefficients, shifts), 3, is_amplitude_known=False)
    again = angular_distance_rad(grid[unknown.orientation], rotation[:, None]).min(dim=1).values
    assert (again < math.radians(22)).float().mean() > 0.8


def test_refinement_recovers_the_poses_of_noiseless_images():
    observation, coefficients, density_map, rotation, shift_px = simulated(16, 1e6, 16)
    start = from_rotation_vector(torch.randn(16, 3, generator=torch.Generator().manual_seed(2)) * 0.05) @ rotation
    volume = prepare_volume(density_map, with_slopes=True)
    fit = refine_poses(observation, volume, coefficients, start, shift_px + 0.7, n_steps=12)
    assert angular_distance_rad(fit.rotation, rotation).max() < math.radians(0.2)
    assert (fit.shift_px - shift_px).norm(dim=-1).max() < 0.05
    assert_close(fit.cross / fit.power, torch.ones(16), atol=0.02, rtol=0)


def test_poses_of_noisy_images_are_as_good_as_the_noise_allows():
    """The spread of the errors is that of the Cramér-Rao bound: twice the normal matrix, inverted."""
    observation, coefficients, density_map, rotation, shift_px = simulated(120, 0.1, 14)
    start = from_rotation_vector(torch.randn(120, 3, generator=torch.Generator().manual_seed(3)) * 0.05) @ rotation
    volume = prepare_volume(density_map, with_slopes=True)
    before = refine_poses(observation, volume, coefficients, start, shift_px + 0.7, n_steps=0)
    fit = refine_poses(observation, volume, coefficients, start, shift_px + 0.7, n_steps=10)
    assert (fit.log_likelihood >= before.log_likelihood).all()
    reference, slopes = slices_and_slopes(volume, rotation, coefficients.frequency_per_px * N)
    moved = reference[..., None] * (-2j * math.pi * coefficients.frequency_per_px)
    weight = observation.transfer / observation.noise_variance.sqrt()
    jacobian = torch.cat([slopes, moved], dim=-1) * weight[..., None]
    bound = torch.linalg.inv(2 * (jacobian.mH @ jacobian).real).diagonal(dim1=-2, dim2=-1)
    turn = angular_distance_rad(fit.rotation, rotation) / bound[:, :3].sum(-1).sqrt()
    move = (fit.shift_px - shift_px).norm(dim=-1) / bound[:, 3:].sum(-1).sqrt()
    for ratio in (turn, move):
        assert 0.8 < ratio.square().mean().sqrt() < 1.3


def test_batches_give_what_single_images_give():
    observation, coefficients, density_map, rotation, shift_px = simulated(3, 1.0, 10)
    volume = prepare_volume(density_map, with_slopes=True)
    together = refine_poses(observation, volume, coefficients, rotation, shift_px, n_steps=3)
    for i in range(3):
        alone = refine_poses(
            observation.select(slice(i, i + 1)), volume, coefficients, rotation[i : i + 1], shift_px[i : i + 1], 3
        )
        assert_close(alone.shift_px[0], together.shift_px[i], atol=1e-3, rtol=0)
        assert_close(alone.log_likelihood[0], together.log_likelihood[i], rtol=1e-3, atol=0.1)
