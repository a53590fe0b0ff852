"""What was placed beside the chains of a model, and density that nothing explains, for the report."""

from __future__ import annotations

from html import escape

from tasks.ligands.tables import PLACED_COLUMNS, UNEXPLAINED_COLUMNS, placed_words, unexplained_words
from tasks.plots import page
from tasks.records.placement import Placement

_SHOWN_WATERS = 200


def placement_tables(found: Placement) -> str:
    """Ligands and ions, those that were asked for in vain, waters folded away, and what is left."""
    words = escape(f"Ligands, ions and waters ({found.resolution_angstrom:.2f} Å)")
    parts = [f"<h3>{words}</h3>"]
    others = [placed_words(row) for row in found.placed if row.kind != "water"]
    if others:
        parts.append(page.table(PLACED_COLUMNS, others))
    parts += [page.paragraph(f"{one.name} ({one.told}) is not placed: {one.reason}.") for one in found.refused]
    parts.append(page.paragraph(f"{found.water_words}.".capitalize()))
    waters = [placed_words(row) for row in found.placed if row.kind == "water"]
    if waters:
        shown = f", the first {_SHOWN_WATERS}" if len(waters) > _SHOWN_WATERS else ""
        parts.append(page.folded(f"Waters{shown}", page.table(PLACED_COLUMNS, waters[:_SHOWN_WATERS])))
    if found.unexplained:
        parts.append("<h3>Unexplained density</h3>")
        parts.append(page.table(UNEXPLAINED_COLUMNS, [unexplained_words(one) for one in found.unexplained]))
    return "".join(parts)
