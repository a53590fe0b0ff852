"""Write `kernels.models.nucleotide_reliability_coefficients` from errors planted in known nucleic acids.

    python -m tasks.validation.nucleotide_reliability_fit FOLDER...

Each structure is shown by simulated maps of 2.5 to 4.5 Å, and one nucleotide in six of its model is made wrong. Those
of clusters that `tasks.training.structures` holds out are not fitted; how well they are told right from wrong is
printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kernels.models import nucleotide_reliability_coefficients
from kernels.models.assessment import assess
from kernels.models.atomic_model import AtomicModel
from kernels.models.nucleotide_reliability import NUCLEOTIDE_FEATURES, nucleotide_features
from kernels.scores import area_under_curve, expected_calibration_error
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.formats.structure import read_structure
from tasks.training.structures import read_structures
from tasks.validation.planted_errors import UNCLEAR
from tasks.validation.planted_nucleotide_errors import NUCLEOTIDE_KINDS, plant_nucleotide_errors, whole_nucleotides
from tasks.validation.reliability_fit import Examples, coefficient_lines, fitted, joined
from tasks.validation.simulated_map import simulate_map

_SHARE_WRONG = 1 / 6
_RESOLUTIONS_ANGSTROM = (2.5, 4.5)
_FEWEST = 40
"""Nucleotides of the structures that are used."""
_N_MAPS = 3


def judged_nucleotides(truth: AtomicModel, resolution_angstrom: float, seed: int, is_held_out: bool) -> Examples:
    """One simulated map of a structure, one model with errors, and what is told of its nucleotides."""
    generator = torch.Generator().manual_seed(seed)
    grid = simulate_map(truth, resolution_angstrom, generator)
    planted = plant_nucleotide_errors(truth, _SHARE_WRONG, generator)
    resolution = torch.full((truth.n_residues,), resolution_angstrom, dtype=torch.float64)
    found = assess(planted.model, grid, resolution, ramachandran_tables())
    held = torch.full((truth.n_residues,), is_held_out, dtype=torch.bool)
    told = Examples(nucleotide_features(found), planted.error, resolution, held)
    return told.take((planted.error != UNCLEAR) & found.is_nucleotide)


def examples_in(folders: Sequence[Path], n_maps: int = _N_MAPS) -> Iterator[Examples]:
    """Nucleotides of all structures below the folders that have a fitting size, several maps of each."""
    paths = {f"{folder.name}/{path.name}": path for folder in folders for path in sorted(folder.rglob("*"))}
    for number, structure in enumerate(read_structures(folders)):
        truth = whole_nucleotides(read_structure(paths[structure.name]))
        if truth.n_residues < _FEWEST:
            continue
        low, high = _RESOLUTIONS_ANGSTROM
        for turn in range(n_maps):
            seed = 1000 * turn + number
            resolution = low + (high - low) * ((seed * 0.6180339887) % 1)
            yield judged_nucleotides(truth, resolution, seed, structure.is_held_out)
        print(f"{structure.name}: {truth.n_residues} nucleotides", flush=True)


def report(examples: Examples, probability: Tensor) -> list[str]:
    """Lines that say how well right nucleotides are told from wrong ones, for each kind of error and resolution."""
    right = examples.error == 0

    def line(name: str, chosen: Tensor) -> str:
        told, own = probability[chosen], right[chosen]
        return (
            f"{name}: {len(own)} nucleotides, {int((~own).sum())} of them wrong:"
            f" ROC-AUC {area_under_curve(told, own):.4f},"
            f" expected calibration error {expected_calibration_error(told, own):.4f}"
        )

    lines = [line("all", torch.ones_like(right))]
    for kind in range(1, len(NUCLEOTIDE_KINDS)):
        lines.append(line(NUCLEOTIDE_KINDS[kind], right | (examples.error == kind)))
    for low in (2.5, 3.0, 3.5, 4.0):
        chosen = (examples.resolution_angstrom >= low) & (examples.resolution_angstrom < low + 0.5)
        if bool((chosen & right).any()) and bool((chosen & ~right).any()):
            lines.append(line(f"{low:.1f} to {low + 0.5:.1f} Å", chosen))
    return lines


def _module(mean: Tensor, scale: Tensor, weight: Tensor, constant: float) -> str:
    return "\n".join(
        [
            '"""Coefficients of `kernels.models.nucleotide_reliability`.',
            "",
            "Written by `tasks.validation.nucleotide_reliability_fit`.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            "# fmt: off",
            *coefficient_lines(mean, scale, weight, constant),
            "",
        ]
    )


def main(folders: Sequence[str]) -> None:
    """Fit on what is not held out, report on what is, and write the coefficients."""
    torch.set_num_threads(1)
    examples = joined(list(examples_in([Path(folder) for folder in folders])))
    mean, scale, weight, constant = fitted(examples.take(~examples.is_held_out))
    for name, value in sorted(zip(NUCLEOTIDE_FEATURES, weight.tolist()), key=lambda pair: -abs(pair[1])):
        print(f"{value:8.3f}  {name}")
    for which, chosen in (("fitted", ~examples.is_held_out), ("held out", examples.is_held_out)):
        part = examples.take(chosen)
        if len(part.error):
            probability = torch.sigmoid(((part.features - mean) / scale) @ weight + constant)
            print(f"{which}: " + "\n  ".join(report(part, probability)))
    path = Path(nucleotide_reliability_coefficients.__file__)
    path.write_text(_module(mean, scale, weight, constant))


if __name__ == "__main__":
    main(sys.argv[1:])
