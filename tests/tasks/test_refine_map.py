"""Particles with known poses through the refinement: resolution, poses, independence of the halves, resumption."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels import fourier
from kernels.maps.fsc import fsc, resolution_angstrom
from kernels.maps.refinement import low_pass
from kernels.rotations import angular_distance_rad, random_rotations, symmetry_group
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams, refine_map
from tasks.stores.location import StoreWriteError
from tasks.stores.map_store import density_map, describe, read_map
from tasks.stores.particle_store import read_particles
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import cage_points, gaussian_map, gaussian_projections, imaged

PIXEL, N, N_PARTICLES, WIDTH = 2.5, 64, 150, 2.0
PARAMS = RefineMapParams(
    diameter_angstrom=125, symmetry="O", initial_low_pass_angstrom=25, max_iterations=3, particles_per_block=40,
    shift_range_angstrom=6, shift_step_angstrom=3, n_candidates=4,
)  # fmt: skip


class _Truth:
    def __init__(self, signal_to_noise: float, symmetry: str = "O") -> None:
        generator = torch.Generator().manual_seed(8)
        self.points = cage_points(symmetry, math.ceil(288 / len(symmetry_group(symmetry))), 48.0, 3)
        self.rotation = random_rotations(N_PARTICLES, generator)
        self.shift = 1.5 * torch.randn(N_PARTICLES, 2, generator=generator)
        projections = gaussian_projections(self.points, self.rotation, self.shift, N, PIXEL, WIDTH)
        self.imaged = imaged(projections, PIXEL, signal_to_noise, 5)
        self.map = gaussian_map(self.points, N, PIXEL, WIDTH)


@pytest.fixture(scope="module")
def truth() -> _Truth:
    return _Truth(0.15)


def write_initial(store, density: torch.Tensor, symmetry: str = "O") -> None:
    """The truth at 25 Å, scaled by nobody knows what."""
    n = density.shape[-1]
    blurred = fourier.inverse(fourier.transform(density, 3) * low_pass(n, PIXEL, 25.0, "cpu"), (n,) * 3)
    with store.product("maps/initial").write("build_initial_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", (1000 * blurred).numpy())
        describe(attempt, DensityMap(name="initial", kind="initial", pixel_size_angstrom=PIXEL, symmetry=symmetry))


def test_noisy_particles_give_their_map_and_poses(store, workers, truth):
    write_extracted(store, truth.imaged)
    write_initial(store, truth.map)
    report = refine_map.fn(store.url, PARAMS)
    assert report.done == ["particles/refined", "maps/refined"]
    reader, found = read_map(store, "refined"), density_map(store, "refined")
    density, mask = torch.from_numpy(reader["map"]), torch.from_numpy(reader["mask"])
    to_truth = resolution_angstrom(fsc(density * mask, truth.map * mask), N, PIXEL, 0.5)
    assert to_truth < 7.0
    assert found.resolution_angstrom is not None
    assert abs(found.resolution_angstrom / to_truth - 1) < 0.15
    # in the pass band the map is the potential that was projected, up to the scale of the images
    particles = read_particles(store.product("particles/refined").read())
    turn = angular_distance_rad(torch.from_numpy(particles["rotation"]), truth.rotation, "O")
    move = (torch.from_numpy(particles["shift_angstrom"]) - truth.shift).norm(dim=-1)
    assert turn.median() < math.radians(1.0)
    assert move.median() < 0.3 * PIXEL
    assert sorted(np.unique(particles["half_set"]).tolist()) == [1, 2]
    assert abs((particles["half_set"] == 1).mean() - 0.5) < 0.01
    # the symmetry of the result is exact: quarter turns about z
    quarter = torch.rot90(density[:, 1:, 1:], 1, dims=(1, 2))
    assert (quarter - density[:, 1:, 1:]).abs().max() < 1e-3 * density.abs().max()
    # nothing is left in scratch, and a second run keeps what is there
    assert (store.location / "scratch" / "refine_map").list() in ([], ["zarr.json"])
    assert refine_map.fn(store.url, PARAMS).kept == ["particles/refined", "maps/refined"]
    curves = reader["fsc_curves"]
    assert curves.shape == (5, N // 2 + 1)
    assert curves[0, -1] == pytest.approx(1 / (2 * PIXEL))


@pytest.mark.parametrize("symmetry", ["C1", "C3", "D2", "T", "I"])
def test_every_kind_of_point_group_is_refined(store, workers, symmetry):
    truth = _Truth(0.5, symmetry)
    write_extracted(store, truth.imaged)
    write_initial(store, truth.map, symmetry)
    refine_map.fn(store.url, PARAMS.model_copy(update={"symmetry": symmetry, "particles_per_block": 1000}))
    density = torch.from_numpy(read_map(store, "refined")["map"])
    assert resolution_angstrom(fsc(density, truth.map), N, PIXEL, 0.5) < 10.0
    rotation = torch.from_numpy(read_particles(store.product("particles/refined").read())["rotation"])
    # in C1 nothing pins the frame of the halves, and the particle is a lump to one side; a wrong basin is > 10° off
    assert angular_distance_rad(rotation, truth.rotation, symmetry).median() < math.radians(3.0)


def test_halves_of_pure_noise_agree_on_nothing(store, workers):
    """Both start from one map, so its ghost may stand in both up to its own resolution, and no further."""
    nothing = _Truth(1e-9)
    write_extracted(store, nothing.imaged)
    write_initial(store, nothing.map)
    refine_map.fn(store.url, PARAMS.model_copy(update={"particles_per_block": 1000}))
    found = density_map(store, "refined").resolution_angstrom
    assert found is None or found > 0.6 * PARAMS.initial_low_pass_angstrom


def test_a_refinement_that_could_not_write_its_result_goes_on_where_it_stopped(store, workers, truth):
    write_extracted(store, truth.imaged)
    write_initial(store, truth.map)
    params = PARAMS.model_copy(update={"max_iterations": 2, "particles_per_block": 1000})
    in_the_way = Path(store.url) / "particles" / "refined" / "attempts"
    in_the_way.parent.mkdir()
    in_the_way.write_text("a file where a folder has to be")
    with pytest.raises(StoreWriteError, match="particles/refined: cannot be written"):
        refine_map.fn(store.url, params)
    assert store.product("maps/refined").record() is None
    in_the_way.unlink()
    # stacks without their chunks read as zeros: whoever aligned again would find nothing
    for chunks in Path(store.url).glob("exposures/*/extract_particles/attempts/*/image/c"):
        shutil.rmtree(chunks)
    assert refine_map.fn(store.url, params).done == ["particles/refined", "maps/refined"]
    assert density_map(store, "refined").resolution_angstrom < 12


def test_an_unknown_symmetry_is_refused_before_any_work(store, workers, truth):
    write_extracted(store, truth.imaged)
    write_initial(store, truth.map)
    with pytest.raises(ValueError, match="symmetry 'X9' is unknown"):
        refine_map.fn(store.url, PARAMS.model_copy(update={"symmetry": "X9"}))
