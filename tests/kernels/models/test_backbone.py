"""Peptides turned the right way about a trace, in a map made with another model of atoms than any used here."""

import pytest
import torch

from kernels.models.backbone import backbone_on_trace, regular_trace
from kernels.models.real_space import density_target
from kernels.models.residues import PROTEIN_BACKBONE
from tests.truth.cage_model import cage_subunit, trace_of
from tests.truth.model_maps import simulated_maps


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(80), 3.5, padding_angstrom=8)


def oxygen_errors(built, model):
    return (built[:, 3] - model.positions("O")[:, 0]).norm(dim=-1)


def test_peptides_find_their_turn_on_the_true_trace(maps):
    model = maps.model
    alpha, linked = model.positions("CA")[:, 0], model.is_linked()
    target = density_target(maps.sharpened, alpha, 40.0)
    built = backbone_on_trace(alpha, linked, model.amino_acid, target)
    error = (built - model.positions(*PROTEIN_BACKBONE)).norm(dim=-1)
    assert error[:-1, :3].square().mean().sqrt() < 0.3
    assert oxygen_errors(built, model)[:-1].max() < 1.5
    assert torch.isfinite(built).all()


def test_expected_atoms_decide_where_density_does_not(maps):
    model = maps.model
    alpha, linked = model.positions("CA")[:, 0], model.is_linked()
    expected = model.positions("N", "C", "O")
    built = backbone_on_trace(alpha, linked, model.amino_acid, lambda points: torch.zeros(points.shape[:-1]), expected)
    assert oxygen_errors(built, model)[:-1].max() < 1.0


def test_a_trace_with_errors_becomes_regular_and_better(maps):
    model = maps.model
    rough, linked = trace_of(model, 0.7).positions("CA")[:, 0], model.is_linked()
    target = density_target(maps.sharpened, rough, 60.0)
    smooth = regular_trace(rough, linked, model.amino_acid, target)
    lengths = (smooth[1:] - smooth[:-1]).norm(dim=-1)
    assert (lengths - 3.8).abs().max() < 0.3
    before, after = ((place - model.positions("CA")[:, 0]).square().sum(-1).mean().sqrt() for place in (rough, smooth))
    assert after < 0.75 * before


def test_breaks_and_single_residues_get_all_their_atoms(maps):
    model = maps.model
    alpha, linked = model.positions("CA")[:, 0][:12], torch.ones(12, dtype=torch.bool)
    linked[[4, 5, 11]] = False
    built = backbone_on_trace(alpha, linked, model.amino_acid[:12], density_target(maps.sharpened, alpha))
    assert torch.isfinite(built).all()
    bonds = torch.stack([(built[:, a] - built[:, b]).norm(dim=-1) for a, b in ((0, 1), (1, 2), (2, 3))])
    assert ((bonds > 1.1) & (bonds < 1.7)).all()


def test_a_cis_peptide_is_built_where_the_trace_is_short():
    alpha = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.95]], dtype=torch.float64)
    flat = lambda points: torch.zeros(points.shape[:-1])  # noqa: E731
    built = backbone_on_trace(alpha, torch.tensor([True, False]), torch.tensor([0, 14]), flat)
    oxygen, carbon, nitrogen, after = built[0, 3], built[0, 2], built[1, 0], built[1, 1]
    assert (carbon - nitrogen).norm() == pytest.approx(1.329, abs=0.02)
    assert (oxygen - after).norm() > 3.3  # trans to each other, so the two Cα are cis; 2.8 Å in a trans peptide
