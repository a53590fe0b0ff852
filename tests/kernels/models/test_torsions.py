"""Torsions of models against those they were built with, and the tables against another laboratory's."""

import csv
import io
import tarfile

import pytest
import torch
from torch.testing import assert_close

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.internal_coordinates import chi_atoms
from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS
from kernels.models.torsions import (
    backbone_torsions,
    conformation,
    ramachandran_class,
    ramachandran_surprise,
    rotamers,
    side_chain_torsions,
)
from kernels.specimen.cage import CHI_ANGLES_DEG, build_chain

_PLACES = ((-63, -42), (-120, 130), (0, 0), (60, -120))


def built(sequence: str, torsions_deg: torch.Tensor, numbers: list[int]) -> AtomicModel:
    chain = build_chain(sequence, torsions_deg, numbers)
    residues = tuple(
        Residue("A", AMINO_ACIDS[AMINO_ACID_LETTERS.index(letter)], i + 1) for i, letter in enumerate(sequence)
    )
    ones = torch.ones(len(chain.names))
    return AtomicModel(
        residues, chain.residue, chain.names, chain.elements, chain.coordinates_angstrom, ones * 30, ones
    )


def test_torsions_come_out_as_they_went_in():
    torsions = torch.tensor([[-60.0, -45.0], [-120, 130], [55, 40], [-75, 150], [-63, -41]], dtype=torch.float64)
    model = built("AWKLM", torsions, [0, 1, 2, 1, 4])
    found = torch.rad2deg(backbone_torsions(model))
    assert_close(found[1:, 0], torsions[1:, 0], atol=1e-4, rtol=0)
    assert_close(found[:-1, 1], torsions[:-1, 1], atol=1e-4, rtol=0)
    assert_close(found[:-1, 2].abs(), torch.full((4,), 180.0).double(), atol=1e-4, rtol=0)
    assert found[0, 0].isnan() and found[4, 1:].isnan().all()
    chi = torch.rad2deg(side_chain_torsions(model))
    for i, (letter, number) in enumerate(zip("AWKLM", [0, 1, 2, 1, 4])):
        expected = torch.tensor(CHI_ANGLES_DEG[letter][number]).double()
        difference = (chi[i, : len(expected)] - expected + 180) % 360 - 180
        assert difference.abs().max() < 1e-3 if len(expected) else chi[i].isnan().all()


def test_helix_and_strand_are_likely_and_eclipsed_backbone_is_not():
    surprise = ramachandran_surprise()
    cells = {(phi, psi): float(surprise[0, (phi + 180) // 10, (psi + 180) // 10]) for phi, psi in _PLACES}
    assert cells[-63, -42] < 0.5 and cells[-120, 130] < 2.5
    assert cells[0, 0] > 6 and cells[60, -120] > 6
    assert conformation(torch.deg2rad(torch.tensor([[-63.0, -42], [-120, 130], [60, 40]]))).tolist() == [0, 1, 2]


def test_classes_of_residues_follow_from_their_names():
    letters = [AMINO_ACID_LETTERS.index(letter) for letter in "AGPVPA"]
    assert ramachandran_class(torch.tensor(letters)).tolist() == [0, 1, 2, 4, 2, 0]
    assert ramachandran_class(torch.tensor([0, letters[2]])).tolist() == [3, 2]


@pytest.mark.parametrize("letter", [letter for letter in AMINO_ACID_LETTERS if chi_atoms(letter)])
def test_common_rotamers_are_those_of_the_top8000(real_data, letter):
    """A rotamer that others saw in 3 % of residues or more stands within 30 degrees of one of ours."""
    archive = real_data / "restraints" / "top8000.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent")
    name = AMINO_ACIDS[AMINO_ACID_LETTERS.index(letter)]
    with tarfile.open(archive) as packed:
        member = packed.extractfile(f"Top8000/Top8000_rotamer_central_values/{name}.csv")
        assert member is not None
        rows = list(csv.DictReader(io.TextIOWrapper(member)))
    n_chi, ours = len(chi_atoms(letter)), torch.rad2deg(rotamers(letter).chi_rad)
    for row in rows:
        if float(row["frequency%"]) >= 3:
            theirs = torch.tensor([float(row[f"chi{i + 1}_mean"]) for i in range(n_chi)])
            periods = torch.full((n_chi,), 360.0)
            if letter in "DEFY":  # their last angle comes to the same after half a turn
                periods[-1] = 180
            distance = (ours - theirs + periods / 2) % periods - periods / 2
            assert float(distance.abs().amax(1).min()) < 30, row["rotamer"]
    assert_close(rotamers(letter).probability.sum(1), torch.ones(3).double())
