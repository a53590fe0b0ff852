"""How far a session has come, in numbers from commit records and the ledger's index: no array is opened."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tasks.stores.commit import Record
from tasks.stores.ledger import read_entries
from tasks.stores.session_store import SessionStore


class SessionCounts(BaseModel):
    """Numbers of particles at each step, 0 where a step was never taken."""

    model_config = ConfigDict(frozen=True)

    n_exposures: int = 0
    """With a particle stack."""
    n_extracted: int = 0
    n_classified: int = 0
    """When classes were last made."""
    n_selected: int = 0
    n_mapped: int = 0
    """Selected when the first map was built."""
    is_map_convincing: bool = False
    n_refined: int = 0
    resolution_angstrom: float | None = None


def count_session(store: SessionStore) -> SessionCounts:
    """The numbers of a session as they are now; 10,000 exposures take a fraction of a second."""
    stacks = [entry for entry in read_entries(store, "extract_particles").values() if entry.state == "done"]
    classes, selected, initial, refined = (
        store.product(address).record_if_done()
        for address in ("classes/2d", "particles/selected", "maps/initial", "maps/refined")
    )
    resolution = refined.figures.get("resolution_angstrom") if refined else None
    return SessionCounts(
        n_exposures=len(stacks),
        n_extracted=sum(int(entry.figures.get("n_particles") or 0) for entry in stacks),
        n_classified=_number(classes, "n_particles"),
        n_selected=_number(selected, "n_particles"),
        n_mapped=_number(initial, "n_available"),
        is_map_convincing=bool(initial and initial.figures.get("is_convincing")),
        n_refined=_number(refined, "n_particles"),
        resolution_angstrom=float(resolution) if resolution is not None else None,
    )


def _number(record: Record | None, figure: str) -> int:
    return int(record.figures.get(figure) or 0) if record else 0
