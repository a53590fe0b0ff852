"""Write `kernels.models.reliability_coefficients` from errors planted in models of known structures.

    python -m tasks.validation.reliability_fit FOLDER...

Each structure is shown by simulated maps of 2.5 to 5 Å, and one residue in six of its model is made wrong. Clusters of
relatives that `tasks.training.structures` holds out are not fitted; how well they are told right from wrong is printed.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from kernels.models import reliability_coefficients
from kernels.models.assessment import Assessment, assess, own_evidence
from kernels.models.atomic_model import AtomicModel
from kernels.models.reliability import FEATURES, features
from kernels.models.residues import AMINO_ACIDS, PROTEIN_BACKBONE
from kernels.models.side_chain_profile import amino_acid_evidence, evidence_features, register_shift_evidence
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
_RIDGE_AMINO_ACIDS = 1e-4


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model with planted errors, and what was judged of it."""

    model: AtomicModel
    error: Tensor
    """(residue,) index into `planted_errors.KINDS`, or `UNCLEAR`."""
    found: Assessment
    is_held_out: bool


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


def judged_model(truth: AtomicModel, resolution_angstrom: float, seed: int, is_held_out: bool) -> JudgedModel:
    """One simulated map of a structure, one model with errors, and what is judged of it."""
    generator = torch.Generator().manual_seed(seed)
    grid = simulate_map(truth, resolution_angstrom, generator)
    planted = plant_errors(truth, grid, _SHARE_WRONG, generator)
    resolution = torch.full((truth.n_residues,), resolution_angstrom, dtype=torch.float64)
    found = assess(planted.model, grid, resolution, ramachandran_tables())
    return JudgedModel(planted.model, planted.error, found, is_held_out)


def judged_models(folders: Sequence[Path], n_maps: int) -> Iterator[JudgedModel]:
    """Models of all structures below the folders that have a fitting size, several maps of each."""
    paths = {f"{folder.name}/{path.name}": path for folder in folders for path in sorted(folder.rglob("*"))}
    for number, structure in enumerate(read_structures(folders)):
        truth = protein_to_plant_in(read_structure(paths[structure.name]))
        if not _FEWEST <= truth.n_residues <= _MOST:
            continue
        for turn in range(n_maps):
            seed = 1000 * turn + number
            low, high = _RESOLUTIONS_ANGSTROM
            resolution = low + (high - low) * ((seed * 0.6180339887) % 1)
            yield judged_model(truth, resolution, seed, structure.is_held_out)
        print(f"{structure.name}: {truth.n_residues} residues", flush=True)


def examples_of(judged: JudgedModel, weights: Tensor, shares: Tensor) -> Examples:
    """Residues of a model with what is told of them, the evidence for amino acids by given weights and shares."""
    found = judged.found
    evidence = amino_acid_evidence(found.profile, found.resolution_angstrom, weights, shares)
    found = replace(
        found,
        side_chain_fit=own_evidence(evidence, judged.model),
        register_shift=register_shift_evidence(evidence, judged.model),
    )
    is_held_out = torch.full(judged.error.shape, judged.is_held_out, dtype=torch.bool)
    told = Examples(features(found), judged.error, found.resolution_angstrom, is_held_out)
    return told.take(judged.error != UNCLEAR)


def joined(parts: Sequence[Examples]) -> Examples:
    """Examples of several models."""
    return Examples(*(torch.cat([getattr(part, name) for part in parts]) for name in Examples.__dataclass_fields__))


