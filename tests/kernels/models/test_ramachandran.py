"""Residues are judged as MolProbity judges them."""

import math
import re
import subprocess
import sys

import pytest
import torch

from kernels.models.ramachandran import (
    ALLOWED,
    FAVOURED,
    KINDS,
    N_CELLS,
    OUTLIER,
    is_cis,
    is_twisted,
    peptide_before,
    ramachandran_kinds,
    ramachandran_scores,
    ramachandran_verdicts,
)
from kernels.models.torsions import backbone_torsions
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.formats.structure import read_structure
from tests.truth.ideal_proteins import HELIX_DEG, STRAND_DEG, ideal_protein


def test_scores_are_the_cells_at_their_centres_and_linear_between_them():
    tables = torch.rand(len(KINDS), N_CELLS, N_CELLS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    angles = torch.deg2rad(torch.tensor([[-179.0, 179.0], [-180.0, 1.0], [0.0, 0.0]], dtype=torch.float64))
    kinds = torch.tensor([2, 2, 5])
    found = ramachandran_scores(tables, kinds, angles[:, 0], angles[:, 1])
    expected = [tables[2, 0, 179], tables[2, [179, 0], 90].mean(), tables[5, 89:91, 89:91].mean()]
    torch.testing.assert_close(found, torch.stack(expected))


def test_an_unknown_angle_has_no_score_and_no_verdict():
    tables = torch.ones(len(KINDS), N_CELLS, N_CELLS, dtype=torch.float64)
    nan, zero = torch.tensor([math.nan, 0.0]), torch.zeros(2)
    scores = ramachandran_scores(tables, torch.tensor([0, -1]), nan, zero)
    assert scores.isnan().all()
    assert ramachandran_verdicts(scores, torch.tensor([0, -1])).tolist() == [-1, -1]


def test_kinds_follow_from_the_sequence_and_cis_peptides():
    model = ideal_protein("AGPVPI")
    omega = torch.full((6,), math.pi, dtype=torch.float64)
    omega[4] = 0.1
    assert ramachandran_kinds(model.amino_acid, omega).tolist() == [0, 1, 3, 4, 2, 5]
    assert is_cis(omega).tolist() == [False] * 4 + [True, False]
    assert (
        is_twisted(torch.deg2rad(torch.tensor([100.0, -31, 29, 151, math.nan]))).tolist() == [True, True] + [False] * 3
    )


@pytest.mark.parametrize(
    ("angles", "verdict"),
    [(HELIX_DEG, FAVOURED), (STRAND_DEG, FAVOURED), ((100.0, -60.0), OUTLIER), ((-150.0, 60.0), ALLOWED)],
)
def test_helix_and_strand_are_favoured_and_what_collides_is_not(angles, verdict):
    model = ideal_protein("AAAAA", angles)
    torsions = backbone_torsions(model)
    kinds = ramachandran_kinds(model.amino_acid, peptide_before(model))
    scores = ramachandran_scores(ramachandran_tables(), kinds, torsions[:, 0], torsions[:, 1])
    assert ramachandran_verdicts(scores, kinds).tolist() == [-1, verdict, verdict, verdict, -1]


MODELS = [
    "maps/EMD-6272_VP6_2.6A/6272.pdb",
    "maps/EMD-30342_integrin_3.9A/390_7cec_A.cif",
    "alphafold/AF-O78126-F1-model_v4.cif",
]


@pytest.mark.parametrize("name", MODELS)
def test_real_models_are_judged_as_molprobity_does(real_data, name):
    path = real_data / name
    program = "from iotbx.cli_parser import run_program; from mmtbx.programs import ramalyze; import sys;"
    program += f" run_program(program_class=ramalyze.Program, args=[{str(path)!r}], logger=sys.stdout)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    summary = re.search(r"(\d+) Favored, (\d+) Allowed, (\d+) Outlier", told)
    assert summary is not None, told
    model = read_structure(path)
    torsions = backbone_torsions(model)
    kinds = ramachandran_kinds(model.amino_acid, peptide_before(model))
    scores = ramachandran_scores(ramachandran_tables(), kinds, torsions[:, 0], torsions[:, 1])
    verdicts = ramachandran_verdicts(scores, kinds)
    assert [int((verdicts == k).sum()) for k in (FAVOURED, ALLOWED, OUTLIER)] == [int(n) for n in summary.groups()]
