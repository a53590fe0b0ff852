"""What cells are to answer is what stands in them."""

from dataclasses import fields

import pytest
import torch

from kernels.networks.detection_targets import NEAR_ANGSTROM, CellTargets, losses, targets_of
from kernels.networks.residue_detector import CellPredictions, cell_centres
from kernels.specimen.map_simulation import Draw, simulate_patch
from kernels.specimen.molecule import molecule_of
from tests.truth.peptides import helix


@pytest.fixture(scope="module")
def patch():
    return simulate_patch(molecule_of(helix("GAVLIKDEFWYSTNQRHMCG" * 2)), 40, Draw(torch.Generator().manual_seed(3)))


def test_a_cell_answers_for_the_nearest_alpha_carbon(patch):
    target = targets_of(patch)
    centres = cell_centres((40, 40, 40))
    alpha = patch.molecule.backbone_angstrom[:, 1]
    distance, nearest = torch.cdist(centres.reshape(-1, 3), alpha).min(1)
    expected = (distance < NEAR_ANGSTROM).reshape(20, 20, 20)
    assert expected.sum() > 50
    assert torch.equal(target.has_alpha, expected)
    found = (centres + target.backbone[..., 3:6])[expected]
    torch.testing.assert_close(found, alpha[nearest.reshape(20, 20, 20)[expected]], atol=1e-4, rtol=0)
    amino_acid = patch.molecule.amino_acid[nearest].reshape(20, 20, 20)
    assert torch.equal(target.amino_acid[expected], amino_acid[expected])
    assert (target.amino_acid[~expected] == -1).all()


def test_the_chain_leads_on_to_the_next_residue(patch):
    target = targets_of(patch)
    centres = cell_centres((40, 40, 40))[target.has_alpha]
    here = centres + target.backbone[target.has_alpha][:, 3:6]
    step = centres + target.neighbours[target.has_alpha][:, :3] - here
    step = step[~step.isnan().any(-1)]
    assert len(step) > 50
    torch.testing.assert_close(step.norm(dim=-1), torch.full((len(step),), 3.8), atol=0.15, rtol=0)


def test_perfect_answers_cost_nothing(patch):
    target = CellTargets(*(getattr(targets_of(patch), f.name)[None] for f in fields(CellTargets)))
    sure = 20.0

    def one_hot(index, n):
        return sure * torch.nn.functional.one_hot(index.clamp(min=0), n)

    perfect = CellPredictions(
        sure * (2.0 * target.has_alpha[..., None] - 1),
        target.backbone.nan_to_num(),
        target.neighbours.nan_to_num(),
        one_hot(target.amino_acid, 20),
        one_hot(target.secondary_structure, 3),
        sure * (2.0 * target.has_sugar[..., None] - 1),
        target.nucleotide.nan_to_num(),
        target.nucleotide_neighbours.nan_to_num(),
        one_hot(target.base, 4),
        sure * (2.0 * target.content - 1),
    )
    assert all(float(part) < 1e-5 for part in losses(perfect, target).values())
    moved = CellPredictions(**{**perfect.__dict__, "backbone": perfect.backbone + 0.5})
    assert float(losses(moved, target)["backbone"]) == pytest.approx(0.35)  # 0.5 less half of where it is squared


def test_what_a_mask_took_away_is_not_asked(patch):
    hidden = type(patch)(patch.density, patch.molecule, torch.zeros_like(patch.is_visible), patch.resolution_angstrom)
    target = targets_of(hidden)
    assert not target.has_alpha.any()
    alpha = patch.molecule.backbone_angstrom[:, 1]
    near = torch.cdist(cell_centres((40, 40, 40)).reshape(-1, 3), alpha).amin(1).reshape(20, 20, 20) < 6
    assert near.any() and not (target.is_judged & near).any()
