"""Exposures in the order in which the microscope took them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tasks.stores.commit import Figure
from tasks.stores.files.import_records import STAGE
from tasks.stores.ledger import read_entries
from tasks.stores.session_store import SessionStore


def exposures_by_time(store: SessionStore) -> list[str]:
    """Ids of all imported exposures, the first one taken first; of the same time, in order of id.

    The time is that of the microscope's own files, or that at which the movie was written where there are none. It is
    read from the ledger's index, so the cost is one listing and a few reads; what the index lacks comes from records.
    """
    entries = read_entries(store, STAGE)
    times: dict[str, float] = {}
    for exposure_id in store.exposure_ids():
        entry = entries.get(exposure_id) or store.exposure_product(exposure_id, STAGE).record()
        if entry is not None and entry.state == "done":
            times[exposure_id] = _time(entry.figures)
    return sorted(times, key=lambda exposure_id: (times[exposure_id], exposure_id))


def _time(figures: Mapping[str, Figure]) -> float:
    """Seconds since 1970; a time without zone is of the clock here, one that is unknown comes first."""
    text = figures.get("acquired_at")
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else 0.0
    except ValueError:
        return 0.0
