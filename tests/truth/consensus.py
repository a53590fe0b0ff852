"""A session as a refinement leaves it that found the true pose of every particle."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.maps.fsc import signal_to_noise
from kernels.maps.reconstruction import complete, symmetrise, wiener_map
from kernels.maps.refinement import back_project, compare_halves
from kernels.particles.expectation import disc
from kernels.particles.likelihood import Observation, PoseFit
from kernels.rotations import symmetry_group
from tasks.records.density_map import DensityMap
from tasks.records.particle_identity import half_sets
from tasks.records.session import StageParams
from tasks.stores.products.map_store import describe
from tasks.stores.products.observations import Geometry, read_coefficients
from tasks.stores.products.particle_store import write_particles
from tasks.stores.session_store import SessionStore
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import Imaged


def write_consensus(
    store: SessionStore,
    imaged: Imaged,
    rotation: Tensor,
    shift_angstrom: Tensor,
    diameter_angstrom: float,
    symmetry: str = "C1",
) -> None:
    """``particles/refined`` at known poses, and ``maps/refined`` of two halves.

    Parameters
    ----------
    rotation, shift_angstrom
        (particle, 3, 3) and (particle, 2).
    """
    n, pixel_size = imaged.images.shape[-1], imaged.optics.pixel_size_angstrom
    particles = write_extracted(store, imaged)
    coefficients = disc(n, n // 2 - 1)
    images, transfer = read_coefficients(store, particles, Geometry(n, pixel_size), coefficients, torch.device("cpu"))
    observation = Observation(images, transfer, torch.ones(images.shape[1]))
    half_set, nothing = half_sets(particles, 1), torch.zeros(len(particles))
    sums = []
    for half in (1, 2):
        rows = torch.from_numpy(half_set == half)
        poses = PoseFit(rotation[rows], shift_angstrom[rows] / pixel_size, nothing, nothing, nothing)
        total = complete(back_project(observation.select(rows), coefficients, poses, n // 2 - 1))
        sums.append(symmetrise(total, symmetry))
    order = len(symmetry_group(symmetry))
    found = compare_halves(sums[0], sums[1], n, pixel_size, diameter_angstrom, order, torch.Generator().manual_seed(1))
    merged = wiener_map(sums[0] + sums[1], 2 * signal_to_noise(found.curves.corrected, found.shell_143))
    curves = found.curves
    frequency = torch.arange(n // 2 + 1) / (n * pixel_size)
    rows = torch.stack([frequency, curves.unmasked, curves.masked, curves.randomised, curves.corrected])
    refined = particles.with_columns(
        rotation=rotation.numpy(), shift_angstrom=shift_angstrom.numpy(), half_set=half_set,
        log_likelihood=nothing.numpy(),
    )  # fmt: skip
    with store.product("particles/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        write_particles(attempt, refined)
    with store.product("maps/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        for name, density in {"map": merged, "half_1": found.half_1, "half_2": found.half_2}.items():
            attempt.write(name, (n * density).numpy())
        attempt.write("mask", found.mask.numpy())
        attempt.write("fsc_curves", rows.numpy())
        describe(attempt, DensityMap(
            name="refined", kind="refined", pixel_size_angstrom=pixel_size, symmetry=symmetry,
            resolution_angstrom=n * pixel_size / found.shell_143, n_particles=len(particles),
        ))  # fmt: skip
