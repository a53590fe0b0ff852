"""A monomer library is found, or what to install is said."""

import pytest
import torch

from kernels.models.atomic_model import AtomicModel, Residue
from tasks.formats.monomer_library import MonomerLibraryError, find_monomer_library, require_monomers


def library(folder, complete=True):
    (folder / "list").mkdir(parents=True)
    (folder / "ener_lib.cif").write_text("data_energy\n")
    if complete:
        (folder / "list" / "mon_lib_list.cif").write_text("data_comp_list\n")
    (folder / "g").mkdir()
    (folder / "g" / "GLY.cif").write_text(
        "data_comp_list\nloop_\n_chem_comp.id\nGLY\ndata_comp_GLY\nloop_\n_chem_comp_atom.comp_id\n"
        "_chem_comp_atom.atom_id\nGLY N\nGLY CA\nGLY C\nGLY O\n"
    )
    return folder


def model(residue_name, atom_name):
    one = torch.ones(1)
    place = torch.zeros(1, 3, dtype=torch.float64)
    residue = Residue("B", residue_name, 7)
    return AtomicModel((residue,), torch.zeros(1, dtype=torch.int64), (atom_name,), ("C",), place, one, one)


def test_the_given_library_comes_before_that_of_the_environment(tmp_path, monkeypatch):
    given, named = library(tmp_path / "given"), library(tmp_path / "named")
    monkeypatch.setenv("CLIBD_MON", str(named))
    assert find_monomer_library(given) == given
    assert find_monomer_library() == named


def test_a_library_without_its_lists_is_passed_over_and_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CCP4", raising=False)
    half = library(tmp_path / "half", complete=False)
    monkeypatch.setenv("CLIBD_MON", str(half))
    with pytest.raises(MonomerLibraryError, match=r"half: it has no list/mon_lib_list.cif.*install CCP4"):
        find_monomer_library()
    with pytest.raises(MonomerLibraryError, match="there is no such folder"):
        find_monomer_library(tmp_path / "nowhere")


def test_a_missing_monomer_and_a_missing_atom_are_named(tmp_path):
    found = library(tmp_path / "library")
    require_monomers(found, model("GLY", "CA"))
    with pytest.raises(MonomerLibraryError, match=r"no restraints for XYZ \(at B/XYZ7\)"):
        require_monomers(found, model("XYZ", "C1"))
    with pytest.raises(MonomerLibraryError, match=r"B/GLY7 has an atom CB"):
        require_monomers(found, model("GLY", "CB"))
