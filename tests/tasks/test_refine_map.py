"""Particles with known poses through the refinement: resolution, poses, independence of the halves, resumption."""

import logging
import math
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels import fourier
from kernels.ctf import Defocus
from kernels.maps.fsc import fsc, resolution_angstrom
from kernels.maps.refinement import low_pass
from kernels.rotations import angular_distance_rad, random_rotations, symmetry_group
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams, refine_map
from tasks.refinement import alignment, products
from tasks.refinement.iterations import VERSION
from tasks.refinement.renewal import last_refinement
from tasks.stores.products.map_store import density_map, describe, read_map
from tasks.stores.products.particle_store import read_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreWriteError
from tasks.workers.allotment import forget_other_stages
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import Imaged, cage_points, gaussian_map, gaussian_projections, imaged

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


def test_noisy_particles_give_their_map_and_poses(store, workers, truth, place):
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
    assert abs((particles["half_set"] == 1).mean() - 0.5) < 4 * 0.5 / math.sqrt(N_PARTICLES)
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
    forget_other_stages("none")
    assert refine_map.fn(store.url, params).done == ["particles/refined", "maps/refined"]
    assert density_map(store, "refined").resolution_angstrom < 12


N_FIRST = 100
ONE_BLOCK = PARAMS.model_copy(update={"particles_per_block": 1000})


def part(imaged: Imaged, rows: torch.Tensor) -> Imaged:
    defocus = Defocus(*(getattr(imaged.defocus, field.name)[rows] for field in fields(Defocus)))
    return Imaged(imaged.images[rows], defocus, imaged.optics, imaged.transfer[rows])


@pytest.fixture(scope="module")
def dim() -> _Truth:
    """Particles of which 100 do not reach the end of the box."""
    return _Truth(0.05)


@pytest.fixture(scope="module")
def refined_first(tmp_path_factory, workers, dim) -> Path:
    """A session in which two exposures with 50 particles each are refined."""
    store = SessionStore.create(str(tmp_path_factory.mktemp("refined") / "session.zarr"), "test")
    write_extracted(store, part(dim.imaged, torch.arange(N_FIRST)), 2)
    write_initial(store, dim.map)
    refine_map.fn(store.url, ONE_BLOCK)
    return Path(store.url)


@pytest.fixture
def growing(refined_first, tmp_path) -> SessionStore:
    """A copy of that session, to add to."""
    return SessionStore.open(str(shutil.copytree(refined_first, tmp_path / "growing.zarr")))


def test_a_refinement_of_more_particles_starts_from_the_last_one(growing, workers, dim, monkeypatch):
    last = read_map(growing, "refined")
    before = read_particles(growing.product("particles/refined").read())
    write_extracted(growing, dim.imaged, 3)
    searched, align = [], alignment.align

    def watched(observation, *arguments):
        if arguments[-1] is not None and arguments[-1].n_candidates:
            searched.append(len(observation.image))
        return align(observation, *arguments)

    monkeypatch.setattr(alignment, "align", watched)
    assert refine_map.fn(growing.url, ONE_BLOCK).done == ["particles/refined", "maps/refined"]
    assert sum(searched) == N_PARTICLES - N_FIRST, "only the new ones are sought everywhere, once"
    record = growing.product("maps/refined").record()
    assert record.details["renewed_from"] == {
        "product": "maps/refined", "fingerprint": last.record.fingerprint, "n_particles": N_FIRST, "generation": 1
    }  # fmt: skip
    assert record.fingerprint != last.record.fingerprint
    after = read_particles(growing.product("particles/refined").read())
    np.testing.assert_array_equal(after["half_set"][:N_FIRST], before["half_set"])
    turn = angular_distance_rad(torch.from_numpy(after["rotation"]), dim.rotation, "O")
    assert turn[:N_FIRST].median() < math.radians(1.5)
    assert turn[N_FIRST:].median() < math.radians(1.5)
    reader = read_map(growing, "refined")
    density, mask = torch.from_numpy(reader["map"]), torch.from_numpy(reader["mask"])
    assert resolution_angstrom(fsc(density * mask, dim.map * mask), N, PIXEL, 0.5) < 8.0
    # the renewed map has the scale of the last one: coefficients were not scaled twice
    inside = mask > 0.9
    slope = float((density[inside] * dim.map[inside]).sum() / dim.map[inside].square().sum())
    old = torch.from_numpy(last["map"])[inside]
    assert slope == pytest.approx(float((old * dim.map[inside]).sum() / dim.map[inside].square().sum()), rel=0.15)
    assert refine_map.fn(growing.url, ONE_BLOCK).kept == ["particles/refined", "maps/refined"]


