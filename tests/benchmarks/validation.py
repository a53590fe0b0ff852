"""Validation of models against other programs and against errors that were planted.

    python -m tests.benchmarks.validation

Q-scores: the 4308 atoms of the 3.9 Å integrin map beside those of MapQ; intervals of 1,000 bootstrap samples of atoms,
95 %. Ramachandran and Cβ: counts beside MolProbity's programs in cctbx. Planted errors: structures of clusters that the
coefficients were not fitted on, at seeds of their own, one simulated map of 2.5 to 5 Å each; register shifts of one to
three residues, flipped peptides, shifted loops (and, told apart, wrong rotamers) in one residue of six; intervals of
1,000 bootstrap samples of structures. Nothing was tuned on the real maps.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gemmi
import torch
import typer
from torch import Tensor

from kernels.models.assessment import likelihood_tables
from kernels.models.geometry import CBETA_OUTLIER_ANGSTROM, cbeta_deviations
from kernels.models.q_score import q_scores
from kernels.models.ramachandran import peptide_before, ramachandran_kinds, ramachandran_scores, ramachandran_verdicts
from kernels.models.reliability_coefficients import COEFFICIENTS
from kernels.models.torsions import backbone_torsions
from kernels.scores import area_under_curve, expected_calibration_error
from tasks.formats.map_file import read_map
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.formats.structure import read_structure
from tasks.validation.planted_errors import KINDS
from tasks.validation.reliability_fit import Examples, examples_of, judged_model, protein_to_plant_in
from tests.benchmarks.estimates import Line, estimate, measured, table
from tests.truth.real_maps import REAL_DATA
from tests.truth.structure_sets import structures_below

_SEED = 770_000
"""Of planted errors; the fit uses others."""
_MODELS = (
    "maps/EMD-20026_apoferritin_1.75A/3ajo_fitted_refined.pdb",
    "maps/EMD-6272_VP6_2.6A/6272.pdb",
    "maps/EMD-5168_actin_6.6A/1J6Z.pdb",
    "maps/EMD-30342_integrin_3.9A/390_7cec.cif",
    "alphafold/AF-O78126-F1-model_v4.cif",
)


def q_score_lines(data: Path) -> list[Line]:
    """Beside MapQ."""
    folder = data / "maps" / "EMD-30342_integrin_3.9A"
    path = folder / "390_7cec_A__Q__390_emd_30342_A_z4.cif"
    table = gemmi.cif.read(str(path))[0].find("_atom_site.", ["Q_score"])
    reference = torch.tensor([float(row[0]) for row in table], dtype=torch.float64)
    grid, model = read_map(folder / "390_emd_30342_A_z4.mrc"), read_structure(path)
    found = q_scores(grid, model.coordinates_angstrom)

    def correlation(some: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([found[some], reference[some]]))[0, 1])

    def difference(some: Tensor) -> float:
        return abs(float((found - reference)[some].mean()))

    n = len(reference)
    where = f"{n} atoms, integrin, EMD-30342"
    return [
        Line("Q-score against MapQ, correlation", where, estimate(correlation, n), reach=0.99, digits=4),
        Line("Q-score against MapQ, size of the mean difference", where, estimate(difference, n), "", 0.01, "lower", 4),
    ]


def geometry_lines(data: Path) -> list[str]:
    lines = []
    for name in _MODELS:
        model = read_structure(data / name)
        torsions = backbone_torsions(model)
        kinds = ramachandran_kinds(model.amino_acid, peptide_before(model))
        scores = ramachandran_scores(ramachandran_tables(), kinds, torsions[:, 0], torsions[:, 1])
        verdicts = ramachandran_verdicts(scores, kinds)
        ours = [int((verdicts == k).sum()) for k in range(3)]
        theirs = _counts("ramalyze", data / name, r"(\d+) Favored, (\d+) Allowed, (\d+) Outlier")
        beta = int((cbeta_deviations(model) >= CBETA_OUTLIER_ANGSTROM).sum())
        beta_theirs = _counts("cbetadev", data / name, r"SUMMARY: (\d+) C-beta deviations")
        stem = Path(name).name
        lines.append(f"| Ramachandran {stem}: favoured, allowed, outliers | {_list(ours)} | {_list(theirs)} |")
        lines.append(f"| Cβ deviations {stem} | {beta} | {_list(beta_theirs)} |")
    return lines


def _counts(program: str, path: Path, pattern: str) -> list[int]:
    code = f"from iotbx.cli_parser import run_program; from mmtbx.programs import {program}; import sys;"
    code += f" run_program(program_class={program}.Program, args=[{str(path)!r}], logger=sys.stdout)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = re.search(pattern, told)
    if found is None:
        raise ValueError(f"{program} of {path} printed no line like {pattern!r}: {told[-500:]}")
    return [int(n) for n in found.groups()]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def planted_lines(data: Path, most: int = 1000) -> list[Line]:
    """Of the first structures that the coefficients were not fitted on."""
    folder = data / "structures_bm5"
    parts: list[Examples] = []
    for number, structure in enumerate(s for s in structures_below(folder) if s.is_held_out):
        if len(parts) == most:
            break
        truth = protein_to_plant_in(read_structure(folder / Path(structure.name).name))
        if 80 <= truth.n_residues <= 450:
            resolution = 2.5 + 2.5 * ((number * 0.6180339887) % 1)
            parts.append(examples_of(judged_model(truth, resolution, _SEED + number, True), *likelihood_tables()))
    mean, scale, weight = (torch.tensor(values, dtype=torch.float64) for values in COEFFICIENTS[:3])
    told = [torch.sigmoid(((part.features - mean) / scale) @ weight + COEFFICIENTS[3]) for part in parts]

    def figure(score: Callable[[Tensor, Tensor], float], kinds: Sequence[int]) -> Callable[[Tensor], float]:
        def of(chosen: Tensor) -> float:
            probability = torch.cat([told[i] for i in chosen.tolist()])
            error = torch.cat([parts[i].error for i in chosen.tolist()])
            counted = torch.isin(error, torch.tensor([0, *kinds]))
            return score(probability[counted], error[counted] == 0)

        return of

    n = len(parts)
    where = f"{n} structures of held-out clusters, 2.5 to 5 Å"
    curve = {"register shifts, flips and loops": (1, 2, 3)} | {KINDS[k]: (k,) for k in range(1, len(KINDS))}
    lines = [
        Line(
            f"validation: ROC-AUC, {name}",
            where,
            estimate(figure(area_under_curve, kinds), n),
            reach=0.92 if len(kinds) > 1 else None,
        )
        for name, kinds in curve.items()
    ]
    error = figure(expected_calibration_error, range(1, len(KINDS)))
    return [*lines, Line("confidence: expected calibration error", where, estimate(error, n), "", 0.05, "lower")]


def main(data: Path = REAL_DATA) -> None:
    """Print the tables of real and simulated maps apart."""
    torch.set_num_threads(1)
    if not data.is_dir():
        raise typer.BadParameter(f"{data}: there is no such folder; give the folder of real data")
    head = "| figure | measured | the other program |\n|---|---|---|"
    print("## Real maps\n", table([measured("Q-score", None, lambda: q_score_lines(data))]), sep="\n")
    print("\n## Real models\n", head, *geometry_lines(data), sep="\n")
    planted = measured("planted errors", None, lambda: planted_lines(data))
    print("\n## Simulated maps, planted errors\n", table([planted]), sep="\n")


if __name__ == "__main__":
    typer.run(main)
