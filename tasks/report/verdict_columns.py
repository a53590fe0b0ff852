"""What the verdict on a session says of each residue of a model: whom the map speaks for, and which parts are weak."""

from __future__ import annotations

import numpy as np

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.disagreement import SIDES
from kernels.models.residue_ranges import rows_of_ranges
from tasks.plots.model_view import ResidueClass, ResidueColumn
from tasks.stores.products.model_store import read_model
from tasks.stores.products.verdict_store import read_verdict, sides_of_residues, standing_verdict
from tasks.stores.session_store import SessionStore

_OF_SIDE = {"agree": 0, "map": 1, "prediction": 2, "undecided": 3}
SIDE_CLASSES = (
    ResidueClass("as the prediction", "#a9c4dc"),
    ResidueClass("map speaks for the model", "#009e73"),
    ResidueClass("map speaks for the prediction", "#aa3377"),
    ResidueClass("map does not tell", "#b8960b"),
)
_REST_COLOUR = "#a9c4dc"
_PART_COLOURS = ("#7a3e9d", "#d55e00", "#0072b2", "#009e73")


def verdict_columns(store: SessionStore, model: AtomicModel) -> list[ResidueColumn]:
    """For a model that has residues of the one that was judged; none without a verdict on a model."""
    record = standing_verdict(store)
    name = record.params["model"] if record is not None and record.expired is None else None
    if name is None:
        return []
    judged, found = read_model(store, name), read_verdict(store, name)
    row = {_key(residue): i for i, residue in enumerate(judged.residues)}
    rows = np.array([row.get(_key(residue), -1) for residue in model.residues])
    columns = []
    sides = sides_of_residues(store, name)
    if sides is not None:
        index = np.array([_OF_SIDE.get(side, -1) for side in SIDES])
        values = np.where(sides >= 0, index[sides], -1)
        columns.append(_column("side", "model and prediction", values, rows, SIDE_CLASSES))
    if found.weak_parts:
        values = np.zeros(judged.n_residues, dtype=int)
        for number, part in enumerate(found.weak_parts, start=1):
            for some in rows_of_ranges(judged, part.residues):
                values[some.start : some.stop] = number
        classes = [ResidueClass("as well resolved as the whole", _REST_COLOUR)]
        classes += [
            ResidueClass(f"weak part, {part.mask}", _PART_COLOURS[i % len(_PART_COLOURS)])
            for i, part in enumerate(found.weak_parts)
        ]
        columns.append(_column("weak_part", "resolution of parts", values, rows, tuple(classes)))
    return columns


def _column(
    identifier: str, label: str, values: np.ndarray, rows: np.ndarray, classes: tuple[ResidueClass, ...]
) -> ResidueColumn:
    """Values (residue of the judged model,) at rows (residue,) of it, -1 for none."""
    shown = np.where(rows >= 0, values[rows], -1)
    return ResidueColumn(identifier, label, shown, classes=classes, is_strip=True)


def _key(residue: Residue) -> tuple[str, int, str]:
    return residue.chain, residue.number, residue.insertion_code
