"""What a user names is read as what it is, or refused with a reason, before anything long runs."""

import gemmi
import pytest
import torch

from tasks.formats import FormatError
from tasks.ligands.params import PlaceLigandsParams
from tasks.ligands.requested import read_requested
from tests.truth.monomers import unpacked_monomers

PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"


def test_smiles_become_a_template_with_restraints_that_fit_it():
    (found,) = read_requested([PARACETAMOL], None)
    template = found.template
    assert template.code == "LIG"
    assert sorted(template.elements) == ["C"] * 8 + ["N"] + ["O"] * 2
    assert int(template.n_hydrogens.sum()) == 9
    assert len(template.axes) == 1  # the amide is stiff
    block = gemmi.cif.read_string(found.dictionary).find_block("comp_LIG")
    molecule = gemmi.make_chemcomp_from_block(block)
    assert {a.id for a in molecule.atoms if not a.is_hydrogen()} == set(template.names)
    lengths = {(b.id1.atom, b.id2.atom): b.value for b in molecule.rt.bonds}
    place = template.conformers_angstrom[0]
    for a, b in template.bonds.tolist():
        names = template.names[a], template.names[b]
        value = lengths.get(names) or lengths[names[::-1]]
        assert value == pytest.approx(float((place[a] - place[b]).norm()), abs=0.06)
    assert len(molecule.rt.planes) >= 1


def test_two_molecules_get_two_names():
    assert [one.template.code for one in read_requested([PARACETAMOL, "CCCO"], None)] == ["LIG", "DRG"]


def test_a_hand_is_kept():
    (found,) = read_requested(["C[C@H](N)C(=O)O"], None)
    place = found.template.conformers_angstrom
    names = found.template.names
    centre, methyl, nitrogen, carboxyl = (names.index(n) for n in ("C2", "C1", "N1", "C3"))
    a, b, c = (place[:, i] - place[:, centre] for i in (nitrogen, carboxyl, methyl))
    volume = (a.flip(-1) * torch.linalg.cross(b.flip(-1), c.flip(-1))).sum(-1)
    assert (volume > 0).all()  # CORN rule: L-alanine


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("CC(=O", r"is no SMILES that can be read"),
        ("XQZ", r"no monomer library was found; give `--ligand FILE`"),
        ("nowhere.cif", r"there is no such file"),
        ("CCO.CCO", r"has 2 parts"),
        ("[Mg+2]", r"ions are named with --ions"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(told, reason):
    with pytest.raises(FormatError, match=reason):
        read_requested([told], None)


def test_codes_are_those_of_the_library(real_data, tmp_path):
    library = unpacked_monomers(real_data, tmp_path)
    atp, haem = read_requested(["ATP", "HEM"], library)
    assert atp.dictionary is None
    assert len(atp.template) == 31
    assert len(atp.template.axes) == 8
    assert len(atp.template.conformers_angstrom) > 20
    assert "FE" in haem.template.elements
    with pytest.raises(FormatError, match="has no restraints for it; give `--ligand FILE`"):
        read_requested(["QQQ"], library)


def test_a_dictionary_without_lengths_is_no_restraint_file(tmp_path):
    path = tmp_path / "bare.cif"
    path.write_text(
        "data_comp_ABC\nloop_\n_chem_comp_atom.comp_id\n_chem_comp_atom.atom_id\n_chem_comp_atom.type_symbol\n"
        "ABC C1 C\nABC C2 C\n"
    )
    with pytest.raises(FormatError, match="has no restraints with lengths of bonds"):
        read_requested([str(path)], None)


def test_an_unknown_ion_is_named():
    with pytest.raises(ValueError, match="ions XE: not known"):
        PlaceLigandsParams(ions=("mg", "xe"))
    assert PlaceLigandsParams(ions=("mg",)).ions == ("MG",)
