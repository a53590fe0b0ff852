"""A comparison of states as files: a table of the residues, everything as JSON, and the states one on the other."""

from __future__ import annotations

import csv
import uuid
from pathlib import Path

from tasks.formats.structure import write_structure
from tasks.records.state_comparison import ResidueOfStates
from tasks.stores.products.comparison_store import laid_model, read_comparison
from tasks.stores.session_store import SessionStore


def export_comparison(store: SessionStore, name: str, folder: Path) -> list[Path]:
    """``<name>.csv``, ``.json`` and ``.cif`` in a folder; each appears under its name when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    found = read_comparison(store, name)
    table, everything, model = (folder / f"{name}.{ending}" for ending in ("csv", "json", "cif"))
    partial = folder / f".{uuid.uuid4().hex}.partial"
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(ResidueOfStates.model_fields))
            writer.writeheader()
            writer.writerows(row.model_dump() for row in found.residues)
        partial.replace(table)
        partial.write_text(found.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(everything)
    finally:
        partial.unlink(missing_ok=True)
    write_structure(model, laid_model(store, name))
    return [table, everything, model]
