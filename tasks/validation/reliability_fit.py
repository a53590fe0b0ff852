"""Write `kernels.models.reliability_coefficients` from errors planted in models of known structures.

    python -m tasks.validation.reliability_fit FOLDER...

Each structure is shown by simulated maps of 2.5 to 5 Å, and one residue in six of its model is made wrong. Clusters of
relatives that `tasks.training.structures` holds out are not fitted; how well they are told right from wrong is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kernels.models import reliability_coefficients
from kernels.models.assessment import assess
from kernels.models.atomic_model import AtomicModel
from kernels.models.reliability import FEATURES, features
from kernels.models.residues import AMINO_ACIDS, PROTEIN_BACKBONE
from kernels.scores import area_under_curve, expected_calibration_error
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.formats.structure import read_structure
from tasks.training.structures import read_structures
from tasks.validation.planted_errors import KINDS, UNCLEAR, plant_errors
from tasks.validation.simulated_map import simulate_map

_SHARE_WRONG = 1 / 6
_RESOLUTIONS_ANGSTROM = (2.5, 5.0)
_FEWEST, _MOST = 80, 450
"""Residues of the structures that are used."""
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Examples:
    """Residues of models with known errors."""

    features: Tensor
    """(residue, feature)"""
    error: Tensor
    """(residue,) index into `planted_errors.KINDS`."""
    resolution_angstrom: Tensor
    """(residue,)"""
    is_held_out: Tensor
    """(residue,)"""

    def take(self, chosen: Tensor) -> Examples:
        """Some of them, by a mask."""
        return Examples(
            self.features[chosen], self.error[chosen], self.resolution_angstrom[chosen], self.is_held_out[chosen]
        )


def protein_to_plant_in(model: AtomicModel) -> AtomicModel:
    """Heavy atoms of the residues that have their backbone and are one of the 20."""
    whole = model.positions(*PROTEIN_BACKBONE).isfinite().all(-1).all(-1)
    standard = torch.tensor([r.name in AMINO_ACIDS for r in model.residues], dtype=torch.bool)
    heavy = torch.tensor([e != "H" for e in model.elements], dtype=torch.bool)
    return model.take(heavy & (whole & standard)[model.residue])


def examples_of(truth: AtomicModel, resolution_angstrom: float, seed: int, is_held_out: bool) -> Examples:
    """One simulated map of a structure, one model with errors, and what is judged of it."""
    generator = torch.Generator().manual_seed(seed)
    grid = simulate_map(truth, resolution_angstrom, generator)
    planted = plant_errors(truth, grid, _SHARE_WRONG, generator)
    resolution = torch.full((truth.n_residues,), resolution_angstrom, dtype=torch.float64)
    found = assess(planted.model, grid, resolution, ramachandran_tables())
    return Examples(
        features(found), planted.error, resolution, torch.full((truth.n_residues,), is_held_out, dtype=torch.bool)
    ).take(planted.error != UNCLEAR)


def collected(folders: Sequence[Path], n_maps: int) -> Examples:
    """Examples of all structures below the folders that have a fitting size, several maps of each."""
    parts = []
    paths = {f"{folder.name}/{path.name}": path for folder in folders for path in sorted(folder.rglob("*"))}
    for number, structure in enumerate(read_structures(folders)):
        truth = protein_to_plant_in(read_structure(paths[structure.name]))
        if not _FEWEST <= truth.n_residues <= _MOST:
            continue
        for turn in range(n_maps):
            seed = 1000 * turn + number
            low, high = _RESOLUTIONS_ANGSTROM
            resolution = low + (high - low) * ((seed * 0.6180339887) % 1)
            parts.append(examples_of(truth, resolution, seed, structure.is_held_out))
        print(f"{structure.name}: {truth.n_residues} residues", flush=True)
    return Examples(*(torch.cat([getattr(part, name) for part in parts]) for name in Examples.__dataclass_fields__))


def fitted(examples: Examples) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean and scale of the features, and weights and constant of the logistic regression for being right."""
    mean, scale = examples.features.mean(0), examples.features.std(0).clamp(min=1e-6)
    scaled = (examples.features - mean) / scale
    right = (examples.error == 0).double()
    weight = torch.zeros(scaled.shape[1], dtype=torch.float64, requires_grad=True)
    constant = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, constant], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logit = scaled @ weight + constant
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, right) + _RIDGE * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return mean, scale, weight.detach(), float(constant.detach())


def report(examples: Examples, probability: Tensor) -> list[str]:
    """Lines that say how well right residues are told from wrong ones, for each kind of error and resolution."""
    right = examples.error == 0
    lines = [
        f"{len(right)} residues, {float((~right).double().mean()):.3f} of them wrong:"
        f" ROC-AUC {area_under_curve(probability, right):.4f},"
        f" expected calibration error {expected_calibration_error(probability, right):.4f}"
    ]
    for kind in range(1, len(KINDS)):
        chosen = right | (examples.error == kind)
        lines.append(
            f"{KINDS[kind]}: {int((examples.error == kind).sum())} residues,"
            f" ROC-AUC {area_under_curve(probability[chosen], right[chosen]):.4f}"
        )
    named = examples.error <= 3
    lines.append(f"first three kinds: ROC-AUC {area_under_curve(probability[named], right[named]):.4f}")
    for low in (2.5, 3.0, 3.5, 4.0, 4.5):
        chosen = (examples.resolution_angstrom >= low) & (examples.resolution_angstrom < low + 0.5)
        if bool(chosen.any()):
            lines.append(
                f"{low:.1f} to {low + 0.5:.1f} Å: {int(chosen.sum())} residues,"
                f" ROC-AUC {area_under_curve(probability[chosen], right[chosen]):.4f},"
                f" calibration error {expected_calibration_error(probability[chosen], right[chosen]):.4f}"
            )
    return lines


def _module(mean: Tensor, scale: Tensor, weight: Tensor, constant: float) -> str:
    rows = [f"    ({', '.join(f'{v:.6g}' for v in row.tolist())})," for row in (mean, scale, weight)]
    return "\n".join(
        [
            '"""Coefficients of `kernels.models.reliability`, written by `tasks.validation.reliability_fit`."""',
            "",
            "from __future__ import annotations",
            "",
            "COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (",
            "    # mean, scale, weight of each feature; constant",
            *rows,
            f"    {constant:.6g},",
            ")",
        ]
    )


def main(folders: Sequence[str], n_maps: int = 1) -> None:
    """Fit on what is not held out, report on what is, and write the coefficients."""
    torch.set_num_threads(1)
    examples = collected([Path(folder) for folder in folders], n_maps)
    mean, scale, weight, constant = fitted(examples.take(~examples.is_held_out))
    for name, value in sorted(zip(FEATURES, weight.tolist()), key=lambda pair: -abs(pair[1])):
        print(f"{value:8.3f}  {name}")
    for which, chosen in (("fitted", ~examples.is_held_out), ("held out", examples.is_held_out)):
        part = examples.take(chosen)
        probability = torch.sigmoid(((part.features - mean) / scale) @ weight + constant)
        print(f"{which}: " + "\n  ".join(report(part, probability)))
    Path(reliability_coefficients.__file__).write_text(_module(mean, scale, weight, constant) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
