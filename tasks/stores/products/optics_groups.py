"""``session/optics_groups``: which optics group every exposure belongs to, and what that was told from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.stores.commit import Attempt, Record
from tasks.stores.session_store import SessionStore

ADDRESS = "session/optics_groups"
_COLUMNS = ("shift", "acquired_s", "cell", "optics_group")
_COLUMNS_OF_TEXT = ("exposure_ids", "names", "import_fingerprints", "cells", "cell_numbers")


@dataclass
class GroupTable:
    """One row an exposure; rows stay in the order in which they came."""

    exposure_ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of the files."""
    import_fingerprints: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    """Optics and acquisition area in words; shifts tell groups apart within one."""
    cell_numbers: list[int] = field(default_factory=list)
    """First group of each cell."""
    shift: NDArray = field(default_factory=lambda: np.zeros((0, 4)))
    """(exposure, 4) beam shift y, x and image shift y, x."""
    acquired_s: NDArray = field(default_factory=lambda: np.zeros(0))
    cell: NDArray = field(default_factory=lambda: np.zeros(0, np.int32))
    optics_group: NDArray = field(default_factory=lambda: np.zeros(0, np.int32))
    """(exposure,) 0 while it cannot be told."""

    def numbers(self) -> dict[str, int]:
        """Exposure -> group; the first of its cell where it cannot be told yet."""
        first = np.array(self.cell_numbers, np.int64)
        found = np.where(self.optics_group > 0, self.optics_group, first[self.cell] if len(first) else 0)
        return dict(zip(self.exposure_ids, found.tolist()))

    def select(self, is_kept: NDArray) -> GroupTable:
        """The rows of a mask, with all cells."""
        rows = np.flatnonzero(is_kept).tolist()
        return GroupTable(
            [self.exposure_ids[i] for i in rows], [self.names[i] for i in rows],
            [self.import_fingerprints[i] for i in rows], list(self.cells), list(self.cell_numbers),
            self.shift[rows], self.acquired_s[rows], self.cell[rows], self.optics_group[rows],
        )  # fmt: skip

    def digest(self) -> str:
        """Changes when an exposure comes, goes, or was imported otherwise."""
        lines = sorted(zip(self.exposure_ids, self.import_fingerprints))
        return hashlib.sha256("\n".join(f"{e} {f}" for e, f in lines).encode()).hexdigest()[:32]

    def write(self, attempt: Attempt) -> None:
        for name in _COLUMNS:
            attempt.write(name, getattr(self, name))
        attempt.set_attributes({name: getattr(self, name) for name in _COLUMNS_OF_TEXT})


def read_table(store: SessionStore) -> tuple[Record, GroupTable] | None:
    """The groups of a session and their record; None where grouping never ran."""
    product = store.product(ADDRESS)
    record = product.record()
    if record is None or record.state != "done":
        return None
    reader = product.read()
    attributes = reader.attributes
    table = GroupTable()
    for name in _COLUMNS_OF_TEXT:
        setattr(table, name, list(attributes[name]))
    for name in _COLUMNS:
        setattr(table, name, reader[name])
    return record, table


def optics_groups(store: SessionStore) -> dict[str, int]:
    """Exposure -> number of its optics group; empty where grouping never ran."""
    found = read_table(store)
    return {} if found is None else found[1].numbers()


def digest_of(numbers: dict[str, int], exposure_ids: Iterable[str]) -> str:
    """Changes when one of these exposures has another group; empty where none of them has one."""
    lines = [f"{e} {numbers[e]}" for e in sorted(exposure_ids) if e in numbers]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32] if lines else ""
