"""What was placed and what is left, in words for tables."""

from __future__ import annotations

from tasks.records.placement import Place, PlacedResidue, UnexplainedDensity

PLACED_COLUMNS = ("placed", "at x, y, z / Å", "height / σ", "weaker half / σ", "share", "probability", "nearest", "Å")
UNEXPLAINED_COLUMNS = ("at x, y, z / Å", "peak / σ", "volume / Å³", "nearest", "Å", "")


def placed_words(row: PlacedResidue) -> list[str]:
    """In the order of `PLACED_COLUMNS`."""
    return [
        f"{row.chain}/{row.name}{row.number}", place_words(row.place_angstrom), f"{row.sigma:.1f}",
        "" if row.half_sigma is None else f"{row.half_sigma:.1f}", f"{row.share:.2f}",
        "" if row.probability is None else f"{row.probability:.2f}", row.neighbour,
        "" if row.distance_angstrom is None else f"{row.distance_angstrom:.1f}",
    ]  # fmt: skip


def unexplained_words(one: UnexplainedDensity) -> list[str]:
    """In the order of `UNEXPLAINED_COLUMNS`."""
    return [
        place_words(one.place_angstrom), f"{one.peak_sigma:.1f}",
        f"{one.volume_angstrom3:.0f}" if one.volume_angstrom3 else "", one.neighbour,
        f"{one.distance_angstrom:.1f}", one.words,
    ]  # fmt: skip


def place_words(place: Place) -> str:
    """x, y and z of a place (z, y, x)."""
    z, y, x = place
    return f"{x:.1f}, {y:.1f}, {z:.1f}"
