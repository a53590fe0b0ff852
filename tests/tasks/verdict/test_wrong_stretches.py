"""Stretches that are put elsewhere are those that are told, and the engine is less sure of them."""

import torch

from kernels.models.disagreement import local_distance_agreement
from kernels.models.predicted_structure import PredictedStructure
from tasks.verdict.wrong_stretches import with_wrong_stretches
from tests.truth.cage_model import cage_subunit


def test_planted_residues_are_wrong_and_others_are_not():
    truth = cage_subunit(120)
    known = truth.positions("CA")[:, 0]
    for seed in range(4):
        given = PredictedStructure(truth, torch.full((120,), 90.0), None)
        made = with_wrong_stretches(given, 0.2, torch.Generator().manual_seed(seed))
        place = made.prediction.model.positions("CA")[:, 0]
        moved = (place - known).norm(dim=1) > 1e-6
        assert 0.15 < float(made.is_planted.double().mean()) < 0.35
        assert not (moved & ~made.is_planted).any()
        assert float((place - known).norm(dim=1)[made.is_planted].median()) > 2
        lddt = local_distance_agreement(place, known)
        assert lddt[made.is_planted].mean() < lddt[~made.is_planted].mean() - 0.2
        assert made.prediction.plddt[made.is_planted].mean() < 85
        assert (made.prediction.plddt[~made.is_planted] == 90).all()
