"""The cage against the geometry of proteins and of its point group."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels.models.internal_coordinates import SIDE_CHAINS, dihedral_rad
from kernels.rotations import symmetry_group
from kernels.specimen.cage import CHI_ANGLES_DEG, build_chain, cage_atoms, cage_chains


def of(chain, name):
    """(residue, 3) coordinates, (x, y, z), of the atoms with a name that every residue has."""
    index = [i for i, found in enumerate(chain.names) if found == name]
    return chain.coordinates_angstrom[index].flip(-1)


def dihedral_deg(a, b, c, d):
    return torch.rad2deg(dihedral_rad(a, b, c, d))


def test_the_cage_is_unchanged_by_the_24_rotations_of_its_group():
    points = cage_atoms().coordinates_angstrom.double()
    sample = points[:: len(points) // 100]
    for rotation in symmetry_group("O"):
        nearest = torch.cdist(sample @ rotation.T, points).amin(1)
        assert nearest.max() < 1e-3


def test_the_cage_is_a_hollow_shell_about_125_angstrom_across():
    radius = cage_atoms().coordinates_angstrom.norm(dim=-1)
    assert len(cage_chains()) == 24
    assert radius.min() > 30
    assert 58 < radius.quantile(0.95) < 65
    assert cage_atoms().coordinates_angstrom.mean(0).norm() < 1e-3


def test_subunits_do_not_run_into_each_other():
    chains = cage_chains()
    others = torch.cat([chain.coordinates_angstrom for chain in chains[1:]])
    assert torch.cdist(chains[0].coordinates_angstrom, others).min() > 2.6


def test_a_subunit_does_not_run_into_itself():
    chain = cage_chains()[0]
    distance = torch.cdist(chain.coordinates_angstrom, chain.coordinates_angstrom)
    far = (chain.residue[:, None] - chain.residue[None]).abs() >= 2
    assert distance[far].min() > 2.4
    assert (distance[far] < 2.6).sum() / 2 <= 12  # of 1,281 atoms


def test_bonds_and_angles_of_the_backbone_are_ideal():
    chain = cage_chains()[7]
    n, ca, c = of(chain, "N"), of(chain, "CA"), of(chain, "C")
    for start, end, length in ((n, ca, 1.458), (ca, c, 1.525), (c[:-1], n[1:], 1.329)):
        assert_close(
            (end - start).norm(dim=-1), torch.full((len(start),), length, dtype=torch.float64), atol=1e-5, rtol=0
        )
    assert_close(
        dihedral_deg(ca[:-1], c[:-1], n[1:], ca[1:]).abs().min(), torch.tensor(180.0).double(), atol=0.1, rtol=0
    )


def test_torsions_come_out_as_they_went_in():
    torsions = torch.tensor([[-60.0, -45.0], [-120, 130], [55, 40], [-75, 150], [-63, -41]], dtype=torch.float64)
    chain = build_chain("AWKLG", torsions, [0, 1, 2, 1, 0])
    n, ca, c = of(chain, "N"), of(chain, "CA"), of(chain, "C")
    assert_close(dihedral_deg(c[:-1], n[1:], ca[1:], c[1:]), torsions[1:, 0], atol=1e-4, rtol=0)
    assert_close(dihedral_deg(n[:-1], ca[:-1], c[:-1], n[1:]), torsions[:-1, 1], atol=1e-4, rtol=0)


def test_amino_acids_are_left_handed():
    chain = cage_chains()[3]
    with_beta = [i for i, letter in enumerate(chain.sequence) if letter != "G"]
    n, ca, c = (of(chain, name)[with_beta] for name in ("N", "CA", "C"))
    handedness = (torch.linalg.cross(n - ca, c - ca) * (of(chain, "CB") - ca)).sum(-1)
    assert handedness.min() > 2.0  # 2.5 Å³ for an ideal L amino acid


def test_helices_are_right_handed_alpha_helices():
    ca = of(cage_chains()[0], "CA")
    turn = dihedral_deg(ca[:-3], ca[1:-2], ca[2:-1], ca[3:])
    assert ((turn - 50).abs() < 10).sum() > 100  # of 156 residues


@pytest.mark.parametrize("letter", sorted(SIDE_CHAINS))
def test_side_chains_are_bonded_as_chemistry_has_it(letter):
    torsions = torch.tensor([[-63.0, -42.0]] * 3, dtype=torch.float64)
    for rotamer in range(len(CHI_ANGLES_DEG[letter])):
        chain = build_chain(f"A{letter}A", torsions, [0, rotamer, 0])
        mine = [i for i in range(len(chain.names)) if chain.residue[i] == 1]
        distance = torch.cdist(chain.coordinates_angstrom[mine], chain.coordinates_angstrom[mine])
        pairs = distance[torch.triu(torch.ones_like(distance, dtype=torch.bool), 1)]
        n_rings = {"F": 1, "Y": 1, "H": 1, "P": 1, "W": 2}.get(letter, 0)
        assert (pairs < 1.95).sum() == len(mine) - 1 + n_rings
        assert pairs.min() > 1.2
        assert pairs[pairs > 1.95].min() > 2.1  # the 1-3 distance of a five-membered ring


def test_hydrogens_add_up_to_the_formula_of_the_residue():
    # hydrogens of residues within a chain, side chains neutral but for Lys and Arg
    formula = {"G": 3, "A": 5, "S": 5, "L": 11, "I": 11, "K": 13, "F": 9, "W": 10, "D": 4, "R": 13, "T": 7, "M": 9}
    torsions = torch.tensor([[-63.0, -42.0]] * 2, dtype=torch.float64)
    for letter, expected in formula.items():
        chain = build_chain(f"A{letter}", torsions, [0, 0])
        assert int(chain.n_hydrogens[chain.residue == 1].sum()) == expected, letter


def test_lengths_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="2 residues, 3 torsions"):
        build_chain("AA", torch.zeros(3, 2), [0, 0])
    assert math.isclose(float(cage_atoms(55).b_factor_angstrom2), 55)
