"""How much the map weighs against geometry: the half map that was left out decides, within bounds of sane geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernels.models.atomic_model import AtomicModel
from tasks.model_refinement.evidence import Evidence
from tasks.model_refinement.servalcat import Effort, Refined, refined

_FIRST_WEIGHT, _FACTOR = 0.3, 2.0
"""Where the scan begins and its step; servalcat's own estimates, 0.7 to 1.5, leave angles 2 to 3 degrees off."""
_MOST_TRIALS = 5
_LOOSEST_BOND_RMSZ = 1.05


@dataclass(frozen=True)
class Trial:
    """One weight and what came of it."""

    weight: float
    bond_rmsz: float
    angle_rmsd_deg: float
    fsc_average: float
    fsc_average_free: float | None
    """None without half maps."""

    @classmethod
    def of(cls, result: Refined) -> Trial:
        return cls(result.weight, result.bond_rmsz, result.angle_rmsd_deg, result.fsc_average, result.fsc_average_free)


@dataclass(frozen=True, eq=False)
class ScannedRefinement:
    """The refinement at the weight that was chosen, and what it was chosen from."""

    result: Refined
    trials: tuple[Trial, ...]


def refined_at_best_weight(
    model: AtomicModel,
    evidence: Evidence,
    library: Path,
    most_angle_rmsd_deg: float = 1.4,
    torsion_sigma_deg: float | None = 5.0,
    effort: Effort = Effort(),  # noqa: B008 (frozen)
) -> ScannedRefinement:
    """Refine at several weights and keep the best.

    With half maps each weight is tried against one half, and the agreement with the other decides among those
    whose angles deviate by no more than ``most_angle_rmsd_deg``; the last run sees both. With one map nothing is
    left to decide, and the largest weight that keeps the geometry is taken. ``torsion_sigma_deg``: see `refined`.
    """

    def attempt(weight: float) -> Refined:
        return refined(model, evidence, library, weight, evidence.is_halved, torsion_sigma_deg, effort)

    results = _scan(attempt, most_angle_rmsd_deg)
    best = _best(results, most_angle_rmsd_deg)
    trials = tuple(Trial.of(result) for result in results)
    if evidence.is_halved:
        best = refined(model, evidence, library, best.weight, False, torsion_sigma_deg, effort)
    return ScannedRefinement(best, trials)


def _scan(attempt: Callable[[float], Refined], most_angle_rmsd_deg: float) -> list[Refined]:
    """Looser weights as long as they are sane and agree better, then tighter ones in the same way."""
    results = [attempt(_FIRST_WEIGHT)]
    if _is_sane(results[0], most_angle_rmsd_deg):
        while len(results) < _MOST_TRIALS:
            results.append(attempt(results[-1].weight * _FACTOR))
            if _best(results, most_angle_rmsd_deg) is not results[-1]:
                break
    if _best(results, most_angle_rmsd_deg) is results[0]:
        tighter = [results[0]]
        while len(results) < _MOST_TRIALS:
            tighter.append(attempt(tighter[-1].weight / _FACTOR))
            results.append(tighter[-1])
            if _best(results, most_angle_rmsd_deg) is not tighter[-1]:
                break
    return results


def _best(results: list[Refined], most_angle_rmsd_deg: float) -> Refined:
    sane = [result for result in results if _is_sane(result, most_angle_rmsd_deg)]
    if not sane:  # geometry that no weight mends: the tightest one does least harm
        return min(results, key=lambda result: result.weight)
    return max(sane, key=lambda result: (result.fsc_average_free or 0.0, result.weight))


def _is_sane(result: Refined, most_angle_rmsd_deg: float) -> bool:
    return result.angle_rmsd_deg <= most_angle_rmsd_deg and result.bond_rmsz <= _LOOSEST_BOND_RMSZ
