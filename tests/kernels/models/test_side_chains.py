"""Rotamers found again in a map of known side chains."""

import pytest
import torch

from kernels.models.real_space import density_target
from kernels.models.residues import PROTEIN_BACKBONE
from kernels.models.side_chains import with_side_chains
from kernels.models.torsions import backbone_torsions, conformation, side_chain_torsions
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


def built(maps, density=None):
    model = maps.model
    backbone = model.positions(*PROTEIN_BACKBONE)
    target = density or density_target(maps.sharpened, backbone[:, 1], 20.0)
    turned = conformation(backbone_torsions(model))
    return with_side_chains(backbone, model.residues, model.amino_acid, turned, target)


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(100), 3.0, padding_angstrom=8)


def test_side_chains_find_their_density(maps):
    found = built(maps)
    assert found.names == maps.model.names
    assert found.residues == maps.model.residues
    wrong = side_chain_torsions(found) - side_chain_torsions(maps.model)
    known = ~wrong[:, 0].isnan()
    right = torch.cos(wrong[known, 0]) > 0.766  # 40 degrees
    assert right.double().mean() > 0.9


def test_without_density_side_chains_keep_out_of_each_other(maps):
    found = built(maps, lambda points: torch.zeros(points.shape[:-1], dtype=points.dtype))
    distance = torch.cdist(found.coordinates_angstrom, found.coordinates_angstrom)
    apart = (found.residue[:, None] - found.residue).abs() > 1
    assert int((distance[apart] < 2.2).sum()) // 2 <= 4
