"""A molecule turns about its free bonds and stays itself."""

import torch

from kernels.models.ligand_template import turning_parts
from tests.truth.solvated import PHENYLALANINOL, template_of_smiles


def test_turning_keeps_bonds_and_angles():
    template = template_of_smiles(PHENYLALANINOL)
    generator = torch.Generator().manual_seed(1)
    start = template.conformers_angstrom[:4]
    start = start - start.mean(1, keepdim=True)
    turns = [torch.randn(4, n, generator=generator, dtype=torch.float64) for n in (3, len(template.axes), 3)]
    place = template.placed(start, *turns)
    assert torch.allclose(place.mean(1), turns[2])
    a, b = template.bonds.T
    assert torch.allclose((place[:, a] - place[:, b]).norm(dim=-1), (start[:, a] - start[:, b]).norm(dim=-1))
    near = ~template.is_apart
    bound = template.bonds
    angle_pairs = [(i, j) for i in range(len(template)) for j in range(i) if near[i, j] and _shares(bound, i, j)]
    i, j = torch.tensor(angle_pairs).T
    assert torch.allclose((place[:, i] - place[:, j]).norm(dim=-1), (start[:, i] - start[:, j]).norm(dim=-1))
    assert not torch.allclose(torch.cdist(place, place), torch.cdist(start, start), atol=0.1)


def _shares(bonds, i, j):
    partners = [set(bonds[(bonds == k).any(1)].flatten().tolist()) - {k} for k in (i, j)]
    return bool(partners[0] & partners[1])


def test_nothing_turned_is_the_conformer():
    template = template_of_smiles(PHENYLALANINOL)
    start = template.conformers_angstrom[:2] - template.conformers_angstrom[:2].mean(1, keepdim=True)
    zero = [torch.zeros(2, n, dtype=torch.float64) for n in (3, len(template.axes), 3)]
    assert torch.allclose(template.placed(start, *zero), start)


def test_what_hangs_on_the_far_end_of_an_axis_turns():
    chain = torch.tensor([[0, 1], [1, 2], [2, 3], [2, 4]])
    assert turning_parts(5, chain, torch.tensor([[1, 2]])).tolist() == [[False, False, False, True, True]]
