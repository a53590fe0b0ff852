"""A stretch of chain is found again in its density, wherever it was put."""

import torch

from kernels.models.neighbours import pairs_within
from kernels.models.retracing import Candidates, Ends, retraced
from tests.truth.cage_model import cage_subunit

FIRST, END = 12, 21


def tube(alpha):
    """Density that follows a chain and nothing else: 1 on the line from Cα to Cα, falling over 1.5 Å."""
    share = torch.linspace(0, 1, 8, dtype=torch.float64)[:-1, None, None]
    line = torch.lerp(alpha[:-1], alpha[1:], share).reshape(-1, 3)

    def density(points):
        flat = points.reshape(-1, 3)
        nearest = torch.full((len(flat),), 5.0, dtype=torch.float64)
        i, _, distance = pairs_within(flat, line, 5.0)
        nearest = nearest.scatter_reduce(0, i, distance, "amin")
        return torch.exp(-0.5 * (nearest / 1.5) ** 2).reshape(points.shape[:-1])

    return density


def case():
    alpha = cage_subunit(40).positions("CA")[:, 0]
    ends = Ends(alpha[FIRST - 2 : FIRST], alpha[END : END + 2])
    others = torch.cat([alpha[: FIRST - 1], alpha[END + 1 :]])
    shifted = alpha[FIRST:END] + torch.tensor([0.0, 2.0, 1.5], dtype=torch.float64)
    return alpha, ends, others, shifted


def test_a_shifted_stretch_comes_back_into_its_density():
    alpha, ends, others, shifted = case()
    found = retraced(shifted, ends, others, tube(alpha))
    assert found is not None
    assert (shifted - alpha[FIRST:END]).norm(dim=-1).min() > 2
    assert (found - alpha[FIRST:END]).norm(dim=-1).max() < 1.7  # a lattice of 1 Å along a line that is everywhere alike
    steps = torch.cat([ends.before[1:], found, ends.after[:1]]).diff(dim=0).norm(dim=-1)
    assert ((steps - 3.8).abs() < 0.75).all()


def test_candidates_tell_where_along_the_line_a_residue_stands():
    alpha, ends, others, shifted = case()
    seen = Candidates(alpha, torch.full((len(alpha),), 0.9))
    found = retraced(shifted, ends, others, tube(alpha), seen)
    assert found is not None
    assert (found - alpha[FIRST:END]).norm(dim=-1).max() < 0.8


def test_no_path_is_no_path():
    alpha, ends, others, shifted = case()
    assert retraced(shifted, ends, others, lambda points: torch.zeros(points.shape[:-1])) is None
    assert retraced(shifted[:2], ends, others, tube(alpha)) is None  # two residues do not reach over nine
