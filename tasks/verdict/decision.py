"""One decision out of all that is known of a model, a prediction, a map and its particles."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.records.model import ModelValidation
from tasks.records.verdict import Decision, Disagreement, MissingData, WeakPart
from tasks.verdict.missing_data import EVEN_ENOUGH, particle_words

_FOR_PREDICTION = ("prediction", "not built")
OF_PREDICTION = " of the prediction"
"""Behind stretches of the prediction, where others are of the model."""
_FEWEST_TO_REBUILD_SHARE = 0.03
"""Of the residues: what is less does not hold a deposition up."""
TRACEABLE_ANGSTROM = 4.0
"""From here on chains are built de novo; in coarser maps helices and strands are seen, and structures are docked."""
_AT_THE_LIMIT = 1.15
"""Of the finest detail that images hold: their sampling, not their number, keeps the map there."""


def to_rebuild(found: ModelValidation, told: Sequence[Disagreement]) -> list[str]:
    """Stretches that the validation would have built anew, and those that a prediction fits better or fills."""
    doubted = [f"{r.chain}/{r.first}-{r.last}" for r in found.regions if r.verdict == "rebuild"]
    better = [f"{d.chain}/{d.first}-{d.last}{OF_PREDICTION}" for d in told if d.side in _FOR_PREDICTION]
    return doubted + better


def decided(
    found: ModelValidation,
    told: Sequence[Disagreement],
    parts: Sequence[WeakPart],
    missing: MissingData,
    goal_angstrom: float | None,
) -> tuple[Decision, str]:
    """The first of these that holds, with the reason.

    *Rebuild here* where a prediction fits the map better than the model, or fills what was not built, for 3 % of the
    residues or more; or where the validation says so, unless most of what it doubts lies in a part that is worse
    resolved than the rest, and there are particles to resolve it with. *Refine the map here* where there is such a
    part, and the model is not trusted as it stands, or the goal is not reached. *Collect more data* where the goal is
    not reached, the views are uneven, or the validation finds too little supported. *Deposit* otherwise.
    """
    gained = sum(d.n_residues for d in told if d.side in _FOR_PREDICTION)
    if gained >= _FEWEST_TO_REBUILD_SHARE * found.n_residues:
        places = ", ".join(f"{d.chain}/{d.first}-{d.last}" for d in told if d.side in _FOR_PREDICTION)
        return "rebuild here", f"the map speaks for the prediction at {gained} residues: {places}"
    is_maps_doing = bool(parts) and missing.n_particles is not None and _is_most_doubted(parts[0], found)
    if found.decision == "rebuild" and not is_maps_doing:
        return "rebuild here", found.decision_reason
    short = goal_angstrom is not None and found.resolution_angstrom > goal_angstrom
    if parts and (short or found.decision != "deposit"):
        part = parts[0]
        room = f" and density for {part.n_unbuilt} more" if part.n_unbuilt else ""
        return "refine the map here", (
            f"{part.n_residues} residues ({', '.join(part.residues[:4])}){room} are seen at"
            f" {part.resolution_angstrom:.1f} Å, the model as a whole at {part.rest_angstrom:.1f} Å; {part.mask} is the"
            " mask for a local refinement"
        )
    reasons = []
    if short:
        reasons.append(f"the map reaches {found.resolution_angstrom:.2f} Å, the goal is {goal_angstrom:g} Å")
    if missing.evenness is not None and missing.evenness < EVEN_ENOUGH:
        reasons.append(missing.views or "")
    if found.decision == "collect more":
        reasons.append(found.decision_reason)
    if reasons:
        return "collect more data", "; ".join([*reasons, *particle_words(missing)])
    return "deposit", found.decision_reason


def _is_most_doubted(part: WeakPart, found: ModelValidation) -> bool:
    """Whether what is not trusted, or not built, is of a part and what touches it more than of all else."""
    n_doubted = sum(row.is_doubted for row in found.residues)
    return part.n_doubted + part.n_unbuilt > n_doubted - part.n_doubted


def decided_on_map(
    resolution_angstrom: float | None, missing: MissingData, goal_angstrom: float | None
) -> tuple[Decision, str]:
    """While there is no model; with the reason.

    *Collect more data* where the goal, or without one a map that a chain can be traced in, is not reached, or the views
    are uneven. *Refine the map here* where the sampling of the images keeps the map from it. *Build a model* otherwise.
    """
    if resolution_angstrom is None:
        return "collect more data", "; ".join(["half maps agree to no resolution", *particle_words(missing)])
    reached = f"the map reaches {resolution_angstrom:.2f} Å"
    aim = goal_angstrom or TRACEABLE_ANGSTROM
    reasons = []
    if resolution_angstrom > aim:
        limit = missing.limit_angstrom or 0.0
        if aim < limit and resolution_angstrom <= _AT_THE_LIMIT * limit:
            return "refine the map here", (
                f"{reached}, and its images hold nothing beyond {limit:.2f} Å; refine images of finer sampling"
                " (`extract_particles.output_box_px`)"
            )
        told = "the goal is" if goal_angstrom else "chains can be traced from"
        reasons.append(f"{reached}, {told} {aim:g} Å" + ("" if goal_angstrom else " on"))
    if missing.evenness is not None and missing.evenness < EVEN_ENOUGH:
        reasons.append(missing.views or "")
    if reasons:
        return "collect more data", "; ".join([*reasons, *particle_words(missing)])
    goal = "" if goal_angstrom is None else f", the goal of {goal_angstrom:g} Å is reached"
    views = "" if missing.views is None else f"; {missing.views}"
    return "build a model", f"{reached}{goal}{views}"
