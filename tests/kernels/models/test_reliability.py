"""What speaks against a residue lowers its probability, and regions are judged as their residues are."""

import math
from dataclasses import replace

import pytest
import torch

from kernels.models.assessment import Assessment, assess
from kernels.models.reliability import FEATURES, features, logits, probabilities, verdicts
from kernels.models.reliability_coefficients import COEFFICIENTS
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.validation.simulated_map import simulate_map
from tests.truth.ideal_proteins import ideal_protein


@pytest.fixture(scope="module")
def found() -> Assessment:
    model = ideal_protein("SAFSLKWTEYAVMRDGFLSTIQNEWAKLED")
    grid = simulate_map(model, 3.2, torch.Generator().manual_seed(2))
    return assess(model, grid, torch.full((30,), 3.2), ramachandran_tables())


def test_every_feature_is_a_number_and_has_its_coefficients(found):
    told = features(found)
    assert told.shape == (30, len(FEATURES))
    assert told.isfinite().all()
    assert [len(row) for row in COEFFICIENTS[:3]] == [len(FEATURES)] * 3


@pytest.mark.parametrize(
    ("name", "worse"),
    [("register_shift", 60.0), ("correlation", -0.8), ("n_clashes", 12.0), ("side_chain_fit", -6.0)],
)
def test_what_speaks_against_a_residue_lowers_its_probability(found, name, worse):
    before = probabilities(found)
    values = getattr(found, name).clone()
    values[12] += worse
    after = probabilities(replace(found, **{name: values}))
    assert before.min() >= 0 and before.max() <= 1
    assert after[12] < before[12]
    assert after[25] == pytest.approx(float(before[25]), abs=0.02)  # by the median of the correlations at most


def test_what_is_no_protein_has_no_probability_and_no_verdict(found):
    fit = found.side_chain_fit.clone()
    fit[4] = torch.nan
    probability = probabilities(replace(found, side_chain_fit=fit))
    assert probability.isnan().nonzero().tolist() == [[4]]
    assert verdicts(probability, found.q_score, found.q_expected)[4] == -1


def test_what_is_not_known_counts_as_even_and_nothing_is_certain():
    found = logits(torch.tensor([0.5, torch.nan, 1.0, 0.0, 0.9]))
    assert found.tolist() == pytest.approx([0, 0, math.log(999), -math.log(999), math.log(9)], abs=1e-6)


def test_regions_without_density_are_not_supported_and_others_rebuilt():
    probability = torch.tensor([0.95] * 8 + [0.1] * 8 + [0.95] * 8 + [0.1] * 8, dtype=torch.float64)
    q_score = torch.tensor([0.5] * 8 + [0.45] * 8 + [0.5] * 8 + [0.02] * 8, dtype=torch.float64)
    found = verdicts(probability, q_score, torch.full((32,), 0.5, dtype=torch.float64))
    assert found[[3, 4, 19, 20]].tolist() == [0] * 4
    assert found[10:14].tolist() == [1] * 4
    assert found[27:].tolist() == [2] * 5
    one_bad = torch.full((9,), 0.97, dtype=torch.float64)
    one_bad[4] = 0.05  # one residue does not condemn its neighbours, but it is not trusted itself
    half = torch.full((9,), 0.5, dtype=torch.float64)
    assert verdicts(one_bad, half, half).tolist()[4] == 1
    assert verdicts(one_bad, half, half).tolist()[0] == 0
