"""What a verdict asks for, and what came of doing it, in words."""

from __future__ import annotations

from tasks.records.session import StageReport
from tasks.records.verdict import SessionVerdict
from tasks.stores.session_store import SessionStore
from tasks.verdict.decision import OF_PREDICTION


def own_stretches(verdict: SessionVerdict) -> tuple[str, ...]:
    """Those of the model that are to be built anew."""
    return tuple(told for told in verdict.rebuild if not told.endswith(OF_PREDICTION))


def predicted_stretches(verdict: SessionVerdict) -> tuple[str, ...]:
    """Those of the prediction that are to be taken."""
    return tuple(told for told in verdict.rebuild if told.endswith(OF_PREDICTION))


def part_told(store: SessionStore, name: str) -> tuple[bool, str]:
    """Whether the map of a part is better than that of the whole is there, and by how much."""
    figures = store.product(f"maps/{name}").done_record(f"map {name!r}", "run refine_part").figures
    before, after = (_angstrom(figures[of]) for of in ("whole_resolution_angstrom", "resolution_angstrom"))
    told = (
        f"maps/{name}: the part reaches {after} by itself, {before} in the whole; its FSC changes by"
        f" {figures['fsc_gain']:+.3f} (± {figures['fsc_gain_by_chance']:.3f}); it turns by"
        f" {figures['turn_rms_deg']:.1f}° and moves by {figures['move_rms_angstrom']:.1f} Å (rms)"
    )
    is_better = bool(figures["is_better"])
    return is_better, told if is_better else f"{told}: no better than the whole, which stays"


def _angstrom(value: object) -> str:
    return "no resolution" if value is None else f"{value:.2f} Å"


def chosen_round(session_url: str) -> str:
    """Name of the model that ``models/chosen`` is."""
    record = SessionStore.open(session_url).product("models/chosen").done_record("the chosen model")
    return str(record.figures["best_round"])


def reasons_against(report: StageReport) -> str:
    """Why a stage made nothing."""
    return f"{report.stage}: {'; '.join([*report.failed.values(), *report.skipped.values()])}"
