"""Particles with a domain that moves, and with one that does not, through the local refinement of that domain."""

import pytest
import torch

from kernels import fourier
from kernels.maps.alignment import inverted
from kernels.maps.fsc import fsc
from kernels.maps.refinement import low_pass
from kernels.rotations import angular_distance_rad
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams, refine_map
from tasks.refine_part import RefinePartParams, refine_part
from tasks.stores.products.map_store import density_map, describe, read_map
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore
from tests.truth.extracted_session import write_extracted
from tests.truth.moving_domain import PIXEL, MovingDomain, N, moving_domain, write_consensus

WHOLE = RefineMapParams(
    diameter_angstrom=130, initial_low_pass_angstrom=25, max_iterations=4, shift_range_angstrom=6,
    shift_step_angstrom=3, n_candidates=4,
)  # fmt: skip
PART = RefinePartParams(shift_step_angstrom=3, n_candidates=4, max_iterations=5, particles_per_block=150)


def refined(store: SessionStore, truth: MovingDomain) -> SessionStore:
    """The consensus of all particles, and the mask of the domain as a verdict has it."""
    write_extracted(store, truth.imaged)
    start = fourier.inverse(fourier.transform(truth.density, 3) * low_pass(N, PIXEL, 25.0, "cpu"), (N,) * 3)
    with store.product("maps/initial").write("build_initial_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", start.numpy())
        describe(attempt, DensityMap(name="initial", kind="initial", pixel_size_angstrom=PIXEL, symmetry="C1"))
    with store.product("verdicts/chosen").write("judge_session", 1, StageParams(), {}) as attempt:
        attempt.write("mask_1", truth.mask.numpy())
    refine_map.fn(store.url, WHOLE)
    return store


def fsc_to_truth(store: SessionStore, name: str, truth: MovingDomain) -> torch.Tensor:
    density = torch.from_numpy(read_map(store, name)["map"])
    return fsc(density * truth.mask, truth.density * truth.mask)


def turn_errors_deg(store: SessionStore, name: str, truth: MovingDomain) -> torch.Tensor:
    """(particle · copy,) of the domain, after the turn that all share: nothing pins the frame of a map in C1."""
    found = torch.from_numpy(read_particles(store.product(f"particles/{name}").read())["rotation"])
    true = truth.copy_rotation @ truth.turn
    left, _, right = torch.linalg.svd((found.mT @ true).mean(0))
    return angular_distance_rad(found @ (left @ right), true).rad2deg()


def test_a_domain_that_moves_is_seen_better_by_itself(store, workers):
    truth = moving_domain(240, turn_deg=12, move_angstrom=4, signal_to_noise=0.2)
    refined(store, truth)
    report = refine_part.fn(store.url, PART)
    assert report.done == ["particles/part", "maps/part"]
    figures = store.product("maps/part").record().figures
    assert figures["is_better"] is True
    # the gold standard says so, and it is true: both against what was planted
    assert figures["resolution_angstrom"] < figures["whole_resolution_angstrom"] - 0.3
    gained = fsc_to_truth(store, "part", truth) - fsc_to_truth(store, "refined", truth)
    assert gained[12:20].mean() > 0.08
    before, after = (turn_errors_deg(store, name, truth).median() for name in ("refined", "part"))
    assert before > 7
    assert after < 0.6 * before
    assert figures["turn_rms_deg"] == pytest.approx(12, rel=0.3)
    # halves stay halves
    halves = [read_particles(store.product(f"particles/{name}").read())["half_set"] for name in ("refined", "part")]
    assert (halves[0] == halves[1]).all()
    found = density_map(store, "part")
    assert (found.kind, found.symmetry, found.n_particles) == ("refined", "C1", 240)
    assert refine_part.fn(store.url, PART).kept == report.done
    assert (store.location / "scratch" / "refine_part").list() in ([], ["zarr.json"])


def test_nothing_is_gained_where_nothing_moves(store, workers):
    truth = moving_domain(240, turn_deg=0, move_angstrom=0, signal_to_noise=0.1)
    refined(store, truth)
    refine_part.fn(store.url, PART)
    figures = store.product("maps/part").record().figures
    assert figures["is_better"] is False
    assert abs(figures["fsc_gain"]) < 0.03
    # images of the domain alone leave its turn open by some degrees, which is not taken for motion
    assert figures["turn_rms_deg"] < 3
    assert figures["move_rms_angstrom"] < 1
    before, after = (turn_errors_deg(store, name, truth).median() for name in ("refined", "part"))
    assert after < before + 0.5


def test_a_part_of_a_symmetric_map_is_sought_in_every_copy(store, workers):
    """Each copy of the domain moves by itself, about what the poses of the whole say of it."""
    truth = moving_domain(80, turn_deg=12, move_angstrom=3, signal_to_noise=0.5, symmetry="C2")
    write_consensus(store, truth)
    with store.product("verdicts/chosen").write("judge_session", 1, StageParams(), {}) as attempt:
        attempt.write("mask_1", inverted(truth.mask).numpy())
    refine_part.fn(store.url, PART.model_copy(update={"is_mask_mirrored": True, "max_iterations": 3}))
    assert len(read_particles(store.product("particles/part").read())) == 160
    before = angular_distance_rad(truth.turn, torch.eye(3)).rad2deg().median()
    assert turn_errors_deg(store, "part", truth).median() < 0.6 * before
    record = store.product("maps/part").record()
    assert record.figures["is_better"] is True
    gained = fsc_to_truth(store, "part", truth) - fsc_to_truth(store, "refined", truth)
    assert gained[12:20].mean() > 0.05
    assert (density_map(store, "part").symmetry, record.figures["n_particles"]) == ("C1", 80)


def test_a_mask_of_another_box_is_refused(store, workers):
    write_consensus(store, moving_domain(8, 0.0, 0.0, 1.0))
    with store.product("verdicts/chosen").write("judge_session", 1, StageParams(), {}) as attempt:
        attempt.write("mask_1", torch.ones(20, 20, 20).numpy())
    with pytest.raises(ValueError, match=r"verdicts/chosen/mask_1: has \(20, 20, 20\) voxels, .* have 48 px a side"):
        refine_part.fn(store.url, PART)
