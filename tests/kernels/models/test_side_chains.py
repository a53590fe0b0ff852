"""Rotamers found again in a map of known side chains."""

import pytest
import torch

from kernels.models.atomic_model import joined
from kernels.models.clashes import find_clashes
from kernels.models.mates import copies
from kernels.models.real_space import density_target
from kernels.models.residues import PROTEIN_BACKBONE
from kernels.models.side_chains import _LONGEST_ARM_ANGSTROM, _Crowd, _kept_rotamers, _reaches, with_side_chains
from kernels.models.torsions import backbone_torsions, conformation, side_chain_torsions
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.symmetric_maps import about_axis


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


@pytest.mark.parametrize(("symmetry", "away"), [("C2", 4.5), ("C3", 5.0)])
def test_a_unit_is_packed_among_its_copies_as_the_whole_is(symmetry, away):
    unit, mates = about_axis(symmetry, 30, away)

    def packed(model, mates=None):
        backbone = model.positions(*PROTEIN_BACKBONE)
        turned = conformation(backbone_torsions(unit)).repeat(model.n_residues // unit.n_residues)
        return with_side_chains(
            backbone, model.residues, model.amino_acid, turned, lambda p: p.new_zeros(p.shape[:-1]), mates=mates
        )

    among, whole = packed(unit, mates), packed(joined(copies(unit, mates)))
    apart = (among.coordinates_angstrom - whole.coordinates_angstrom[: len(among)]).norm(dim=-1)
    assert len(among.residue[apart > 1e-3].unique()) <= 1  # a rotamer as good as another may be chosen otherwise
    alone = packed(unit)
    assert (alone.coordinates_angstrom - among.coordinates_angstrom).norm(dim=-1).max() > 0.5
    assert len(find_clashes(among, mates).atom) < len(find_clashes(alone, mates).atom)


def test_a_residue_reaches_no_further_than_its_rotamers_wherever_it_stands(maps):
    """Fewer than ten are padded; where that stood counted as places, every residue met every copy of a cage."""
    backbone = maps.model.positions(*PROTEIN_BACKBONE) + 300.0
    turned = conformation(backbone_torsions(maps.model))
    flat = lambda points: torch.zeros(points.shape[:-1], dtype=points.dtype)  # noqa: E731
    kept = _kept_rotamers(backbone, maps.model.amino_acid, turned, flat, _Crowd(backbone, None, None))
    assert kept.energy.isinf().any()
    _, _, reach = _reaches(kept)
    assert 5 < float(reach.max()) < _LONGEST_ARM_ANGSTROM
