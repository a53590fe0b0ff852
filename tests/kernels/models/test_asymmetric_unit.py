"""What of a symmetric map has to be looked at, and residues that are mates of each other."""

from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

from kernels.maps.grid import DensityGrid
from kernels.models.asymmetric_unit import moved, one_of_each, symmetry_correlations, unit_of_map
from kernels.models.detections import ProteinDetections
from kernels.models.mates import Mates
from tests.truth.protein_detections import DetectorNoise, cage_subunits, simulated_detections


def blobs(symmetry: str, n: int = 40) -> tuple[DensityGrid, Mates, torch.Tensor]:
    """Gaussians at some places and all of their mates."""
    empty = DensityGrid(torch.zeros(n, n, n), 2.0, torch.tensor([5.0, 0.0, -3.0], dtype=torch.float64))
    mates = Mates.about(symmetry, empty)
    some = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    some = mates.centre_angstrom + 24 * some / some.norm(dim=1, keepdim=True)
    points = empty.to_angstrom(torch.stack(torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij"), -1))
    density = torch.zeros(n, n, n, dtype=torch.float64)
    for place in mates.of(some).reshape(-1, 3):
        density += torch.exp(-(points - place).square().sum(-1) / 18)
    return empty.with_voxels(density.float()), mates, some


@pytest.mark.parametrize("symmetry", ["C3", "D2", "O"])
def test_the_mates_of_a_unit_make_up_the_whole_map(symmetry):
    grid, mates, places = blobs(symmetry)
    unit = unit_of_map(grid, mates)
    held = unit.holds(mates.of(places))  # (operation, place)
    assert held.any(0).all()
    assert held.sum(0).double().mean() < 0.7 * len(mates)
    assert unit.grid.voxels.numel() < grid.voxels.numel()
    inside = mates.of(places)[held]
    voxel = unit.grid.to_voxels(inside)
    assert ((voxel > 0) & (voxel < torch.tensor(unit.grid.voxels.shape) - 1)).all()


def test_a_map_correlates_with_itself_turned_about_its_own_axes_alone():
    grid, mates, _ = blobs("C3")
    assert symmetry_correlations(grid, mates).min() > 0.98
    assert symmetry_correlations(grid, Mates.about("C4", grid)).min() < 0.4
    moved_by_two = grid.with_voxels(grid.voxels.roll((2, 2), (1, 2)))
    assert symmetry_correlations(moved_by_two, mates).min() < 0.7


def test_of_residues_and_their_mates_one_is_kept_with_what_is_known_of_all():
    found = simulated_detections(cage_subunits(1), DetectorNoise(), seed=3)
    mates = Mates.about("O", DensityGrid(torch.zeros(8, 8, 8), 1.0, torch.full((3,), -4.0, dtype=torch.float64)))
    single = one_of_each(found, mates)
    assert len(single) <= len(found)
    operation = torch.randint(24, (len(single),), generator=torch.Generator().manual_seed(0))
    twice = ProteinDetections(
        *(torch.cat([getattr(single, f.name), getattr(moved(single, mates, operation), f.name)]) for f in fields(found))
    )
    order = twice.confidence.argsort(descending=True, stable=True)
    again = one_of_each(twice.take(order), mates)
    assert len(again) == len(single)
    back = moved(again, mates, nearest_operation(again, single, mates))
    nearest = torch.cdist(back.alpha_angstrom, single.alpha_angstrom).argmin(1)
    for name in ("alpha_angstrom", "backbone_offset_angstrom", "next_offset_angstrom", "confidence"):
        assert_close(getattr(back, name), getattr(single, name)[nearest], atol=1e-3, rtol=1e-3)


def nearest_operation(of: ProteinDetections, to: ProteinDetections, mates: Mates) -> torch.Tensor:
    """Which operation takes each residue to one of others."""
    places = mates.of(of.alpha_angstrom)
    return torch.stack([torch.cdist(p, to.alpha_angstrom.double()).amin(1) for p in places]).argmin(0)
