"""When classes and maps of a running session are renewed: decided by counting particles."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from tasks.records.session import StageParams
from tasks.stores.upkeep.counts import SessionCounts

_FEWEST = 20
"""Particles below which nothing is made of them, not even at the end of a session."""


class RenewalParams(StageParams):
    """When a running session's classes and maps are made, and made anew."""

    first_classes_at: int = Field(default=2_000, ge=_FEWEST)
    """Extracted particles."""
    classes_growth: float = Field(default=2.0, gt=1)
    """How many times more extracted particles than the last classes had renew them."""
    first_map_at: int = Field(default=1_500, ge=_FEWEST)
    """Selected particles; more than `build_initial_map.n_particles` do not better a first map."""
    map_growth: float = Field(default=2.0, gt=1)
    """How many times more selected particles give a first map that did not convince another try."""
    first_refinement_at: int = Field(default=5_000, ge=_FEWEST)
    """Selected particles."""
    refinement_growth: float = Field(default=1.5, gt=1)
    """How many times more selected particles than the last refinement had renew it."""


@dataclass(frozen=True)
class Decision:
    """Whether something is due, and why in words."""

    is_due: bool
    reason: str


def classes_due(counts: SessionCounts, policy: RenewalParams, is_final: bool = False) -> Decision:
    """Whether 2D classes are to be made from the particles that are extracted now."""
    return _by_growth(
        "extracted", counts.n_extracted, counts.n_classified, policy.first_classes_at, policy.classes_growth, is_final
    )


def first_map_due(counts: SessionCounts, policy: RenewalParams, is_final: bool = False) -> Decision:
    """Whether a first map is to be built from the selected particles: there is none, or none that convinces."""
    if counts.is_map_convincing and not is_final:
        return Decision(False, "there is a convincing one")
    return _by_growth(
        "selected", counts.n_selected, counts.n_mapped, policy.first_map_at, policy.map_growth, is_final
    )  # fmt: skip


def refinement_due(counts: SessionCounts, policy: RenewalParams, is_final: bool = False) -> Decision:
    """Whether the selected particles are to be refined; a map that does not convince waits for the session's end."""
    if not counts.n_mapped:
        return Decision(False, "there is no first map")
    if not counts.is_map_convincing and not is_final:
        return Decision(False, "the first map is not convincing: its restarts did not agree")
    return _by_growth(
        "selected", counts.n_selected, counts.n_refined, policy.first_refinement_at, policy.refinement_growth, is_final
    )


def _by_growth(what: str, n_now: int, n_last: int, first_at: int, growth: float, is_final: bool) -> Decision:
    now = f"{n_now:,} particles {what}"
    if is_final:
        if n_now < _FEWEST:
            return Decision(False, f"{now}, expected at least {_FEWEST}")
        return Decision(True, f"the session has ended with {now}, {n_last:,} at the last")
    if not n_last:
        return Decision(n_now >= first_at, f"{now}, the first at {first_at:,}")
    return Decision(n_now >= growth * n_last, f"{now}, {n_last:,} at the last, again at {growth * n_last:,.0f}")
