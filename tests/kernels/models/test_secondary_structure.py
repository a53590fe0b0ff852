"""Hydrogen bonds tell helices and strands."""

import torch

from kernels.models.secondary_structure import COIL, HELIX, STRAND, secondary_structure
from tests.truth.peptides import STRAND_DEG, helix, peptide


def told(model):
    return secondary_structure(model.positions("N", "CA", "C", "O"), model.is_linked())


def test_a_helix_is_one_but_for_its_ends():
    found = told(helix("A" * 20))
    assert (found[1:-1] == HELIX).all()
    assert found[[0, -1]].tolist() == [COIL, COIL]


def test_a_strand_alone_is_none():
    assert (told(peptide("A" * 12, torch.tensor([STRAND_DEG] * 12))) == COIL).all()


def test_atoms_that_are_not_there_bond_nothing():
    model = helix("A" * 20)
    found = told(model.take(torch.tensor([name != "O" for name in model.names])))
    assert (found == COIL).all()


def test_a_sheet_of_a_real_protein_is_found(real_data):
    """The jelly roll of VP6, by the strands that its authors' model has: at least 60 of 177 residues."""
    from tasks.formats.structure import read_structure

    model = read_structure(real_data / "maps" / "EMD-6272_VP6_2.6A" / "6272.pdb")
    found = told(model)
    assert 60 <= int((found == STRAND).sum()) <= 100
    assert int((found == HELIX).sum()) < 20
