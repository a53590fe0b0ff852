"""A part that is worse resolved gets a mask; scattered residues, and everything, do not."""

from functools import cache

import pytest
import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.mates import Mates, copies
from kernels.rotations import symmetry_group
from tasks.verdict.unbuilt import UnbuiltDensity, unbuilt_density
from tasks.verdict.weak_parts import weak_parts
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import SimulatedMaps, simulated_maps
from tests.truth.peptides import helix

AWAY = torch.tensor([0.0, 34.0, 0.0], dtype=torch.float64)
"""Å, of a subunit from its axis: it touches its copies."""


@cache
def long_helix() -> SimulatedMaps:
    """Maps of 120 residues in a line."""
    return simulated_maps(helix("ALEKDIRQSV" * 12), 3.0, voxel_size_angstrom=1.4)


@cache
def domain() -> SimulatedMaps:
    """Maps of 160 residues that are packed."""
    return simulated_maps(cage_subunit(160), 3.0, voxel_size_angstrom=1.4)


def test_the_weak_half_is_found_and_masked():
    maps = long_helix()
    n = maps.model.n_residues
    local = torch.full((n,), 3.0)
    local[70:] = 4.2
    local[[3, 30]] = 6.0
    local[90] = torch.nan
    (part,) = weak_parts(maps.model, local, maps.sharpened, alone(maps))
    assert "A/71-120" in part.ranges and int(part.is_part.sum()) <= 52
    assert abs(part.resolution_angstrom - 4.2) < 1e-5 and abs(part.rest_angstrom - 3.0) < 1e-5
    inside = maps.sharpened.to_voxels(maps.model.positions("CA")[:, 0]).round().long()
    values = part.mask[tuple(inside.T)]
    assert values[70:].min() > 0.99
    alpha = maps.model.positions("CA")[:, 0]
    far = torch.cdist(alpha, alpha[part.is_part]).amin(1) > 15
    assert far.any() and values[far].max() < 0.1


def test_a_mask_ends_where_what_is_well_resolved_begins():
    """What is rigid and stays in the mask would hold the part where it is."""
    maps = long_helix()
    local = torch.full((maps.model.n_residues,), 3.0)
    local[70:] = 4.2
    (part,) = weak_parts(maps.model, local, maps.sharpened, alone(maps))
    inside = maps.sharpened.to_voxels(maps.model.positions("CA")[:, 0]).round().long()
    values = part.mask[tuple(inside.T)]
    assert values[:68].max() < 0.01
    assert values[72:].min() > 0.99
    # 1.5 Å a residue along the helix
    assert part.is_around[70:].all() and part.is_around[65:70].all() and not part.is_around[:62].any()


def alone(maps: SimulatedMaps) -> Mates:
    """Of a map without symmetry."""
    return Mates.about("C1", maps.sharpened)


def unbuilt_half(n_built: int) -> tuple[SimulatedMaps, AtomicModel, Tensor, UnbuiltDensity]:
    """Maps of 160 residues, the model of some of the first, local resolution, worse from the 81st on, and the rest."""
    maps = domain()
    model, grid = maps.model, maps.sharpened
    distance = torch.cdist(grid.to_angstrom(torch.nonzero(grid.voxels == grid.voxels)), model.positions("CA")[:, 0])
    nearest = distance.argmin(1).reshape(grid.voxels.shape)
    local = grid.with_voxels(torch.where(nearest < 80, 3.0, 4.5))
    built = model.take_residues(torch.arange(160) < n_built)
    found = unbuilt_density(built, grid, local, Mates.about("C1", grid))
    at_residues = grid.to_voxels(built.positions("CA")[:, 0]).round().long()
    return maps, built, local.voxels[tuple(at_residues.T)].double(), found


def test_density_without_a_model_is_found_where_it_is_and_has_room_for_what_is_missing():
    maps, _, _, found = unbuilt_half(100)
    n = len(found.places_angstrom) * found.residues_a_place
    assert n == pytest.approx(60, rel=0.4)
    atoms = maps.model.coordinates_angstrom
    assert torch.cdist(found.places_angstrom, atoms).amin(1).max() < 6
    missing = maps.model.take_residues(torch.arange(160) >= 100).coordinates_angstrom
    assert (torch.cdist(found.places_angstrom, missing).amin(1) < 4).double().mean() > 0.9
    assert (found.local_resolution_angstrom == 4.5).double().mean() > 0.9


def test_what_nobody_could_build_is_of_the_weak_part():
    maps, built, local, unbuilt = unbuilt_half(100)
    assert weak_parts(built, local, maps.sharpened, alone(maps)) == []  # twenty residues do not align by themselves
    (part,) = weak_parts(built, local, maps.sharpened, alone(maps), unbuilt)
    assert int(part.is_part.sum()) == 20 and part.ranges == ("A/81-100",)
    assert part.n_unbuilt == pytest.approx(60, rel=0.4)
    inside = maps.sharpened.to_voxels(maps.model.positions("CA")[:, 0]).round().long()
    values = part.mask[tuple(inside.T)]
    assert values[100:].mean() > 0.9 and values[:76].mean() < 0.1


def test_density_that_nothing_was_built_in_is_no_part():
    """As a micelle is."""
    maps, built, local, unbuilt = unbuilt_half(82)
    assert weak_parts(built, local, maps.sharpened, alone(maps), unbuilt) == []


def test_a_map_that_is_equally_good_everywhere_has_no_weak_part():
    maps = simulated_maps(cage_subunit(60), 3.0)
    assert weak_parts(maps.model, torch.full((60,), 3.0), maps.sharpened, alone(maps)) == []
    worse = torch.full((60,), 3.0)
    worse[:20] = 5.0
    assert weak_parts(maps.model, worse, maps.sharpened, alone(maps)) == []  # too few to align by themselves


def test_what_copies_are_made_of_is_neither_unbuilt_nor_of_the_part():
    """Of four subunits around an axis one is modelled, half of it is weak and a quarter is not built."""
    subunit = cage_subunit(160)
    whole = subunit.at(subunit.coordinates_angstrom - subunit.coordinates_angstrom.mean(0) + AWAY)
    about = Mates(symmetry_group("C4"), torch.zeros(3, dtype=torch.float64))
    maps = simulated_maps(joined(copies(whole, about)), 3.0, voxel_size_angstrom=1.6, centre_angstrom=torch.zeros(3))
    mates = Mates.about("C4", maps.sharpened)
    assert mates.centre_angstrom.abs().max() < 0.01
    built = whole.take_residues(torch.arange(160) < 120)
    local = torch.full((120,), 3.0)
    local[80:] = 4.5
    one = simulated_maps(whole, 3.0, voxel_size_angstrom=1.6)
    by_itself, unbuilt = (
        unbuilt_density(built, grid, grid.with_voxels(torch.full(grid.voxels.shape, 4.5)), some)
        for grid, some in ((one.sharpened, alone(one)), (maps.sharpened, mates))
    )
    assert len(unbuilt.places_angstrom) == pytest.approx(len(by_itself.places_angstrom), rel=0.2)
    assert torch.cdist(unbuilt.places_angstrom, whole.coordinates_angstrom).amin(1).max() < 6
    (part,) = weak_parts(built, local, maps.sharpened, mates, unbuilt)
    others = maps.sharpened.to_voxels(mates.of(whole.positions("CA")[:, 0])[1:].flatten(0, 1)).round().long()
    assert part.mask[tuple(others.T)].max() < 0.6
