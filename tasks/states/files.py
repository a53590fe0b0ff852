"""A comparison of states as files: a table of the residues, everything as JSON, the other state on the first."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from tasks.formats.structure import write_structure
from tasks.records.state_comparison import ResidueOfStates
from tasks.stores.products.comparison_store import laid_model, read_comparison
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location


def export_comparison(store: SessionStore, name: str, folder: Path) -> list[Path]:
    """The files of `WRITERS` in a folder, named like the comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}{ending}" for ending in WRITERS]
    for path in files:
        WRITERS[path.suffix](store, name, path)
    return files


def _write_table(store: SessionStore, name: str, path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(ResidueOfStates.model_fields))
    writer.writeheader()
    writer.writerows(row.model_dump() for row in read_comparison(store, name).residues)
    Location.of(path).write_bytes(text.getvalue().encode())


def _write_everything(store: SessionStore, name: str, path: Path) -> None:
    Location.of(path).write_bytes(read_comparison(store, name).model_dump_json(indent=1).encode())


def _write_laid(store: SessionStore, name: str, path: Path) -> None:
    write_structure(path, laid_model(store, name), name)


WRITERS: dict[str, Callable[[SessionStore, str, Path], None]] = {
    ".csv": _write_table,
    ".json": _write_everything,
    ".cif": _write_laid,
}
"""Ending -> what writes a comparison into a file, which appears when it is whole."""
