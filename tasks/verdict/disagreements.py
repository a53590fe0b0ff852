"""Residues of a prediction in rows, by whom the map speaks for, with the reason."""

from __future__ import annotations

from itertools import groupby

import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.disagreement import AGREE, SIDES, Compared, sides
from kernels.models.residue_ranges import residue_number, residue_ranges
from tasks.records.verdict import Disagreement
from tasks.verdict.comparing import ComparedPrediction

_SHORTEST = 3
"""Residues: single ones disagree by chance."""
_SURE_PLDDT = 70.0


def disagreements(model: AtomicModel, built: AtomicModel, beside: ComparedPrediction) -> list[Disagreement]:
    """Of a prediction, in the order of its chains.

    Parameters
    ----------
    model, built
        The predicted one, and that of the map.
    """
    side = sides(beside.compared).tolist()
    told: list[Disagreement] = []
    rows = range(model.n_residues)
    for (chain, kind), group in groupby(rows, key=lambda i: (model.residues[i].chain, side[i])):
        some = list(group)
        if kind != AGREE and len(some) >= _SHORTEST:
            stands = torch.isin(beside.found.match, torch.tensor(some))
            of_model = residue_ranges(built, torch.arange(built.n_residues), stands)
            told.append(_row(model, beside.compared, chain, SIDES[kind], some, of_model))
    return told


def sides_of_model(beside: ComparedPrediction) -> torch.Tensor:
    """(residue,) int64 index into `SIDES` of each residue of the model of the map, -1 where the prediction has none."""
    match = beside.found.match
    return torch.where(match >= 0, sides(beside.compared)[match.clamp(min=0)], -1)


def _row(
    model: AtomicModel, found: Compared, chain: str, side: str, rows: list[int], of_model: tuple[str, ...]
) -> Disagreement:
    def mean(values: torch.Tensor) -> float | None:
        known = values[rows]
        known = known[~known.isnan()]
        return round(float(known.mean()), 3) if len(known) else None

    plddt, built, predicted = mean(found.plddt), mean(found.built), mean(found.predicted)
    return Disagreement(
        chain=chain,
        first=residue_number(model.residues[rows[0]]),
        last=residue_number(model.residues[rows[-1]]),
        n_residues=len(rows),
        side=side,  # type: ignore[arg-type]
        why=_why(side, plddt or 0.0, built, predicted or 0.0),
        lddt=mean(found.lddt),
        plddt=plddt or 0.0,
        built_probability=built,
        predicted_probability=predicted or 0.0,
        of_model=of_model,
    )


def _why(side: str, plddt: float, built: float | None, predicted: float) -> str:
    sure = "the engine is sure of it" if plddt >= _SURE_PLDDT else "the engine itself is not sure of it"
    chances = f"the model is right with {built or 0:.2f}, the prediction with {predicted:.2f}"
    return {
        "map": f"the density fits the model and not the prediction ({chances}); {sure} (pLDDT {plddt:.0f})",
        "prediction": f"the density fits the prediction better ({chances}); {sure} (pLDDT {plddt:.0f})",
        "not built": f"nothing was built, and the density fits the prediction ({predicted:.2f}); {sure}",
        "not seen": f"nothing was built, and the density shows nothing of the prediction ({predicted:.2f}); {sure}"
        + ("" if plddt >= _SURE_PLDDT else ", so it is likely disordered"),
        "undecided": f"the density does not tell ({chances})",
    }[side]
