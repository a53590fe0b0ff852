"""lDDT by hand, and sides as probabilities tell them."""

import pytest
import torch

from kernels.models.disagreement import (
    AGREE,
    MAP,
    NOT_BUILT,
    NOT_SEEN,
    PREDICTION,
    Compared,
    local_distance_agreement,
    probability_wrong,
    sides,
)
from kernels.rotations import from_rotation_vector
from tests.truth.cage_model import cage_subunit

NAN = float("nan")


def line(*x: float) -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, v] for v in x], dtype=torch.float64)


def test_shares_of_kept_distances_are_counted():
    """Three residues in a row, the last one 1.5 Å off: its two distances are kept within 2 and 4 Å only."""
    found = local_distance_agreement(line(0, 3.8, 9.1), line(0, 3.8, 7.6))
    assert found.tolist() == pytest.approx([(1 + 0.5) / 2, (1 + 0.5) / 2, 0.5])


def test_only_near_neighbours_count_and_what_is_not_there_has_none():
    reference = line(0, 3.8, 40.0)
    reference[2] = NAN
    found = local_distance_agreement(line(0, 3.8, 0.0), reference)
    assert found[:2].tolist() == [1, 1] and found[2].isnan()


def test_a_domain_that_moves_as_a_whole_stays_in_agreement():
    place = cage_subunit(80).positions("CA")[:, 0]
    turn = from_rotation_vector(torch.tensor([0.3, 1.0, 0.2], dtype=torch.float64))
    assert torch.allclose(local_distance_agreement(place @ turn.T + 50, place), torch.ones(80, dtype=torch.float64))


def test_sides_follow_the_map():
    n = 40
    lddt, built = torch.full((n,), 0.95), torch.full((n,), 0.95)
    predicted, plddt = torch.full((n,), 0.95), torch.full((n,), 90.0)
    wrong, better, gap, unseen = slice(5, 10), slice(15, 20), slice(25, 30), slice(33, 38)
    lddt[wrong], predicted[wrong], plddt[wrong] = 0.3, 0.03, 60.0
    lddt[better], built[better] = 0.6, 0.05
    lddt[gap], built[gap] = NAN, NAN
    lddt[unseen], built[unseen], predicted[unseen] = NAN, NAN, 0.05
    found = Compared(lddt, built, predicted, plddt)
    side = sides(found)
    assert (side[wrong] == MAP).all()
    assert (side[better] == PREDICTION).all()
    assert (side[gap] == NOT_BUILT).all() and (side[unseen] == NOT_SEEN).all()
    assert (side[:4] == AGREE).all() and (side[11:14] == AGREE).all()
    chance = probability_wrong(found)
    assert chance[wrong].min() > 0.65 and chance[:4].max() < 0.1
