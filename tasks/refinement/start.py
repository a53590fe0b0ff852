"""Iteration 0: halves, references, poses and noise that the first search starts from."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels import fourier
from kernels.maps.fsc import crossing_shell
from kernels.maps.refinement import half_reference, low_pass
from kernels.particles.expectation import Disc, disc
from tasks.records.particle_identity import half_sets, particle_keys, rows_in
from tasks.records.particles import ParticleSet
from tasks.refinement.images import particle_source, particles_of
from tasks.refinement.iterations import PARTICLES, RefinementScratch, State, write_iteration
from tasks.refinement.radii import first_radius, map_size, search_radius, trusted_shell
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_map, read_map
from tasks.stores.products.observations import Geometry, read_coefficients
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore
from tasks.workers.device import device


def start(_item: None, scratch: RefinementScratch, attempt: Attempt) -> None:
    """Iteration 0: the halves, the low-passed initial map and the power of the images as first noise."""
    particles, geometry = particles_of(scratch)
    half_set = _halves(scratch, particles)
    reference = _initial_reference(scratch, geometry)
    write_iteration(
        attempt, State(iteration=0, radius=first_radius(geometry, scratch.params)), reference_1=reference,
        reference_2=reference, noise=image_power(scratch.store, particles, geometry, half_set), half_set=half_set,
        is_found=np.zeros(len(particles), bool), **no_poses(len(particles)),
    )  # fmt: skip


def start_again(_item: None, scratch: RefinementScratch, attempt: Attempt) -> None:
    """Iteration 0 of a renewal: each half's own last map as its reference, and the last poses of what was there."""
    particles, geometry = particles_of(scratch)
    half_set = _halves(scratch, particles)
    last, before = read_map(scratch.store, "refined"), read_particles(scratch.store.product(PARTICLES).read())
    shell, pixel_size = trusted_shell(last), geometry.pixel_size_angstrom
    mask, curve = (torch.from_numpy(values).to(device()) for values in (last["mask"], last["fsc_curves"][4]))
    size = map_size(math.ceil(1.3 * shell), geometry.box)
    references = {}
    for half in (1, 2):
        # coefficients are divided by the box when they are read
        density = torch.from_numpy(last[f"half_{half}"]).to(device()) / geometry.box
        reference = half_reference(density, mask, curve, pixel_size, shell)
        references[f"reference_{half}"] = fourier.resample(reference, (size,) * 3).cpu().numpy()
    rows = rows_in(particle_keys(particles), particle_keys(before))
    is_known = rows >= 0
    poses = no_poses(len(particles))
    poses["rotation"][is_known] = before["rotation"][rows[is_known]]
    poses["shift_px"][is_known] = before["shift_angstrom"][rows[is_known]] / pixel_size
    poses["log_likelihood"][is_known] = before["log_likelihood"][rows[is_known]]
    # what the search looks at was there already when these poses were found: a search would find them again
    is_found = is_known & (shell >= search_radius(geometry))
    state = State(
        iteration=0, radius=shell, shell_143=crossing_shell(curve, 0.143), is_amplitude_known=True, is_renewal=True
    )
    write_iteration(
        attempt, state, noise=image_power(scratch.store, particles, geometry, half_set), half_set=half_set,
        is_found=is_found, **poses, **references,
    )  # fmt: skip


def _halves(scratch: RefinementScratch, particles: ParticleSet) -> NDArray:
    half_set = half_sets(particles, scratch.params.seed)
    counts = [int((half_set == half).sum()) for half in (1, 2)]
    if min(counts) < 2:
        raise ValueError(
            f"{particle_source(scratch.store)}: found {len(particles)} particles, {counts[0]} and {counts[1]} in the "
            "halves, expected at least 2 in each; look at picks and 2D classes"
        )
    return half_set


def no_poses(n: int) -> dict[str, NDArray]:
    """Columns of the poses of ``n`` particles that nothing is known of."""
    return {
        "rotation": np.tile(np.eye(3, dtype=np.float32), (n, 1, 1)),
        "shift_px": np.zeros((n, 2), np.float32),
        "log_likelihood": np.zeros(n, np.float32),
    }


def image_power(store: SessionStore, particles: ParticleSet, geometry: Geometry, half_set: NDArray) -> NDArray:
    """(half, shell) power of the first images of each half: the noise, before anything is known of the signal."""
    power = np.empty((2, geometry.box // 2), dtype=np.float32)
    coefficients = disc(geometry.box, geometry.box // 2 - 1)
    for half in (1, 2):
        rows = np.flatnonzero(half_set == half)[:200]
        images, _ = read_coefficients(store, particles.select(rows), geometry, coefficients, device())
        power[half - 1] = _shell_means(images.abs().square(), coefficients, geometry.box).cpu().numpy()
    return power


def _shell_means(values: Tensor, coefficients: Disc, box: int) -> Tensor:
    """(shell,) means of (particle, m) values over particles and shells; shell 0 takes the value of shell 1."""
    mean = values.mean(0)
    index = coefficients.shell.to(values.device)
    sums, counts = (fourier.shell_sums(v, index, box // 2) for v in (mean, torch.ones_like(mean)))
    means = sums / counts.clamp(min=1)
    return torch.cat([means[1:2], means[1:]])


def _initial_reference(scratch: RefinementScratch, geometry: Geometry) -> NDArray:
    """The initial map on the field of view of the particles, low-passed and on few voxels."""
    store, params = scratch.store, scratch.params
    reader, known = read_map(store, params.initial_map), density_map(store, params.initial_map)
    density = torch.from_numpy(reader["map"]).to(device())
    n = round(geometry.field_angstrom / known.pixel_size_angstrom)
    density = _cropped_or_padded(density, n)
    filtered = fourier.transform(density, 3) * low_pass(
        n, geometry.field_angstrom / n, params.initial_low_pass_angstrom, density.device
    )
    size = map_size(math.ceil(1.5 * geometry.field_angstrom / params.initial_low_pass_angstrom), geometry.box)
    return fourier.resample(fourier.inverse(filtered, (n,) * 3), (size,) * 3).cpu().numpy()


def _cropped_or_padded(density: Tensor, n: int) -> Tensor:
    """Map on ``n`` voxels a side, its origin kept at element n // 2."""
    old = density.shape[-1]
    before = n // 2 - old // 2
    after = n - old - before
    return torch.nn.functional.pad(density, (before, after) * 3)
