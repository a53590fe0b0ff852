"""From a trace to a refined model, round by round: built, refined, repaired; every round is kept and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.all_atoms import built_rounds, cleared, judged, linked_by_trace, repaired
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.clashes import find_clashes
from kernels.models.mates import Mates
from kernels.models.torsions import backbone_torsions, ramachandran_class, usual_surprise
from tasks.model_refinement.evidence import Evidence, require_in_map
from tasks.model_refinement.params import RefineModelParams
from tasks.model_refinement.servalcat import Effort, Refined, refined
from tasks.model_refinement.weight_scan import Trial, refined_at_best_weight

_USUAL_SURPRISE = 4.5


@dataclass(frozen=True, eq=False)
class Round:
    """One round's model and what can be said of it."""

    name: str
    model: AtomicModel
    figures: dict[str, Any]


@dataclass(frozen=True, eq=False)
class RefinedRounds:
    """All rounds in the order in which they were made."""

    rounds: tuple[Round, ...]
    best: int
    """Which one to take."""
    trials: tuple[Trial, ...]
    """Weights that were tried."""


def refined_rounds(
    model: AtomicModel,
    sharpened: DensityGrid,
    evidence: Evidence,
    library: Path | None,
    params: RefineModelParams,
    weight: float | None = None,
) -> RefinedRounds:
    """Build, refine at a scanned weight, and repair; a model whose weight is known is refined as it stands.

    Parameters
    ----------
    model
        A trace, or all atoms; what is no amino acid is left as it is until all atoms are refined together.
    sharpened
        The map to build in, in the frame of the model.
    library
        A monomer library that has all residues; without one, all is done in real space.
    weight
        Of the map, where it was scanned before; for a trace, of which no atoms were refined, it is scanned anew.

    Raises
    ------
    ValueError
        Where the model does not lie in the map.
    """
    require_in_map(model, sharpened)
    is_protein, mates = model.amino_acid >= 0, evidence.mates
    rest = model.take_residues(~is_protein)
    protein = model.take_residues(is_protein)
    resolution, effort = (
        evidence.resolution_angstrom,
        Effort(params.n_cycles, params.memory_bytes, params.time_limit_seconds),
    )
    linked = linked_by_trace(protein) if protein.n_residues else torch.zeros(0, dtype=torch.bool)

    def told(name: str, whole: AtomicModel, result: Refined | None = None) -> Round:
        return Round(name, whole, _figures(whole, sharpened, resolution, linked, result, mates))

    is_trace = protein.n_residues > 0 and "CB" not in protein.names
    is_refined_before = params.round > 0 and not is_trace
    if weight is not None and library is not None and is_refined_before:
        result = refined(model, evidence, library, weight, False, params.torsion_sigma_deg, effort)
        return RefinedRounds((told("refined", result.model, result),), 0, ())
    if library is None and is_refined_before:
        mended = repaired(protein, sharpened, resolution, linked, mates).model
        mended = cleared(mended, sharpened, resolution, linked, mates).model
        return RefinedRounds((told("cleared", _with_rest(mended, rest)),), 0, ())
    rounds: list[Round] = []
    start = model
    if params.is_rebuilt and protein.n_residues:
        for number, built in enumerate(built_rounds(protein, sharpened, resolution, params.n_build_rounds, mates)):
            rounds.append(told(f"built_{number + 1}", _with_rest(built.model, rest)))
        start = _least_surprising(rounds).model
    if library is None:
        if not rounds:
            raise ValueError("without a monomer library only proteins can be refined, built anew; give a library")
        n_repairs = params.n_repair_rounds
        for number in range(n_repairs):
            last = rounds[-1].model
            mended = repaired(last.take_residues(last.amino_acid >= 0), sharpened, resolution, linked, mates).model
            rounds.append(told(f"repaired_{number + 1}", _with_rest(mended, rest)))
        last = _least_surprising(rounds).model
        clear = cleared(last.take_residues(last.amino_acid >= 0), sharpened, resolution, linked, mates).model
        rounds.append(told("cleared", _with_rest(clear, rest)))
        return RefinedRounds(tuple(rounds), len(rounds) - 1, ())
    scanned = refined_at_best_weight(
        start, evidence, library, params.most_angle_rmsd_deg, params.torsion_sigma_deg, effort
    )
    rounds.append(told("refined", scanned.result.model, scanned.result))
    finished = [rounds[-1]]
    for number in range(params.n_repair_rounds if params.is_rebuilt and protein.n_residues else 0):
        last = finished[-1].model  # its proteins come first
        mended = repaired(last.take_residues(last.amino_acid >= 0), sharpened, resolution, linked, mates).model
        whole = _with_rest(mended, last.take_residues(last.amino_acid < 0))
        result = refined(whole, evidence, library, scanned.result.weight, False, params.torsion_sigma_deg, effort)
        rounds.append(told(f"repaired_{number + 1}", result.model, result))
        finished.append(rounds[-1])
    best = rounds.index(_least_surprising(finished))
    return RefinedRounds(tuple(rounds), best, scanned.trials)


def _least_surprising(rounds: list[Round]) -> Round:
    return min(rounds, key=lambda found: found.figures["surprise"])


def _with_rest(protein: AtomicModel, rest: AtomicModel) -> AtomicModel:
    return joined([protein, rest]) if rest.n_residues else protein


def _figures(
    model: AtomicModel,
    grid: DensityGrid,
    resolution: float,
    linked: Tensor,
    result: Refined | None,
    mates: Mates | None,
) -> dict[str, Any]:
    protein = model.take_residues(model.amino_acid >= 0)
    found: dict[str, Any] = {"surprise": float("inf")}
    if protein.n_residues:
        surprise = usual_surprise(backbone_torsions(protein), ramachandran_class(protein.amino_acid))
        known = torch.isfinite(surprise)
        found = {
            "surprise": round(judged(protein, grid, resolution, linked, mates).surprise, 1),
            "usual_backbone_share": round(float((surprise[known] < _USUAL_SURPRISE).double().mean()), 4),
            "clashscore": round(find_clashes(model, mates).score, 2),
        }
    if result is not None:
        found |= {
            "weight": round(result.weight, 5),
            "bond_rmsz": round(result.bond_rmsz, 3),
            "angle_rmsd_deg": round(result.angle_rmsd_deg, 3),
            "fsc_average": round(result.fsc_average, 4),
        }
    return found
