"""Candidates become a named model, whether sequences are given or not."""

import pytest
import torch

from kernels.models.detections import ProteinDetections
from kernels.models.residues import AMINO_ACID_LETTERS
from tasks.building.chains import chains_of
from tests.truth.peptides import helix

SEQUENCE = "GAVLIKDEFWYSTNQRHMCGAEKLFSWTRDMHEVQNKAGLIKYCDAELRK"


def detected(model, sharpness: float = 3.0) -> ProteinDetections:
    """Every residue as a candidate, types told rather well."""
    backbone = model.positions("N", "CA", "C", "O").float()
    alpha = backbone[:, 1]
    step = torch.zeros_like(alpha)
    step[:-1] = alpha[1:] - alpha[:-1]
    step[-1] = step[-2]
    n = len(alpha)
    logits = torch.randn(n, 20, generator=torch.Generator().manual_seed(0))
    logits[torch.arange(n), model.amino_acid] += sharpness
    return ProteinDetections(
        alpha.double(),
        torch.full((n,), 0.9),
        backbone[:, [0, 2, 3]] - alpha[:, None],
        step,
        -torch.cat([step[:1], step[:-1]]),
        logits.softmax(-1),
        torch.tensor([[0.9, 0.05, 0.05]]).repeat(n, 1),
    )


def density_at(places):
    """Strong along the chain, and a little uneven."""
    return 1 + 0.2 * torch.sin(places.sum(-1))


@pytest.fixture(scope="module")
def model():
    return helix(SEQUENCE)


def test_a_sequence_names_and_numbers_the_residues(model):
    found = chains_of(detected(model), density_at, [SEQUENCE])
    assert [AMINO_ACID_LETTERS[i] for i in found.model.amino_acid.tolist()] == list(SEQUENCE)
    assert [r.number for r in found.model.residues] == list(range(1, len(SEQUENCE) + 1))
    assert {r.chain for r in found.model.residues} == {"A"}
    assert (found.register_probability > 0.9).all()
    error = (found.model.positions("N", "CA", "C", "O") - model.positions("N", "CA", "C", "O")).norm(dim=-1)
    assert float(error.nanmean()) < 0.5


def test_without_a_sequence_residues_get_their_likeliest_type(model):
    candidates = detected(model, sharpness=9.0)
    found = chains_of(candidates, density_at)
    assert [AMINO_ACID_LETTERS[i] for i in found.model.amino_acid.tolist()] == list(SEQUENCE)
    assert (found.register_probability == 0).all()
    assert found.n_traces == 1


def test_no_candidates_make_no_chain(model):
    none = detected(model).surest(0.99)
    assert len(none) == 0
    assert chains_of(none, density_at, []).model.n_residues == 0


def test_letters_that_are_none_are_refused(model):
    with pytest.raises(ValueError, match="'1'"):
        chains_of(detected(model), density_at, ["GAV1"])
