"""A part that is worse resolved gets a mask; scattered residues, and everything, do not."""

import torch

from tasks.verdict.weak_parts import weak_parts
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.peptides import helix


def test_the_weak_half_is_found_and_masked():
    maps = simulated_maps(helix("ALEKDIRQSV" * 12), 3.0, voxel_size_angstrom=1.4)
    n = maps.model.n_residues
    local = torch.full((n,), 3.0)
    local[70:] = 4.2
    local[[3, 30]] = 6.0
    local[90] = torch.nan
    (part,) = weak_parts(maps.model, local, maps.sharpened)
    assert "A/71-120" in part.ranges and int(part.is_part.sum()) <= 52
    assert abs(part.resolution_angstrom - 4.2) < 1e-5 and abs(part.rest_angstrom - 3.0) < 1e-5
    inside = maps.sharpened.to_voxels(maps.model.positions("CA")[:, 0]).round().long()
    values = part.mask[tuple(inside.T)]
    assert values[70:].min() > 0.99
    alpha = maps.model.positions("CA")[:, 0]
    far = torch.cdist(alpha, alpha[part.is_part]).amin(1) > 15
    assert far.any() and values[far].max() < 0.1


def test_a_map_that_is_equally_good_everywhere_has_no_weak_part():
    maps = simulated_maps(cage_subunit(60), 3.0)
    assert weak_parts(maps.model, torch.full((60,), 3.0), maps.sharpened) == []
    worse = torch.full((60,), 3.0)
    worse[:20] = 5.0
    assert weak_parts(maps.model, worse, maps.sharpened) == []  # too few to align by themselves
