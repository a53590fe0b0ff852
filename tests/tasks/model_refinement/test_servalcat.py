"""Servalcat brings a displaced model back, whatever the map's origin, and says what it cannot do."""

import dataclasses

import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from tasks.model_refinement.evidence import Evidence, require_in_map
from tasks.model_refinement.servalcat import Effort, RefinementError, refined
from tasks.model_refinement.weight_scan import refined_at_best_weight
from tests.truth.cage_model import smoothly_displaced
from tests.truth.ideal_nucleic_acids import duplex
from tests.truth.model_maps import simulated_maps
from tests.truth.symmetric_maps import dimer_maps


def alpha_error(found: AtomicModel, true: AtomicModel) -> float:
    return float((found.positions("CA") - true.positions("CA")).norm(dim=-1).square().mean().sqrt())


@pytest.mark.parametrize("n_maps", [1, 2])
def test_a_displaced_model_comes_back_at_a_weight_that_keeps_its_geometry(subunit, monomers, n_maps):
    start = smoothly_displaced(subunit.model, 0.6)
    maps = (subunit.half_1, subunit.half_2) if n_maps == 2 else (subunit.sharpened,)
    scanned = refined_at_best_weight(start, Evidence(maps, 3.0), monomers)
    assert alpha_error(start, subunit.model) > 0.5
    assert alpha_error(scanned.result.model, subunit.model) < 0.25
    assert scanned.result.angle_rmsd_deg < 1.7
    assert scanned.result.fsc_average > 0.9
    assert scanned.result.model.names == start.names
    if n_maps == 2:
        sane = [trial.fsc_average_free for trial in scanned.trials if trial.angle_rmsd_deg <= 1.6]
        chosen = next(t for t in scanned.trials if t.weight == pytest.approx(scanned.result.weight, rel=1e-3))
        assert chosen.fsc_average_free == max(sane)


@pytest.mark.parametrize("is_dna", [False, True])
def test_nucleotides_are_linked_and_come_back_at_a_weight_that_keeps_their_geometry(monomers, is_dna):
    maps = simulated_maps(duplex("GGACUCAG", is_dna), 3.0, padding_angstrom=8.0)
    noise = torch.randn(maps.model.coordinates_angstrom.shape, generator=torch.Generator().manual_seed(1)).double()
    start = smoothly_displaced(maps.model.at(maps.model.coordinates_angstrom + 0.1 * noise), 0.5)
    evidence = Evidence((maps.half_1, maps.half_2), 3.0)
    scanned = refined_at_best_weight(start, evidence, monomers, effort=Effort(n_cycles=5))
    found, truth = scanned.result.model, maps.model
    assert scanned.result.angle_rmsd_deg <= 1.5
    assert scanned.result.bond_rmsz < 1.05
    sugar = (found.positions("C4'") - truth.positions("C4'")).norm(dim=-1)
    assert sugar.square().mean().sqrt() < 0.35
    bond = (found.positions("O3'")[:-1, 0] - found.positions("P")[1:, 0]).norm(dim=-1)[truth.is_linked()[:-1]]
    assert (bond - 1.607).abs().max() < 0.05  # restraints of the library hold where the chain goes on


def test_one_unit_of_a_symmetric_map_is_refined_with_its_copies(monomers):
    maps = dimer_maps(30, 3.0)
    start = smoothly_displaced(maps.model, 0.5)
    mates = Mates.about("C2", maps.half_1)
    halves, effort = (maps.half_1, maps.half_2), Effort(n_cycles=4)
    found = refined(start, Evidence(halves, 3.0, mates), monomers, 0.3, effort=effort)
    assert alpha_error(found.model, maps.model) < 0.5 * alpha_error(start, maps.model)
    assert found.model.names == start.names
    assert found.fsc_average > 0.9  # of all copies with the map


def test_a_model_away_from_its_map_is_refused(subunit):
    grid, model = subunit.sharpened, subunit.model
    require_in_map(model, grid)
    with pytest.raises(ValueError, match="atoms lie outside of the map"):
        require_in_map(model.at(model.coordinates_angstrom - grid.origin_angstrom + 200), grid)
    with pytest.raises(ValueError, match="does not lie in the map's density"):
        require_in_map(model, dataclasses.replace(grid, voxels=-grid.voxels))
    with pytest.raises(ValueError, match="no atoms"):
        require_in_map(model.take(torch.zeros(len(model), dtype=torch.bool)), grid)


def test_halves_that_differ_are_refused(subunit):
    moved = dataclasses.replace(subunit.half_2, origin_angstrom=subunit.half_2.origin_angstrom + 1)
    with pytest.raises(ValueError, match="half maps differ"):
        Evidence((subunit.half_1, moved), 3.0)
    with pytest.raises(ValueError, match="finer than voxels"):
        Evidence((subunit.half_1,), 1.2)


def test_a_run_without_room_or_time_says_so(subunit, monomers):
    evidence = Evidence((subunit.half_1, subunit.half_2), 3.0)
    with pytest.raises(RefinementError, match="did not finish within 1 s"):
        refined(subunit.model, evidence, monomers, effort=Effort(seconds=1))
    with pytest.raises(RefinementError, match=r"needed more than -1\.5 GB|ended with code"):
        refined(subunit.model, evidence, monomers, effort=Effort(memory_bytes=-1_500_000_000))