def test_noise_that_is_added_to_a_good_map_makes_its_halves_agree_no_further(growing, workers, dim):
    before, curves = density_map(growing, "refined").resolution_angstrom, read_map(growing, "refined")["fsc_curves"]
    noise = torch.randn(N_FIRST, N, N, generator=torch.Generator().manual_seed(9))
    good = part(dim.imaged, torch.arange(N_FIRST))
    both = part(dim.imaged, torch.arange(N_FIRST).repeat(2))
    write_extracted(growing, replace(both, images=torch.cat([good.images, noise])), 4)
    refine_map.fn(growing.url, ONE_BLOCK)
    assert growing.product("maps/refined").record().figures["generation"] == 1
    after = density_map(growing, "refined").resolution_angstrom
    assert after > 0.97 * before  # half of a shell is left to chance
    # noise raises the correlation on no shell: where there is signal it lowers it, beyond there is nothing to raise
    gained = (read_map(growing, "refined")["fsc_curves"] - curves)[4, math.ceil(N * PIXEL / 25) :]
    assert gained.mean() < 0.02
    assert gained[-8:].mean() < 0.1


def test_a_renewal_that_was_stopped_goes_on_and_the_last_map_stays_until_the_next_is_there(
    growing, workers, dim, monkeypatch
):
    last = read_map(growing, "refined")
    write_extracted(growing, dim.imaged, 3)

    def lost(*_):
        raise RuntimeError("lost")

    # the particles of the renewal are written, its map is not
    monkeypatch.setattr(products, "describe", lost)
    with pytest.raises(RuntimeError, match="lost"):
        refine_map.fn(growing.url, ONE_BLOCK)
    monkeypatch.undo()
    assert len(read_particles(growing.product("particles/refined").read())) == N_PARTICLES
    np.testing.assert_array_equal(read_map(growing, "refined")["map"], last["map"])
    aligned = []
    monkeypatch.setattr(alignment, "align", lambda *_: aligned.append(1))
    assert refine_map.fn(growing.url, ONE_BLOCK).done == ["particles/refined", "maps/refined"]
    assert not aligned
    record = growing.product("maps/refined").record()
    assert record.details["renewed_from"]["fingerprint"] == last.record.fingerprint
    assert (growing.location / "scratch" / "refine_map").list() in ([], ["zarr.json"])


def test_why_a_refinement_starts_from_the_initial_map_is_said(growing, workers, dim, caplog):
    write_extracted(growing, dim.imaged, 3)

    def reason(**changes) -> str:
        params = ONE_BLOCK.model_copy(update=changes)
        inputs = growing.fingerprints(["particles/extracted", "maps/initial"])
        scratch = Scratch(growing, "refine_map", VERSION, params, inputs)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            last_refinement(scratch)
        return caplog.text

    assert "from the last map, of 100 particles" in reason()
    assert "of other parameters (seed)" in reason(seed=5)
    assert reason(start="initial") == ""
    with growing.product("maps/initial").write("build_initial_map", 2, StageParams(), {}) as attempt:
        attempt.write("map", dim.map.numpy())
        describe(attempt, DensityMap(name="initial", kind="initial", pixel_size_angstrom=PIXEL, symmetry="O"))
    assert "maps/initial is another one" in reason()