def fitted_amino_acids(judged: Sequence[JudgedModel]) -> tuple[Tensor, Tensor]:
    """Weights and shares for `amino_acid_evidence`, from the residues that are right: a multinomial regression."""
    rows, numbers = [], []
    for one in judged:
        right = one.error == 0
        rows.append(evidence_features(one.found.profile, one.found.resolution_angstrom)[right])
        numbers.append(one.model.amino_acid[right])
    features_of, amino_acid = torch.cat(rows), torch.cat(numbers)
    shares = torch.bincount(amino_acid, minlength=len(AMINO_ACIDS)).double() / len(amino_acid)
    weights = torch.zeros(features_of.shape[1], len(AMINO_ACIDS), dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        fit = torch.nn.functional.cross_entropy(features_of @ weights, amino_acid)
        return fit + _RIDGE_AMINO_ACIDS * weights.square().sum()

    _minimise(loss, [weights])
    return weights.detach(), shares


def fitted(examples: Examples) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean and scale of the features, and weights and constant of the logistic regression for being right."""
    mean, scale = examples.features.mean(0), examples.features.std(0).clamp(min=1e-6)
    scaled = (examples.features - mean) / scale
    right = (examples.error == 0).double()
    weight = torch.zeros(scaled.shape[1], dtype=torch.float64, requires_grad=True)
    constant = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        logit = scaled @ weight + constant
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logit, right)
        return fit + _RIDGE * weight.square().sum()

    _minimise(loss, [weight, constant])
    return mean, scale, weight.detach(), float(constant.detach())


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]


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


def _module(mean: Tensor, scale: Tensor, weight: Tensor, constant: float, weights: Tensor, shares: Tensor) -> str:
    return "\n".join(
        [
            '"""Coefficients of `kernels.models.reliability`, written by `tasks.validation.reliability_fit`."""',
            "",
            "from __future__ import annotations",
            "",
            "# fmt: off",
            *coefficient_lines(mean, scale, weight, constant),
            "AMINO_ACID_SHARES: tuple[float, ...] = (",
            *(f"    {share:.5f}," for share in shares.tolist()),
            ")",
            "AMINO_ACID_WEIGHTS: tuple[tuple[float, ...], ...] = (",
            "    # a row for each of `side_chain_profile.evidence_features`",
            *(_row(values, 4) for values in weights),
            ")",
            "",
        ]
    )


def coefficient_lines(mean: Tensor, scale: Tensor, weight: Tensor, constant: float) -> list[str]:
    """Of a module, for `kernels.models.reliability.regressed`."""
    return [
        "COEFFICIENTS: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float] = (",
        "    # mean, scale, weight of each feature; constant",
        *(_row(values, 6) for values in (mean, scale, weight)),
        f"    {constant:.6g},",
        ")",
    ]


def _row(values: Tensor, digits: int) -> str:
    lines = textwrap.wrap(", ".join(f"{v:.{digits}g}" for v in values.tolist()), 110)
    return "    (\n" + "\n".join(f"        {line}" for line in lines) + ",\n    ),"


def main(folders: Sequence[str], n_maps: int = 1) -> None:
    """Fit on what is not held out, report on what is, and write the coefficients."""
    torch.set_num_threads(1)
    finish(list(judged_models([Path(folder) for folder in folders], n_maps)))


def finish(judged: Sequence[JudgedModel]) -> None:
    """Fit, report and write, of models that were judged."""
    weights, shares = fitted_amino_acids([one for one in judged if not one.is_held_out])
    examples = joined([examples_of(one, weights, shares) for one in judged])
    mean, scale, weight, constant = fitted(examples.take(~examples.is_held_out))
    for name, value in sorted(zip(FEATURES, weight.tolist()), key=lambda pair: -abs(pair[1])):
        print(f"{value:8.3f}  {name}")
    for which, chosen in (("fitted", ~examples.is_held_out), ("held out", examples.is_held_out)):
        part = examples.take(chosen)
        probability = torch.sigmoid(((part.features - mean) / scale) @ weight + constant)
        print(f"{which}: " + "\n  ".join(report(part, probability)))
    path = Path(reliability_coefficients.__file__)
    path.write_text(_module(mean, scale, weight, constant, weights, shares))


if __name__ == "__main__":
    main(sys.argv[1:])
