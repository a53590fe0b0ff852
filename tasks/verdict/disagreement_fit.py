"""Write `kernels.models.disagreement_coefficients` from predictions that are partly wrong beside models with errors.

    python -m tasks.verdict.disagreement_fit FOLDER...

Each structure is shown by a simulated map of 2.5 to 4.5 Å. The model of the map is the structure with planted errors
and gaps; the prediction is bent, or swings about a hinge, and one residue in six stands elsewhere. What is asked is
which residues of the prediction are wrong by the distances to their neighbours, wherever their domain lies. Clusters
that `tasks.training.structures` holds out are not fitted; how well they are told is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kernels.models import disagreement_coefficients
from kernels.models.atomic_model import AtomicModel
from kernels.models.disagreement import (
    DISAGREEMENT_FEATURES,
    Compared,
    disagreement_features,
    local_distance_agreement,
)
from kernels.models.mates import Mates
from kernels.scores import area_under_curve, expected_calibration_error
from tasks.docking.perturbed import bent, hinged
from tasks.formats.structure import read_structure
from tasks.training.structures import read_structures
from tasks.validation.planted_errors import plant_errors
from tasks.validation.reliability_fit import Examples, coefficient_lines, fitted, joined, protein_to_plant_in
from tasks.validation.simulated_map import simulate_map
from tasks.verdict.comparing import compared
from tasks.verdict.wrong_stretches import with_wrong_stretches

SHARE_WRONG = 1 / 6
_RESOLUTIONS_ANGSTROM = (2.5, 4.5)
_FEWEST, _MOST = 80, 350
_PERTURBED_ANGSTROM = (0.5, 2.5)
WRONG_LDDT, RIGHT_LDDT = 0.6, 0.75
"""To the structure: below it a residue of the prediction is wrong, above it right; between the two is not counted."""
_UNCLEAR = -1
_MOST_LOST = 0.4


@dataclass(frozen=True, eq=False)
class Case:
    """One prediction beside one model of a map, and what is true of it."""

    found: Compared
    error: Tensor
    """(residue,) 0 right, 1 wrong, -1 unclear."""
    resolution_angstrom: float


def case_of(truth: AtomicModel, resolution_angstrom: float, seed: int) -> Case:
    """A simulated map of a structure, a model with errors, a prediction that is partly wrong, and the comparison."""
    generator = torch.Generator().manual_seed(seed)
    grid = simulate_map(truth, resolution_angstrom, generator)
    built = _with_gaps(plant_errors(truth, grid, SHARE_WRONG, generator).model, generator)
    low, high = _PERTURBED_ANGSTROM
    moved = low + (high - low) * float(torch.rand((), generator=generator))
    made = (bent if seed % 2 else hinged)(truth, moved, generator)
    partly = with_wrong_stretches(made.prediction, SHARE_WRONG, generator).prediction
    found = compared(partly, built, grid, resolution_angstrom, Mates.about("C1", grid))
    lddt = local_distance_agreement(partly.model.positions("CA")[:, 0], truth.positions("CA")[:, 0])
    error = torch.where(lddt < WRONG_LDDT, 1, torch.where(lddt > RIGHT_LDDT, 0, _UNCLEAR))
    return Case(found.compared, error, resolution_angstrom)


def _with_gaps(model: AtomicModel, generator: torch.Generator) -> AtomicModel:
    """Without some stretches, as models are that were built de novo: up to four residues in ten."""
    n = model.n_residues
    wave = torch.nn.functional.avg_pool1d(torch.randn(1, 1, n + 8, generator=generator), 9, stride=1)[0, 0]
    lost = _MOST_LOST * float(torch.rand((), generator=generator))
    return model.take_residues(wave > wave.quantile(lost))


def cases(folders: Sequence[Path], most: int, is_held_out: bool) -> Iterator[Case]:
    """Of the first structures of a fitting size."""
    paths = {f"{folder.name}/{path.name}": path for folder in folders for path in sorted(folder.rglob("*"))}
    n = 0
    for number, structure in enumerate(read_structures(folders)):
        if structure.is_held_out is not is_held_out or n == most:
            continue
        truth = protein_to_plant_in(read_structure(paths[structure.name]))
        if _FEWEST <= truth.n_residues <= _MOST and len({r.chain for r in truth.residues}) == 1:
            n += 1
            low, high = _RESOLUTIONS_ANGSTROM
            yield case_of(truth, low + (high - low) * ((number * 0.6180339887) % 1), number)


def examples_of(case: Case, is_held_out: bool) -> Examples:
    """Residues that are clearly right or wrong."""
    held = torch.full(case.error.shape, is_held_out)
    resolution = torch.full(case.error.shape, case.resolution_angstrom, dtype=torch.float64)
    return Examples(disagreement_features(case.found), case.error, resolution, held).take(case.error != _UNCLEAR)


def main(folders: Sequence[str], n_fitted: int = 24, n_held_out: int = 12) -> None:
    """Fit on what is not held out, report on what is, and write the coefficients."""
    torch.set_num_threads(1)
    parts = []
    for is_held_out, most in ((False, n_fitted), (True, n_held_out)):
        for case in cases([Path(folder) for folder in folders], most, is_held_out):
            parts.append(examples_of(case, is_held_out))
            print(f"{len(parts)}: {len(parts[-1].error)} residues", flush=True)
    examples = joined(parts)
    mean, scale, weight, constant = fitted(examples.take(~examples.is_held_out))
    weight, constant = -weight, -constant  # of being wrong, not right
    for name, value in sorted(zip(DISAGREEMENT_FEATURES, weight.tolist()), key=lambda pair: -abs(pair[1])):
        print(f"{value:8.3f}  {name}")
    for which, chosen in (("fitted", ~examples.is_held_out), ("held out", examples.is_held_out)):
        part = examples.take(chosen)
        wrong = torch.sigmoid(((part.features - mean) / scale) @ weight + constant)
        print(
            f"{which}: {len(wrong)} residues, {int((part.error == 1).sum())} wrong,"
            f" ROC-AUC {area_under_curve(wrong, part.error == 1):.4f},"
            f" calibration error {expected_calibration_error(wrong, part.error == 1):.4f}"
        )
    head = ['"""Coefficients of `kernels.models.disagreement`, written by `tasks.verdict.disagreement_fit`."""', ""]
    head += ["from __future__ import annotations", "", "# fmt: off"]
    lines = [*head, *coefficient_lines(mean, scale, weight, constant), ""]
    Path(disagreement_coefficients.__file__).write_text("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
