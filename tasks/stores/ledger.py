"""The ledger: what became of every file that was seen; seen = done + failed + skipped + quarantined.

The commit records are the truth. One index a stage (``ledger/<stage>``, see `tasks.stores.segments`), added to by the
stage when it ends, makes the status of a large session quick to read, and `rebuild` makes it anew from the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pydantic import BaseModel

from tasks.stores.commit import Figure, Record, State
from tasks.stores.segments import LARGEST
from tasks.stores.session_store import SessionStore

STAGES = (
    "import_session",
    "correct_motion",
    "estimate_ctf",
    "curate_exposures",
    "pick_particles",
    "extract_particles",
)
"""Stages that have an outcome for every exposure, in order."""


class Entry(NamedTuple):
    """Outcome of one stage for one exposure."""

    state: State
    reason: str | None
    figures: dict[str, Figure]


class Line(BaseModel):
    """What became of one file."""

    exposure: str
    state: State
    stage: str
    """Last stage that has an outcome for it."""
    reason: str | None = None
    figures: dict[str, Figure] = {}
    """Those of all its stages together."""


class Ledger(BaseModel):
    """All lines of a session."""

    session: str
    lines: list[Line]

    def counts(self) -> dict[State, int]:
        found = Counter(line.state for line in self.lines)
        states: tuple[State, ...] = ("done", "failed", "skipped", "quarantined")
        return {state: found.get(state, 0) for state in states}


def write_index(store: SessionStore, stage: str, outcomes: Mapping[str, Record]) -> None:
    """Add a stage's outcomes to its index."""
    entries = {exposure: Entry(record.state, record.reason, record.figures) for exposure, record in outcomes.items()}
    store.index(stage).append(entries)


def rebuild(store: SessionStore, stages: Iterable[str] = STAGES) -> None:
    """Write the index of every stage anew from the commit records."""
    exposures = store.exposure_ids()
    for stage in stages:
        store.index(stage).clear()
        for start in range(0, len(exposures), LARGEST):
            records = {e: store.exposure_product(e, stage).record() for e in exposures[start : start + LARGEST]}
            write_index(store, stage, {e: r for e, r in records.items() if r is not None})


def unfinished_exposures(store: SessionStore) -> list[str]:
    """Exposures that are imported and well so far, and that not all stages have seen: their flow ended before."""
    lines = read_ledger(store).lines
    return [line.exposure for line in lines if line.state == "done" and line.stage != STAGES[-1]]


def read_entries(store: SessionStore, stage: str) -> dict[str, Entry]:
    """Exposure -> what the index has of one stage for it."""
    return {exposure: Entry(*entry) for segment in store.read_index(stage) for exposure, entry in segment.items()}


def read_ledger(store: SessionStore) -> Ledger:
    """The ledger from the index; exposures that the index does not know are read from their records."""
    indices = {stage: read_entries(store, stage) for stage in STAGES}
    lines = []
    for exposure in store.exposure_ids():
        last = Line(exposure=exposure, state="failed", stage="import_session", reason="its import did not finish")
        figures: dict[str, Figure] = {}
        for stage in STAGES:
            entry = indices[stage].get(exposure)
            if entry is None and stage == "import_session":
                record = store.exposure_product(exposure, stage).record()
                if record is not None:
                    entry = Entry(record.state, record.reason, record.figures)
            if entry is None:
                continue
            figures |= entry.figures
            last = Line(exposure=exposure, state=entry.state, stage=stage, reason=entry.reason)
            if entry.state != "done":
                break
        lines.append(last.model_copy(update={"figures": figures}))
    return Ledger(session=store.session.name, lines=lines)
