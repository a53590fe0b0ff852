"""Ideal proteins deviate nowhere, and what is bent is found where it was bent."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from kernels.models.geometry import (
    BOND_OUTLIER_SIGMA,
    CBETA_OUTLIER_ANGSTROM,
    ROTAMER_OUTLIER_DEG,
    backbone_deviations,
    cbeta_deviations,
    rotamer_deviations_deg,
)
from tasks.formats.structure import read_structure
from tests.truth.ideal_proteins import ideal_protein

SEQUENCE = "MACDEFGHIKLNQRSTVWYA"


def moved(model, name, residue, shift):
    atom = int(model.atom(name)[residue, 0])
    place = model.coordinates_angstrom.clone()
    place[atom] += torch.tensor(shift, dtype=place.dtype)
    return model.at(place)


def test_an_ideal_protein_has_ideal_geometry():
    model = ideal_protein(SEQUENCE)
    bonds, angles = backbone_deviations(model)
    assert bonds[:-1].abs().max() < 1
    assert angles[:-1].abs().max() < 1.5  # textbooks differ by a degree
    assert bonds[-1].isnan().tolist() == [False, False, False, True]
    assert angles[-1].isnan().tolist() == [False, False, True, True, True]
    deviation = cbeta_deviations(model)
    assert deviation.isnan().tolist() == [letter == "G" for letter in SEQUENCE]
    assert deviation.nan_to_num().max() < 0.05
    rotamer = rotamer_deviations_deg(model)
    assert rotamer.isnan().tolist() == [letter in "GA" for letter in SEQUENCE]
    assert rotamer.nan_to_num().max() < 30


def test_a_moved_atom_is_found_in_its_residue():
    model = ideal_protein(SEQUENCE)
    deviation = cbeta_deviations(moved(model, "CB", 4, (0.0, 0.3, 0.2)))
    assert (deviation > CBETA_OUTLIER_ANGSTROM).nonzero().tolist() == [[4]]
    bonds, angles = backbone_deviations(moved(model, "O", 4, (0.3, 0.2, 0.3)))
    is_out = torch.cat([bonds, angles], 1).abs() > BOND_OUTLIER_SIGMA
    assert is_out.any(1).nonzero().tolist() == [[4]]
    bonds, _ = backbone_deviations(moved(model, "N", 5, (0.3, 0.3, 0.3)))
    assert (bonds.abs() > 2).any(1).nonzero().flatten().tolist() == [4, 5]  # the peptide is the residue's before


def test_mirrored_proteins_have_their_cbeta_on_the_wrong_side():
    model = ideal_protein("AVLSA")
    mirrored = model.at(model.coordinates_angstrom * torch.tensor([-1.0, 1, 1]))
    assert (cbeta_deviations(mirrored) > 1).all()


@pytest.mark.parametrize("turn_deg", [0.0, 60.0, 120.0, 180.0])
def test_a_side_chain_between_rotamers_is_an_outlier(turn_deg):
    from kernels.models.internal_coordinates import side_chain_coordinates

    model = ideal_protein("AVA")
    backbone = model.positions("N", "CA", "C", "O").flip(-1)[1]
    chi = torch.deg2rad(torch.tensor([-60.0 + turn_deg], dtype=torch.float64))
    place = model.coordinates_angstrom.clone()
    atoms = [int(model.atom(name)[1, 0]) for name in ("CB", "CG1", "CG2")]
    place[atoms] = side_chain_coordinates("V", backbone, chi).flip(-1)
    found = float(rotamer_deviations_deg(model.at(place))[1])
    assert (found > ROTAMER_OUTLIER_DEG) == (turn_deg in (60.0, 180.0))


def test_sides_of_a_ring_are_alike():
    model = ideal_protein("AFA")
    swap = {"CD1": "CD2", "CD2": "CD1", "CE1": "CE2", "CE2": "CE1"}
    renamed = replace(model, names=tuple(swap.get(name, name) for name in model.names))
    found, expected = rotamer_deviations_deg(renamed)[1], rotamer_deviations_deg(model)[1]
    torch.testing.assert_close(found, expected, atol=1.0, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["maps/EMD-6272_VP6_2.6A/6272.pdb", "maps/EMD-5168_actin_6.6A/1J6Z.pdb", "alphafold/AF-O78126-F1-model_v4.cif"],
)
def test_cbeta_outliers_are_those_of_molprobity(real_data, name):
    program = "from iotbx.cli_parser import run_program; from mmtbx.programs import cbetadev; import sys;"
    program += f" run_program(program_class=cbetadev.Program, args=[{str(real_data / name)!r}], logger=sys.stdout)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    summary = re.search(r"SUMMARY: (\d+) C-beta deviations", told)
    assert summary is not None, told
    deviation = cbeta_deviations(read_structure(real_data / name))
    assert int((deviation >= CBETA_OUTLIER_ANGSTROM).sum()) == int(summary[1])
