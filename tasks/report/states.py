"""States beside each other: what moves between the session's model and those of other states."""

from __future__ import annotations

from html import escape

import numpy as np

from tasks.plots import page
from tasks.plots.states import displacements
from tasks.plots.style import png
from tasks.records.state_comparison import StateComparison
from tasks.report.contents import Contents
from tasks.states.tables import summary_words, tables_of
from tasks.stores.products.comparison_store import read_comparison

_SHOWN_POCKETS = 20


def compared_states(contents: Contents) -> list[str]:
    """Names of the comparisons of the session, in the order in which they were made; without those that expired."""
    records = [(name, contents.record(f"comparisons/{name}")) for name in contents.store.names("comparisons")]
    return [
        name
        for name, record in sorted(records, key=lambda r: r[1].written_at if r[1] else "")
        if record and not record.expired
    ]


def states_section(contents: Contents) -> str:
    """Every comparison with its picture and tables."""
    names = compared_states(contents)
    parts = [_comparison(contents, name, read_comparison(contents.store, name)) for name in names]
    return page.section("states", "States", *(parts or [page.not_yet("no states have been compared")]))


def _comparison(contents: Contents, name: str, found: StateComparison) -> str:
    rows = found.residues
    figure = displacements(
        np.array([row.displacement_angstrom for row in rows]),
        np.array([row.domain or 0 for row in rows]),
        [row.chain for row in rows],
        np.array([row.is_hinge for row in rows]),
    )
    alt = f"How far each residue moves from {found.first} to {found.second}, the first domain laid on itself"
    tables = [page.table(*table) for table in tables_of(found, _SHOWN_POCKETS)]
    picture = contents.show(f"states-{name}", png(figure), alt)
    return "\n".join([f"<h3>{escape(name)}</h3>", page.paragraph(summary_words(found)), picture, *tables])
