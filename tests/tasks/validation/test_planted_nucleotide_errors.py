"""Planted errors of nucleic acids are where they are said to be, and nowhere else."""

import pytest
import torch

from kernels.models.nucleotide_building import model_frames
from kernels.models.nucleotides import atom_names
from tasks.validation.planted_errors import UNCLEAR
from tasks.validation.planted_nucleotide_errors import NUCLEOTIDE_KINDS, plant_nucleotide_errors, whole_nucleotides
from tests.truth.ideal_nucleic_acids import duplex

SEQUENCE = "GGACUCAGUUACGAUUCCGACGGAUCAACGUUAGCUAGGCAUUCGA"


@pytest.fixture(scope="module", params=[False, True])
def planted(request):
    truth = duplex(SEQUENCE, request.param)
    return truth, plant_nucleotide_errors(truth, 0.35, torch.Generator().manual_seed(4))


def test_every_kind_of_error_is_planted_and_most_nucleotides_are_right(planted):
    truth, found = planted
    counts = torch.bincount(found.error[found.error != UNCLEAR], minlength=len(NUCLEOTIDE_KINDS))
    assert (counts > 0).all()
    assert 0.3 < float((found.error != 0).double().mean()) < 0.55
    assert found.model.n_residues == truth.n_residues


def test_what_is_right_stands_where_it_did_and_what_is_wrong_does_not(planted):
    truth, found = planted
    model, right = found.model, found.error == 0
    moved = (model.positions("C4'") - truth.positions("C4'"))[:, 0].norm(dim=-1)
    assert moved[right].max() < 1.6
    assert moved[found.error == 3].min() > 0.9
    assert (model.base == truth.base)[right].all()
    assert not (model.base == truth.base)[found.error == 1].any()
    turned = (model_frames(model)[1] * model_frames(truth)[1])[:, 2].sum(-1)
    assert turned[found.error == 2].max() < -0.7
    assert turned[(found.error == 1) | right].min() > 0.7


def test_planted_nucleotides_have_their_atoms_and_the_bonds_of_their_bases(planted):
    _, found = planted
    whole = whole_nucleotides(found.model)
    assert len(whole) == len(found.model)
    for name in ("A", "DT"):
        base = "ACGU".index(name[-1].replace("T", "U"))
        rows = torch.tensor([i for i, r in enumerate(whole.residues) if r.name == name], dtype=torch.int64)
        if not len(rows):
            continue
        assert (whole.atom(*atom_names(base, name[0] == "D"))[rows] >= 0).all()
        nitrogen = "N9" if name == "A" else "N1"
        bond = (whole.positions("C1'") - whole.positions(nitrogen))[rows].norm(dim=-1)
        assert (bond - 1.47).abs().max() < 0.6  # jitter of 0.08 Å an atom and axis
