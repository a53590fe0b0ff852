"""Nucleotides of ideal geometry: bonds, chirality, frames, restraints and base pairs."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels.models.atomic_model import joined
from kernels.models.base_pairs import BasePairs, base_pairs, paired_types
from kernels.models.nucleotide_building import model_frames
from kernels.models.nucleotide_restraints import nucleotide_restraints, polymer_restraints
from kernels.models.nucleotides import A_FORM, B_FORM, Conformation, atom_names, chi_rad, nucleotide_coordinates
from kernels.models.residues import BASES
from tests.truth.cage_model import cage_subunit
from tests.truth.ideal_nucleic_acids import duplex


@pytest.mark.parametrize("base", range(4))
@pytest.mark.parametrize(("is_dna", "shape"), [(False, A_FORM), (True, B_FORM)])
def test_a_nucleotide_has_the_bonds_of_one_and_nothing_too_near(base, is_dna, shape):
    names = atom_names(base, is_dna)
    place = nucleotide_coordinates(base, is_dna, shape)
    distance = torch.cdist(place, place)
    is_bond = torch.triu((distance < 1.95) & (distance > 0), 1)
    n_rings = 3 if BASES[base] in "AG" else 2
    assert int(is_bond.sum()) == len(names) - 1 + n_rings + 1  # and the phosphate behind
    assert distance[~torch.eye(len(place), dtype=torch.bool)].min() > 1.2
    at = dict(zip(names, place))
    assert abs((at["C2'"] - at["C3'"]).norm() - 1.525) < 0.03  # the ring closes
    assert_close(torch.rad2deg(chi_rad(base, is_dna, place)), torch.tensor(shape.chi, dtype=torch.float64))
    # D-ribose: the base and C5' on the same side of the ring
    up = torch.linalg.cross(at["O4'"] - at["C1'"], at["C4'"] - at["O4'"])
    nitrogen = at["N9"] if "N9" in at else at["N1"]
    assert torch.sign(torch.dot(up, nitrogen - at["C1'"])) == torch.sign(torch.dot(up, at["C5'"] - at["C4'"]))


@pytest.mark.parametrize("is_dna", [False, True])
def test_a_double_helix_is_closed_and_its_frames_coincide_in_pairs(is_dna):
    model = duplex("GACUUCGA", is_dna)
    assert int(model.is_linked().sum()) == 14
    pairs = base_pairs(model)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist())) == [(i, 15 - i) for i in range(8)]
    origin, axes = model_frames(model)
    assert ((origin[pairs.first] - origin[pairs.second]).norm(dim=-1) < 0.1).all()
    assert_close(axes.det(), torch.ones(16, dtype=torch.float64))


def test_bases_side_by_side_or_of_one_strand_are_no_pairs():
    model = duplex("GACUUCGA")
    one = model.take_residues(torch.tensor([r.chain == "A" for r in model.residues]))
    assert len(base_pairs(one)) == 0
    is_second = torch.tensor([r.chain == "B" for r in model.residues])[model.residue]
    apart = model.at(model.coordinates_angstrom + 20.0 * is_second[:, None])
    assert len(base_pairs(apart)) == 0


def test_a_sure_base_tells_its_partner():
    types = torch.full((4, 4), 0.25, dtype=torch.float64)
    types[0] = torch.tensor([0.01, 0.01, 0.97, 0.01])
    told = paired_types(types, BasePairs(torch.tensor([0]), torch.tensor([2])))
    assert told[2].argmax() == BASES.index("C") and told[2].max() > 0.8
    assert_close(told[[1, 3]], types[[1, 3]])
    assert_close(told.sum(1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("is_dna", [False, True])
def test_an_ideal_helix_is_what_restraints_expect(is_dna):
    model = duplex("GACUUCGA", is_dna)
    found = nucleotide_restraints(model)
    first, second = model.coordinates_angstrom[found.pairs].unbind(1)
    error = ((first - second).norm(dim=-1) - found.pair_angstrom) / found.pair_sigma
    # sugars of DNA are C2'-endo, whose angles differ a little
    assert error.square().mean().sqrt() < (0.9 if is_dna else 0.6)
    centre, a, b, c = model.coordinates_angstrom[found.corners].unbind(1)
    volume = ((a - centre) * torch.linalg.cross(b - centre, c - centre)).sum(-1)
    assert (volume - found.corner_volume).abs().max() < 0.5
    mirrored = -volume
    chiral = found.corner_volume.abs() > 1
    assert ((mirrored - found.corner_volume)[chiral].abs() > 3).all()


def test_protein_and_nucleic_acid_are_restrained_together():
    protein, nucleic = cage_subunit(10), duplex("GAC")
    both = polymer_restraints(joined([protein, nucleic]))
    parts = [polymer_restraints(m) for m in (protein, nucleic)]
    assert len(both.pairs) == sum(len(p.pairs) for p in parts)
    assert int(both.pairs.max()) == len(protein) + int(parts[1].pairs.max())


def test_shapes_differ_where_torsions_do():
    syn = nucleotide_coordinates(0, False, Conformation(chi=60.0))
    assert math.isclose(math.degrees(float(chi_rad(0, False, syn))), 60.0, abs_tol=1e-6)
