"""Inside of one mask the better model agrees better with a half map that is free, whatever it lacks or adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from kernels import fourier
from kernels.maps.cutting import cut_around
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.common_mask import MARGIN_ANGSTROM, common_mask_fsc, ends
from kernels.models.map_fit import map_model_fsc, mean_fsc, model_density, soft_mask
from kernels.models.mates import Mates, copies
from kernels.rotations import random_rotations
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import SimulatedMaps, simulated_maps
from tests.truth.peptides import helix

N, RIGHT, RESOLUTION = 48, 32, 3.0
CLEARLY = 0.02
"""Of a mean FSC; of maps with other noise it differs by 0.002."""


@pytest.fixture(scope="module")
def maps() -> SimulatedMaps:
    return simulated_maps(cage_subunit(N), RESOLUTION, padding_angstrom=20)


def in_one_mask(grid: DensityGrid, *models: AtomicModel) -> list[float]:
    mates = Mates.about("C1", grid)
    box = cut_around(grid, ends(models, mates), MARGIN_ANGSTROM)
    return common_mask_fsc(box, models, mates, RESOLUTION)


def in_own_mask(grid: DensityGrid, model: AtomicModel) -> float:
    curve = map_model_fsc(grid, model_density(model, grid), soft_mask(grid, model))
    return mean_fsc(curve, grid, RESOLUTION)


def first_residues(model: AtomicModel) -> AtomicModel:
    return model.take_residues(torch.arange(model.n_residues) < RIGHT)


def with_third_moved(model: AtomicModel, angstrom: float) -> AtomicModel:
    is_moved = (model.residue >= RIGHT)[:, None]
    return model.at(model.coordinates_angstrom + is_moved * angstrom / 3**0.5)


def with_helix_in_noise(maps: SimulatedMaps) -> AtomicModel:
    """Ten more residues where the noise of both halves together, the free one too, looks most like them."""
    truth, grid = maps.model, maps.half_1
    mean = fourier.low_passed((grid.voxels + maps.half_2.voxels) / 2, grid.voxel_size_angstrom, RESOLUTION)
    found = helix("AEKLFSWTRD", "B")
    own = found.coordinates_angstrom - found.coordinates_angstrom.mean(0)
    generator = torch.Generator().manual_seed(5)
    best, place = -torch.inf, own
    for rotation in random_rotations(2000, generator).double():
        middle = grid.origin_angstrom + 10 + (grid.size_angstrom - 20) * torch.rand(3, generator=generator).double()
        tried = own @ rotation.T + middle
        if torch.cdist(tried[::5], truth.coordinates_angstrom[::5]).min() < 6:
            continue
        density = float(grid.with_voxels(mean).values_at(tried).mean())
        if density > best:
            best, place = density, tried
    assert best > 0
    return joined([truth, replace(found, b_factor_angstrom2=torch.full((len(found),), 60.0)).at(place)])


def test_the_complete_model_wins_over_a_part_of_it(maps):
    truth = maps.model
    whole, part = in_one_mask(maps.half_2, truth, first_residues(truth))
    assert whole > part + CLEARLY


def test_a_part_does_not_win_because_it_is_short(maps):
    """All of a model that is 1 Å off in a third against the two thirds that are right: half of that counts as found."""
    off, part = with_third_moved(maps.model, 1.0), first_residues(maps.model)
    assert in_own_mask(maps.half_2, part) > in_own_mask(maps.half_2, off)
    all_of_it, short = in_one_mask(maps.half_2, off, part)
    assert all_of_it > short + CLEARLY


def test_a_model_whose_third_lies_elsewhere_loses_against_the_part_that_is_right(maps):
    truth = maps.model
    moved, part, whole = in_one_mask(maps.half_2, with_third_moved(truth, 2.0), first_residues(truth), truth)
    assert whole > part + CLEARLY
    assert part > moved + CLEARLY


def test_residues_in_noise_do_not_win(maps):
    right, more = in_one_mask(maps.half_2, maps.model, with_helix_in_noise(maps))
    assert right > more + CLEARLY


def test_one_model_alone_agrees_as_in_its_own_mask(maps):
    (found,) = in_one_mask(maps.half_2, maps.model)
    # the box that is cut has fewer shells
    assert found == pytest.approx(in_own_mask(maps.half_2, maps.model), abs=0.005)


def test_neither_the_order_nor_how_the_map_is_cut_matters(maps):
    models: Sequence[AtomicModel] = (maps.model, first_residues(maps.model))
    found = in_one_mask(maps.half_2, *models)
    assert in_one_mask(maps.half_2, *reversed(models))[::-1] == pytest.approx(found, abs=1e-6)
    whole = common_mask_fsc(maps.half_2, models, Mates.about("C1", maps.half_2), RESOLUTION)
    assert whole == pytest.approx(found, abs=0.005)


def test_all_copies_of_a_model_are_compared():
    unit = helix("AEKLFSWTRDMHEV")
    unit = unit.at(unit.coordinates_angstrom - unit.coordinates_angstrom.mean(0) + torch.tensor([0.0, 9.0, 0.0]))
    empty = DensityGrid(torch.zeros(56, 60, 52), 1.0, torch.tensor([-28.0, -30.0, -26.0], dtype=torch.float64))
    mates, alone = Mates.about("C2", empty), Mates.about("C1", empty)
    short = unit.take_residues(torch.arange(unit.n_residues) < 9)
    both = [joined(copies(model, mates)) for model in (unit, short)]
    grid = model_density(both[0], empty)
    found = common_mask_fsc(grid, [unit, short], mates, RESOLUTION)
    assert found == pytest.approx(common_mask_fsc(grid, both, alone, RESOLUTION), abs=1e-6)
    assert found[0] == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(ends([unit, short], mates), ends(both, alone))
