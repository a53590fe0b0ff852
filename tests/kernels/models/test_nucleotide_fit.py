"""What the map says of nucleotides: bases as they are, turned over, and of a shifted sequence."""

from dataclasses import replace

import pytest
import torch

from kernels.models.assessment import assess
from kernels.models.nucleotide_fit import nucleotide_fit
from kernels.models.nucleotide_reliability import (
    NUCLEOTIDE_FEATURES,
    nucleotide_features,
    nucleotide_probabilities,
)
from kernels.models.nucleotide_reliability_coefficients import COEFFICIENTS
from kernels.models.reliability import probabilities
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.validation.planted_nucleotide_errors import plant_nucleotide_errors
from tasks.validation.simulated_map import simulate_map
from tests.truth.ideal_nucleic_acids import duplex
from tests.truth.ideal_proteins import ideal_protein

SEQUENCE = "GGACUCAGUUACGAUUCCGACGGAUCAACGUUAGCUAGGCAUUCGA"


@pytest.fixture(scope="module")
def seen():
    truth = duplex(SEQUENCE)
    grid = simulate_map(truth, 3.0, torch.Generator().manual_seed(2))
    return truth, grid, plant_nucleotide_errors(truth, 0.35, torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def found(seen):
    _, grid, planted = seen
    resolution = torch.full((planted.model.n_residues,), 3.0)
    return assess(planted.model, grid, resolution, ramachandran_tables())


def test_bases_of_the_map_fit_and_others_fit_less(seen):
    truth, grid, planted = seen
    fit = nucleotide_fit(planted.model, grid)
    right, shifted, turned = (planted.error == kind for kind in (0, 1, 2))
    assert fit.base_fit[right].median() > 0.3 > 0.0 > fit.base_fit[shifted].median()
    assert fit.base_shift[shifted].median() > fit.base_shift[right].median() + 3
    assert fit.base_contrast[right].median() > 0.1
    assert fit.base_contrast[turned].max() < fit.base_contrast[right].median()
    pairs = nucleotide_fit(truth, grid).pair_fit
    assert (pairs[1:-1] > 0.5).all()  # of the ideal helix all are Watson-Crick


def test_what_is_no_nucleotide_has_no_fit(seen):
    _, grid, _ = seen
    protein = ideal_protein("SAFSLKWT")
    assert nucleotide_fit(protein, grid).base_fit.isnan().all()


def test_every_feature_is_a_number_and_has_its_coefficients(found):
    told = nucleotide_features(found)
    assert told.shape == (2 * len(SEQUENCE), len(NUCLEOTIDE_FEATURES))
    assert told.isfinite().all()
    assert [len(row) for row in COEFFICIENTS[:3]] == [len(NUCLEOTIDE_FEATURES)] * 3


def test_right_nucleotides_are_more_probable_than_planted_errors(seen, found):
    _, _, planted = seen
    probability = nucleotide_probabilities(found)
    assert probability[planted.error == 0].median() > 0.9
    assert probability[planted.error == 1].median() < 0.5
    assert probability[planted.error == 3].median() < 0.3
    assert probabilities(found).isnan().all()  # that of amino acids


@pytest.mark.parametrize(
    ("name", "worse"),
    [("register_shift", 20.0), ("correlation", -0.6), ("side_chain_fit", -3.0), ("base_contrast", -1.5)],
)
def test_what_speaks_against_a_nucleotide_lowers_its_probability(found, name, worse):
    before = nucleotide_probabilities(found)
    number = int(before.argmax())
    values = getattr(found, name).clone()
    values[number] += worse
    assert nucleotide_probabilities(replace(found, **{name: values}))[number] < before[number]
