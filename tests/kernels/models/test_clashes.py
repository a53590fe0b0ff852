"""Atoms that stand too close are found, whatever else is near."""

import math
from dataclasses import replace

import gemmi
import pytest
import torch

from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.bonds import Separation, bonds
from kernels.models.clashes import find_clashes
from kernels.models.contacts import Contacts
from kernels.models.hydrogen_rotors import turn_rotors
from kernels.models.hydrogens import Hydrogens, about_bond, hydrogen_counts, place_hydrogens
from kernels.rotations import from_rotation_vector
from tasks.formats.structure import read_structure, to_gemmi
from tests.truth.ideal_proteins import STRAND_DEG, ideal_protein
from tests.truth.monomers import unpacked_monomers


def atoms(*rows: tuple[str, str, tuple[float, float, float]]) -> AtomicModel:
    """Atoms, each a residue of its own, of monomers that are neither amino acid nor nucleotide."""
    n = len(rows)
    place = torch.tensor([at for _, _, at in rows], dtype=torch.float64)
    residues = tuple(Residue("L", name, i) for i, (name, _, _) in enumerate(rows))
    elements = tuple(element for _, element, _ in rows)
    return AtomicModel(residues, torch.arange(n), elements, elements, place, torch.ones(n), torch.ones(n))


@pytest.mark.parametrize(("gap", "overlap"), [(3.5, None), (3.01, None), (2.9, 0.5), (2.0, 1.4)])
def test_carbons_clash_where_their_radii_overlap(gap, overlap):
    found = find_clashes(atoms(("LIG", "C", (0, 0, 0)), ("LIG", "C", (0, 0, gap))))
    assert found.overlap_angstrom.tolist() == ([] if overlap is None else [pytest.approx(overlap)])
    assert found.n_atoms == 2
    assert found.score == (0 if overlap is None else 500)


def test_waters_and_metals_do_not_clash():
    model = atoms(("HOH", "O", (0, 0, 0)), ("ZN", "ZN", (0, 0, 1.9)), ("LIG", "C", (0, 0, 2.2)))
    assert find_clashes(model).score == 0
    assert find_clashes(model.take(torch.tensor([0, 1]))).n_atoms == 0


def test_ideal_backbones_do_not_clash():
    for angles in (None, STRAND_DEG):
        model = ideal_protein("A" * 12) if angles is None else ideal_protein("A" * 12, angles)
        found = find_clashes(model)
        assert found.score == 0
        assert found.n_atoms == 12 * 5 + 12 * 5 + 2  # H, HA and three HB each; ammonium at the start


def test_clashes_are_counted_for_the_residues_that_take_part():
    first = ideal_protein("AAAAA", STRAND_DEG)
    beta = first.positions("CB")[2, 0]
    second = atoms(("LIG", "C", tuple((beta + (beta - first.coordinates_angstrom.mean(0)) * 0.8).tolist())))
    both = joined([first, second])
    found = find_clashes(both)
    per_residue = found.per_residue(both)
    assert len(found.overlap_angstrom) > 0
    assert per_residue[5] == len(found.overlap_angstrom)
    assert per_residue[2] > 0
    assert per_residue[[0, 4]].tolist() == [0, 0]
    assert (found.overlap_angstrom.diff() <= 0).all()
    turn = from_rotation_vector(torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64))
    turned = find_clashes(both.at(both.coordinates_angstrom @ turn.T + 11.0))
    torch.testing.assert_close(turned.overlap_angstrom, found.overlap_angstrom)


def with_hydrogens(model: AtomicModel) -> Hydrogens:
    separation = Separation(bonds(model), len(model))
    placed = place_hydrogens(model, separation.partners)
    return turn_rotors(model.coordinates_angstrom, placed, Contacts(model, separation))


@pytest.mark.parametrize("turn_deg", [70.0, 200.0, 310.0])
def test_a_hydroxyl_turns_to_its_acceptor_and_away_from_carbon(turn_deg):
    model = ideal_protein("ASA", STRAND_DEG)
    oxygen, place = int(model.atom("OG")[1, 0]), model.coordinates_angstrom
    partners = Separation(bonds(model), len(model)).partners
    padded = torch.cat([place, torch.full((1, 3), torch.nan, dtype=torch.float64)])
    turn = torch.deg2rad(torch.tensor([turn_deg], dtype=torch.float64))
    towards = about_bond(padded, partners, torch.tensor([oxygen]), math.radians(109.5), turn)[0, 0]
    for element, gap, is_towards in (("O", 2.7, True), ("C", 3.1, False)):
        other = atoms(("LIG", element, tuple((place[oxygen] + gap * towards).tolist())))
        both = joined([model, other])
        found = with_hydrogens(both)
        hydrogen = found.coordinates_angstrom[found.parent == oxygen][0]
        cosine = float((hydrogen - place[oxygen]) @ towards) / 0.84
        assert (cosine > 0.98) == is_towards
        if is_towards:
            assert find_clashes(both).per_residue(both)[3] == 0


