"""Stretches of structure along chains, and the axes of helices and strands."""

import torch

from kernels.models.internal_coordinates import backbone_coordinates
from kernels.models.secondary_structure import COIL, HELIX, STRAND
from kernels.models.structure_elements import FOLLOWS, SHARE, chain_posterior, stretches, structure_elements


def said(states: list[int], sure: float = 0.8) -> torch.Tensor:
    probability = torch.full((len(states), 3), (1 - sure) / 2)
    probability[torch.arange(len(states)), torch.tensor(states)] = sure
    return probability


def linked(n: int, *breaks: int) -> torch.Tensor:
    """(n,) with no link after the last residue and after those given."""
    found = torch.ones(n, dtype=torch.bool)
    found[[*breaks, n - 1]] = False
    return found


def test_the_posterior_is_that_of_all_sequences_of_states_counted_out():
    """Against the sum over all 3^5 sequences, with a break after the second residue."""
    probability = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    probability = probability / probability.sum(-1, keepdim=True)
    share, follows = torch.tensor(SHARE, dtype=torch.float64), torch.tensor(FOLLOWS, dtype=torch.float64)
    weight = torch.cartesian_prod(*[torch.arange(3)] * 5)
    total = torch.ones(len(weight), dtype=torch.float64)
    for i in range(5):
        total *= probability[i][weight[:, i]] / share[weight[:, i]]
        total *= share[weight[:, i]] if i in (0, 2) else follows[weight[:, i - 1], weight[:, i]]
    expected = torch.stack([total[weight[:, 2] == state].sum() for state in range(3)])
    found = chain_posterior(probability, linked(5, 1))
    torch.testing.assert_close(found[2], expected / expected.sum())
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))


def test_a_residue_that_is_told_wrong_follows_its_neighbours():
    states = [HELIX] * 6 + [STRAND] + [HELIX] * 6
    assert chain_posterior(said(states), linked(13)).argmax(-1).tolist() == [HELIX] * 13
    apart = chain_posterior(said(states), torch.zeros(13, dtype=torch.bool)).argmax(-1).tolist()
    assert apart == states
    assert chain_posterior(torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool)).shape == (0, 3)


def test_long_chains_do_not_underflow():
    found = chain_posterior(said([HELIX] * 3000), linked(3000))
    assert found.isfinite().all() and (found[:, HELIX] > 0.98).all()


def test_stretches_end_at_breaks_and_short_ones_are_none():
    states = torch.tensor([HELIX] * 6 + [COIL] + [STRAND] * 2 + [COIL] + [HELIX] * 9)
    assert stretches(states, linked(19)) == [(HELIX, 0, 5), (HELIX, 10, 18)]
    assert stretches(states, linked(19, 12)) == [(HELIX, 0, 5), (HELIX, 13, 18)]


def test_a_helix_has_the_axis_and_the_length_of_a_helix():
    torsions = torch.tensor([-63.0, -42.0], dtype=torch.float64).deg2rad().expand(21, 2)
    alpha = backbone_coordinates(torsions)[:, 1].flip(-1)
    (helix,) = structure_elements(alpha, said([HELIX] * 21, 0.9), linked(21))
    assert (helix.kind, helix.first, helix.n_residues) == (HELIX, 0, 21)
    assert abs(helix.length_angstrom - 30) < 1.0
    direction = (helix.end_angstrom - helix.start_angstrom) / helix.length_angstrom
    lateral = alpha - helix.start_angstrom
    lateral = (lateral - (lateral @ direction)[:, None] * direction).norm(dim=-1)
    assert ((lateral - 2.3).abs() < 0.35).all()
    assert (alpha[-1] - alpha[0]) @ direction > 0


def test_two_helices_with_a_tight_turn_between_them_are_two():
    """The turn is told as helix as well, as where a map is coarse."""
    torsions = torch.tensor([-63.0, -42.0], dtype=torch.float64).deg2rad().repeat(45, 1)
    torsions[20:24] = torch.tensor([[-95.0, 5], [60, 40], [-75, 130], [-60, -35]], dtype=torch.float64).deg2rad()
    alpha = backbone_coordinates(torsions)[:, 1].flip(-1)
    elements = structure_elements(alpha, said([HELIX] * 45, 0.9), linked(45))
    assert len(elements) == 2
    assert all(abs(element.n_residues - 22) <= 4 for element in elements)
