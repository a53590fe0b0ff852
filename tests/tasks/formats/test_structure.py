"""Models are read as they were written, old files too."""

import gemmi
import pytest
import torch

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.mates import Mates
from kernels.rotations import symmetry_group
from tasks.formats import FormatError
from tasks.formats.structure import mmcif_of, parse_assembly, parse_mmcif, read_structure, write_structure

OLD_PDB = """\
ATOM      1  N   CYS E   1      -9.110   4.061  32.201  1.00 11.68      1ACB 203
ATOM      2  CA  CYS E   1      -8.122   3.164  32.819  1.00 12.50      1ACB 204
ATOM      3  CB ACYS E   1      -7.100   3.000  32.000  0.40 12.50      1ACB 205
ATOM      4  CB BCYS E   1      -7.200   3.100  32.100  0.60 12.50      1ACB 206
END
"""


@pytest.fixture
def model() -> AtomicModel:
    residues = (Residue("A", "GLY", 4), Residue("A", "GLY", 4, "B"), Residue("AA", "ZN", 1))
    place = torch.arange(12, dtype=torch.float64).reshape(4, 3) * 1.25 - 3
    ones = torch.ones(4)
    return AtomicModel(
        residues, torch.tensor([0, 0, 1, 2]), ("N", "CA", "N", "ZN"), ("N", "C", "N", "ZN"), place, 20 * ones, ones / 2
    )


@pytest.mark.parametrize("name", ["model.cif", "model.pdb"])
def test_a_model_is_read_as_it_was_written(tmp_path, model, name):
    write_structure(tmp_path / name, model)
    found = read_structure(tmp_path / name)
    assert (found.residues, found.names, found.elements) == (model.residues, model.names, model.elements)
    assert torch.equal(found.residue, model.residue)
    torch.testing.assert_close(found.coordinates_angstrom, model.coordinates_angstrom, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.b_factor_angstrom2, model.b_factor_angstrom2)
    torch.testing.assert_close(found.occupancy, model.occupancy)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_numbers_its_lines_is_read_and_its_fullest_conformation_kept(tmp_path):
    (tmp_path / "old.pdb").write_text(OLD_PDB)
    found = read_structure(tmp_path / "old.pdb")
    assert (found.names, found.elements) == (("N", "CA", "CB"), ("N", "C", "C"))
    assert found.coordinates_angstrom[2].tolist() == pytest.approx([32.1, 3.1, -7.2])


@pytest.mark.parametrize("content", ["", "data_x\n_cell.length_a 3\n", "no model at all"])
def test_a_file_without_atoms_is_refused(tmp_path, content):
    (tmp_path / "bad.cif").write_text(content)
    with pytest.raises(FormatError, match=r"bad\.cif"):
        read_structure(tmp_path / "bad.cif")


def test_a_pdb_file_of_too_long_names_is_refused(tmp_path, model):
    long = AtomicModel(
        tuple(Residue("LONG", r.name, r.number, r.insertion_code) for r in model.residues),
        model.residue,
        model.names,
        model.elements,
        model.coordinates_angstrom,
        model.b_factor_angstrom2,
        model.occupancy,
    )
    with pytest.raises(ValueError, match="mmCIF"):
        write_structure(tmp_path / "model.pdb", long)


def test_copies_are_told_as_an_assembly_that_other_programs_make(tmp_path, model):
    mates = Mates(symmetry_group("D3"), torch.tensor([4.0, -2.0, 7.5], dtype=torch.float64))
    content = mmcif_of(model, "trimer", mates)
    assert len(parse_mmcif(content, "trimer")) == len(model)
    whole = parse_assembly(content, "trimer")
    expected = mates.of(model.coordinates_angstrom).reshape(-1, 3)
    torch.testing.assert_close(whole.coordinates_angstrom, expected, atol=2e-3, rtol=0)
    n_chains = len({r.chain for r in model.residues})
    assert len({r.chain for r in whole.residues}) == 6 * n_chains
    structure = gemmi.make_structure_from_block(gemmi.cif.read_string(content.decode()).sole_block())
    made = gemmi.make_assembly(structure.assemblies[0], structure[0], gemmi.HowToNameCopiedChain.AddNumber)
    theirs = sorted((round(a.atom.pos.z, 2), round(a.atom.pos.y, 2), round(a.atom.pos.x, 2)) for a in made.all())
    ours = sorted(tuple(round(v, 2) for v in place) for place in whole.coordinates_angstrom.tolist())
    assert torch.allclose(torch.tensor(theirs), torch.tensor(ours), atol=0.02)
    assert parse_assembly(mmcif_of(model, "alone"), "alone") is None
