"""What the detection network finds in real maps, with the weights that come with the project.

Cα are matched one-to-one within 2 Å (`kernels.scores.matched_points`). Recall counts the residues of the deposited
model. Precision counts candidates above a probability of 0.5 that lie within 4 Å of an atom of that model: the maps
are cut-outs, and what stands beside the model is known in part only; of these candidates those that lie on known
surroundings (symmetric copies, the rest of the chain) are left out as well. Types are scored at matched residues.
Intervals are of 1,000 bootstrap samples of residues, 95 %. The maps are test data: nothing was tuned on them, and
relatives of their proteins were not trained on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from torch import Tensor

from kernels.models.secondary_structure import secondary_structure
from kernels.scores import matched_points
from tasks.building.detector import residue_networks
from tests.benchmarks.estimates import Estimate, Line, estimate, share
from tests.truth.real_maps import REAL_DATA, RealMap, apoferritin, integrin, vp6

MAPS = (apoferritin, vp6, integrin)
_RADIUS_ANGSTROM = 2.0
_NEAR_ANGSTROM = 4.0
_THRESHOLD = 0.5


@dataclass(frozen=True)
class DetectionFigures:
    """Of one map."""

    name: str
    f1: Estimate
    precision: float
    recall: float
    error_angstrom: float
    """Median distance of matched Cα."""
    top: Tensor
    """(matched residue, 3) whether its amino acid is the first, second or third most probable one."""
    structure: float
    """Share of matched residues whose most probable secondary structure is that of the model."""
    cpu_seconds: float

    @property
    def top_1(self) -> Estimate:
        """%"""
        return share(self.top[:, 0])

    @property
    def top_3(self) -> Estimate:
        """%"""
        return share(self.top.any(-1))


def figures(real: RealMap, weights: str | None = None) -> DetectionFigures:
    """Detect in a map and compare."""
    networks = residue_networks(weights)
    started = time.process_time()
    found = networks.detect(real.grid).protein
    seconds = time.process_time() - started
    true = real.model.positions("CA")[:, 0]
    is_counted = found.confidence > _THRESHOLD
    alpha = found.alpha_angstrom[is_counted]
    match = matched_points(alpha, true, _RADIUS_ANGSTROM)
    is_hit = match >= 0
    near = _distance(alpha, real.model.coordinates_angstrom) < _NEAR_ANGSTROM
    is_known = _distance(alpha, real.surroundings.positions("CA")[:, 0]) < _RADIUS_ANGSTROM
    n_false = int((near & ~is_hit & ~is_known).sum())
    top = found.amino_acid[is_counted][is_hit].topk(3, dim=-1).indices == real.model.amino_acid[match[is_hit]][:, None]
    is_found = torch.zeros(len(true), dtype=torch.bool)
    is_found[match[is_hit]] = True
    return DetectionFigures(
        real.name,
        estimate(lambda chosen: _f1(is_found[chosen], n_false, len(true)), len(true)),
        float(is_hit.sum() / (is_hit.sum() + n_false)),
        float(is_found.float().mean()),
        float((alpha[is_hit] - true[match[is_hit]]).norm(dim=-1).median()),
        top,
        _structure(real, found.secondary_structure[is_counted][is_hit], match[is_hit]),
        seconds,
    )


def _distance(positions: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(positions, others[~others.isnan().any(-1)]).amin(1)


def _f1(is_found: Tensor, n_false: int, n_true: int) -> float:
    n_right = int(is_found.sum())
    return 2 * n_right / (n_right + n_false + n_true)


def _structure(real: RealMap, told: Tensor, match: Tensor) -> float:
    truth = secondary_structure(real.model.positions("N", "CA", "C", "O"), real.model.is_linked())
    return float((told.argmax(-1) == truth[match]).float().mean())


def table(rows: list[DetectionFigures]) -> str:
    """In Markdown."""
    lines = [
        "| map | Cα F1 (95 %) | precision | recall | Cα error | type top-1 (95 %) | top-3 | structure | CPU-s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        f1, first = row.f1, row.top_1
        lines.append(
            f"| {row.name} | {f1.value:.3f} ({f1.low:.2f} to {f1.high:.2f}) | {row.precision:.3f} | {row.recall:.3f} |"
            f" {row.error_angstrom:.2f} Å | {first.value:.0f} % ({first.low:.0f} to {first.high:.0f}) |"
            f" {row.top_3.value:.0f} % | {row.structure:.3f} | {row.cpu_seconds:.1f} |"
        )
    return "\n".join(lines)


def lines(data: Path) -> list[Line]:
    """Of the real maps, those to 3.5 Å with what is to be reached, one by one and by all of their residues."""
    found, fine = [], []
    for read in MAPS:
        real = read(data)
        row, is_fine = figures(real), read is not integrin
        found += [
            Line("Cα F1", row.name, row.f1, reach=0.92 if is_fine else None),
            Line("amino-acid type, top-1", row.name, row.top_1, "%", 45 if is_fine else None, digits=0),
            Line("amino-acid type, top-3", row.name, row.top_3, "%", 70 if is_fine else None, digits=0),
        ]
        if is_fine:
            fine.append(row.top)
    top = torch.cat(fine)
    where = f"{len(top)} residues of both maps up to 3.5 Å"
    return [
        *found,
        Line("amino-acid type, top-1", where, share(top[:, 0]), "%", 45, digits=1),
        Line("amino-acid type, top-3", where, share(top.any(-1)), "%", 70, digits=1),
    ]


def main(data: Path = REAL_DATA, weights: str | None = None) -> None:
    """Print the table for the real maps in DATA."""
    print(table([figures(read(data), weights) for read in MAPS]))


if __name__ == "__main__":
    typer.run(main)
