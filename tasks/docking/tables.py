"""What was docked and what was not, in words for tables on a screen or a page."""

from __future__ import annotations

from tasks.records.docking import NotPlaced, PlacedBody

BODY_COLUMNS = ("chain", "structure", "part", "residues", "probability", "correlation", "contrast", "inside")
BODY_NOTES = (
    "Probability: that it lies within 4 Å of where it belongs",
    "correlation: with the map inside of its mask, 1 at most",
    "contrast: by how much that exceeds the best wrong pose at the same place",
    "inside: its residues above the contour of the map",
)


def body_words(row: PlacedBody) -> list[str]:
    """In the order of `BODY_COLUMNS`."""
    return [
        ",".join(row.chains),
        f"{row.source}, copy {row.copy_number}",
        row.part,
        f"{row.first} to {row.last}, {row.n_residues}",
        f"{row.probability:.2f}",
        f"{row.correlation:.2f}",
        f"{row.contrast:+.2f}",
        f"{row.share_inside:.0%}",
    ]


def not_placed_words(one: NotPlaced) -> str:
    """What is lacking, behind its name."""
    copies = "" if one.n_copies is None else f", {one.n_copies} {'copy' if one.n_copies == 1 else 'copies'}"
    return f"({one.part}{copies}) is not placed: {one.reason}"


def untrusted_words(n_untrusted: int) -> str:
    return f"{n_untrusted} residues of predictions are left out: their engine is not sure of them"
