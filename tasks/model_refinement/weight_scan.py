"""How much the map weighs against geometry: the half map that was left out decides, within bounds of sane geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernels.models.atomic_model import AtomicModel
from tasks.model_refinement.evidence import Evidence
from tasks.model_refinement.servalcat import Effort, Refined, refined

_FACTOR = 0.35
"""From one weight to the next lower one; the angles' deviation falls by about a third."""
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
    most_angle_rmsd_deg: float = 1.6,
    effort: Effort = Effort(),  # noqa: B008 (frozen)
) -> ScannedRefinement:
    """Refine at falling weights, from servalcat's own estimate, and keep the best.

    With half maps each weight is tried against one half, and the agreement with the other decides among those
    whose angles deviate by no more than ``most_angle_rmsd_deg``; the last run sees both. With one map nothing is
    left to decide, and the largest weight that keeps the geometry is taken.
    """

    def attempt(weight: float | None) -> Refined:
        return refined(model, evidence, library, weight, evidence.is_halved, effort)

    results = _scan(attempt, most_angle_rmsd_deg, evidence.is_halved)
    best = _best(results, most_angle_rmsd_deg)
    trials = tuple(Trial.of(result) for result in results)
    if evidence.is_halved:
        best = refined(model, evidence, library, best.weight, False, effort)
    return ScannedRefinement(best, trials)


def _scan(attempt: Callable[[float | None], Refined], most_angle_rmsd_deg: float, has_free_half: bool) -> list[Refined]:
    results = [attempt(None)]
    while len(results) < _MOST_TRIALS:
        last = results[-1]
        if _is_sane(last, most_angle_rmsd_deg) and (not has_free_half or _is_past_best(results)):
            break
        results.append(attempt(last.weight * _FACTOR))
    return results


def _is_past_best(results: list[Refined]) -> bool:
    """Whether the free agreement has begun to fall."""
    free = [result.fsc_average_free or 0.0 for result in results]
    return len(free) > 1 and free[-1] < max(free[:-1])


def _best(results: list[Refined], most_angle_rmsd_deg: float) -> Refined:
    sane = [result for result in results if _is_sane(result, most_angle_rmsd_deg)]
    if not sane:  # geometry that no weight mends: the tightest one does least harm
        return results[-1]
    return max(sane, key=lambda result: (result.fsc_average_free or 0.0, result.weight))


def _is_sane(result: Refined, most_angle_rmsd_deg: float) -> bool:
    return result.angle_rmsd_deg <= most_angle_rmsd_deg and result.bond_rmsz <= _LOOSEST_BOND_RMSZ