def test_neighbouring_hydroxyls_do_not_point_at_each_other():
    first = ideal_protein("S")
    oxygen, beta = first.positions("OG", "CB")[0]
    away = torch.nn.functional.normalize(oxygen - beta, dim=0)
    half_turn = 2 * away[:, None] * away[None] - torch.eye(3, dtype=torch.float64)
    middle = oxygen + 1.35 * torch.nn.functional.normalize(torch.linalg.cross(away, beta), dim=0)
    second = first.at((first.coordinates_angstrom - middle) @ half_turn.T + middle)
    second = replace(second, residues=(Residue("B", "SER", 1),))
    both = joined([first, second])
    found = with_hydrogens(both)
    hydroxyls = found.coordinates_angstrom[torch.isin(found.parent, both.atom("OG")[:2, 0])]
    assert (both.positions("OG")[0, 0] - both.positions("OG")[1, 0]).norm() == pytest.approx(2.7)
    assert len(hydroxyls) == 2
    assert (hydroxyls[0] - hydroxyls[1]).norm() > 1.7


def test_bonds_are_those_of_chemistry_and_separations_count_them():
    model = ideal_protein("AWGY")
    bond = bonds(model)
    assert len(bond) == 5 + 14 + 4 + 12 - 4 + 3 + 3  # atoms less residues, peptides, rings
    separation = Separation(bond, len(model))
    name = {(int(r), n): i for i, (r, n) in enumerate(zip(model.residue, model.names))}
    pairs = [((0, "N"), (0, "N"), 0), ((0, "C"), (1, "N"), 1), ((0, "CA"), (1, "CA"), 3), ((0, "N"), (1, "CA"), 4)]
    for a, b, expected in pairs:
        assert separation.between(torch.tensor(name[a]), torch.tensor(name[b])) == expected


@pytest.mark.parametrize("name", ["maps/EMD-6272_VP6_2.6A/6272.pdb", "maps/EMD-30342_integrin_3.9A/390_7cec_A.cif"])
def test_hydrogens_stand_where_the_monomer_library_puts_them(real_data, tmp_path, name):
    """Beside gemmi, which knows every monomer's geometry; those that turn about a bond are compared in number only."""
    library = unpacked_monomers(real_data, tmp_path)
    model = read_structure(real_data / name)
    model = model.take_residues(model.amino_acid >= 0)
    found = place_hydrogens(model, Separation(bonds(model), len(model)).partners)
    structure = to_gemmi(model)
    names = sorted({r.name for r in model.residues})
    monomers = gemmi.MonLib()
    monomers.read_monomer_lib(str(library), names)
    gemmi.prepare_topology(structure, monomers, 0, gemmi.HydrogenChange.ReAdd, reorder=False, ignore_unknown_links=True)
    theirs = [[a for a in r if a.is_hydrogen()] for chain in structure[0] for r in chain]
    expected = [[a.pos.z, a.pos.y, a.pos.x] for hydrogens in theirs for a in hydrogens]
    turning = found.rotor >= 0
    is_methyl = torch.bincount(found.parent, minlength=len(model))[found.parent] == 3
    fixed = torch.nonzero(~turning & ~is_methyl).squeeze(1)
    carrier = model.coordinates_angstrom[found.parent[fixed]]
    direction = torch.nn.functional.normalize(found.coordinates_angstrom[fixed] - carrier, dim=-1)
    reach = torch.cdist(carrier + direction, torch.tensor(expected, dtype=torch.float64)).amin(1)
    assert reach.median() < 0.12  # lengths differ by as much
    assert (reach < 0.3).double().mean() > 0.98
    count = torch.bincount(model.residue[found.parent], minlength=model.n_residues)
    linked = model.is_linked()
    is_inside = torch.cat([torch.tensor([False]), linked[:-1]])  # what follows a gap has an unknown direction
    # of cysteine and histidine the library does not know the bridges and the charge
    is_plain = torch.tensor([r.name not in ("CYS", "HIS") for r in model.residues])
    compared = is_inside & is_plain
    assert count[compared].tolist() == torch.tensor([len(hydrogens) for hydrogens in theirs])[compared].tolist()


def test_counts_of_hydrogens_are_those_of_the_residues():
    model = ideal_protein("MKHSA")
    counts = hydrogen_counts(model)
    assert torch.bincount(model.residue, weights=counts.double()).tolist() == [11, 13, 7, 5, 5]
