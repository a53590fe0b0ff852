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
from tests.truth.real_maps import REAL_DATA, RealMap, apoferritin, integrin, vp6

MAPS = (apoferritin, vp6, integrin)
_RADIUS_ANGSTROM = 2.0
_NEAR_ANGSTROM = 4.0
_THRESHOLD = 0.5
_N_SAMPLES = 1000


@dataclass(frozen=True)
class DetectionFigures:
    """Of one map; intervals are (low, high)."""

    name: str
    f1: float
    f1_interval: tuple[float, float]
    precision: float
    recall: float
    error_angstrom: float
    """Median distance of matched Cα."""
    top_1: float
    top_1_interval: tuple[float, float]
    top_3: float
    structure: float
    """Share of matched residues whose most probable secondary structure is that of the model."""
    cpu_seconds: float


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
    f1_samples = torch.tensor([_f1(sample, n_false, len(true)) for sample in _resampled(is_found)])
    top_samples = torch.stack([sample.float().mean() for sample in _resampled(top[:, 0])])
    return DetectionFigures(
        real.name,
        _f1(is_found, n_false, len(true)),
        _interval(f1_samples),
        float(is_hit.sum() / (is_hit.sum() + n_false)),
        float(is_found.float().mean()),
        float((alpha[is_hit] - true[match[is_hit]]).norm(dim=-1).median()),
        float(top[:, 0].float().mean()),
        _interval(top_samples),
        float(top.any(-1).float().mean()),
        _structure(real, found.secondary_structure[is_counted][is_hit], match[is_hit]),
        seconds,
    )


def _distance(positions: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(positions, others[~others.isnan().any(-1)]).amin(1)


def _f1(is_found: Tensor, n_false: int, n_true: int) -> float:
    n_right = int(is_found.sum())
    return 2 * n_right / (n_right + n_false + n_true)


def _resampled(values: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [values[torch.randint(len(values), (len(values),), generator=generator)] for _ in range(_N_SAMPLES)]


def _interval(samples: Tensor) -> tuple[float, float]:
    low, high = samples.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


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
        f1, first = (f"{low:.2f} to {high:.2f}" for low, high in (row.f1_interval, row.top_1_interval))
        lines.append(
            f"| {row.name} | {row.f1:.3f} ({f1}) | {row.precision:.3f} | {row.recall:.3f} | {row.error_angstrom:.2f} Å"
            f" | {row.top_1:.3f} ({first}) | {row.top_3:.3f} | {row.structure:.3f} | {row.cpu_seconds:.1f} |"
        )
    return "\n".join(lines)


def main(data: Path = REAL_DATA, weights: str | None = None) -> None:
    """Print the table for the real maps in DATA."""
    print(table([figures(read(data), weights) for read in MAPS]))


if __name__ == "__main__":
    typer.run(main)
