"""Simulated patches show the molecule that they come with."""

import pytest
import torch

from kernels.networks.detection_targets import targets_of
from kernels.specimen.map_simulation import Draw, simulate_patch
from kernels.specimen.molecule import NUCLEIC, OTHER, PROTEIN, molecule_of
from tests.truth.peptides import helix


@pytest.fixture(scope="module")
def molecule():
    return molecule_of(helix("GAVLIKDEFWYSTNQRHMCG" * 2))


def patch_of(molecule, seed: int):
    return simulate_patch(molecule, 40, Draw(torch.Generator().manual_seed(seed)))


def test_the_same_seed_gives_the_same_patch(molecule):
    first, again, other = patch_of(molecule, 1), patch_of(molecule, 1), patch_of(molecule, 2)
    assert torch.equal(first.density, again.density)
    assert not torch.equal(first.density, other.density)


def test_density_stands_at_the_atoms(molecule):
    """Of 20 patches of any resolution, all but the worst show backbone atoms above three standard deviations."""
    heights = []
    for seed in range(20):
        patch = patch_of(molecule, seed)
        at = patch.molecule.backbone_angstrom[:, :3].reshape(-1, 3).round().long()
        inside = ((at >= 0) & (at < 40)).all(-1) & patch.is_visible.repeat_interleave(3)
        if inside.sum() > 30:
            at = at[inside]
            z_score = (patch.density - patch.density.mean()) / patch.density.std()
            heights.append(float(z_score[at[:, 0], at[:, 1], at[:, 2]].median()))
    assert len(heights) >= 15
    assert sorted(heights)[len(heights) // 5] > 2


def test_a_turned_molecule_keeps_its_shape_and_hand(molecule):
    turned = patch_of(molecule, 5).molecule
    before, after = (m.backbone_angstrom[:, 1] for m in (molecule, turned))
    ratio = torch.pdist(after) / torch.pdist(before)
    assert ratio.std() < 1e-4
    assert 0.98 <= float(ratio.mean()) <= 1.02

    def volume(points):
        return torch.linalg.det(points[1:4] - points[:1])

    torch.testing.assert_close(volume(after) / volume(before), ratio.mean() ** 3, atol=1e-2, rtol=0)


def test_a_molecule_knows_its_residues(molecule):
    assert len(molecule.amino_acid) == 40
    assert (molecule.kind == PROTEIN).all() and not ((molecule.kind == NUCLEIC) | (molecule.kind == OTHER)).any()
    assert molecule.next_residue.tolist() == [*range(1, 40), -1]
    assert molecule.previous_residue.tolist() == [-1, *range(39)]
    assert int(molecule.is_carboxylate.sum()) == 2 * 2 * 2  # two oxygens of two acids in two repeats
    assert int(molecule.reach.max()) == 6  # the tip of tryptophan


def test_some_maps_hold_nothing(molecule):
    patches = [patch_of(molecule, seed) for seed in range(120)]
    empty = [p for p in patches if p.molecule.atom_angstrom.amin() > 1000]
    assert 1 <= len(empty) <= 12
    for patch in empty:
        target = targets_of(patch)
        assert patch.density.std() > 0
        assert target.is_judged.any() and not target.has_alpha.any() and not target.content.any()
