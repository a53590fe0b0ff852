"""What a verdict rests on, in words for tables on a screen or a page."""

from __future__ import annotations

from tasks.records.verdict import ActionTaken, Disagreement, WeakPart

DISAGREEMENT_COLUMNS = ("prediction", "residues", "the map speaks for", "why")
WEAK_PART_COLUMNS = ("weak part", "residues", "room for", "local resolution / Å", "whole model / Å", "mask")
SPEAKS_FOR = {
    "map": "the model",
    "prediction": "the prediction",
    "not built": "the prediction, where nothing was built",
    "not seen": "neither: nothing is seen",
    "undecided": "does not tell",
}
_MOST_STRETCHES = 4


def disagreement_words(one: Disagreement) -> list[str]:
    """In the order of `DISAGREEMENT_COLUMNS`."""
    return [f"{one.chain}/{one.first}-{one.last}", str(one.n_residues), SPEAKS_FOR[one.side], one.why]


def weak_part_words(part: WeakPart) -> list[str]:
    """In the order of `WEAK_PART_COLUMNS`."""
    return [
        few_words(part.residues), str(part.n_residues), f"{part.n_unbuilt} more" if part.n_unbuilt else "",
        f"{part.resolution_angstrom:.1f}", f"{part.rest_angstrom:.1f}", part.mask,
    ]  # fmt: skip


def action_words(action: ActionTaken) -> str:
    """What was done about an earlier verdict, and whether it is kept."""
    told = f"After a first verdict, {action.decision}: {action.what}"
    if action.model is None:
        return told
    return f"{told}; models/{action.model} is {'kept' if action.is_kept else 'no better, and not taken'}"


def few_words(stretches: tuple[str, ...], most: int = _MOST_STRETCHES) -> str:
    """The first of them, and how many more there are."""
    more = len(stretches) - most
    return ", ".join(stretches[:most]) + (f" and {more} more" if more > 0 else "")
