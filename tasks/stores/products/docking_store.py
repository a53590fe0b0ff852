"""Records of what was docked, beside the model that it makes up."""

from __future__ import annotations

from tasks.records.docking import Docking
from tasks.stores.commit import Attempt
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.session_store import SessionStore


def write_docking(attempt: Attempt, found: Docking) -> None:
    """Write what lies where into the product of a docked model."""
    write_record(attempt, found, "docking")
    probabilities = [row.probability for row in found.placed]
    attempt.figures.update(
        n_bodies=len(found.placed),
        n_copies_docked=len({(row.source, row.copy_number) for row in found.placed}),
        n_not_placed=len(found.not_placed),
        n_untrusted=found.n_untrusted,
        least_probability=min(probabilities, default=0.0),
        mean_correlation=round(sum(row.correlation for row in found.placed) / max(len(found.placed), 1), 3),
    )
    if found.symmetry:
        attempt.figures["symmetry_found"] = "; ".join(one.words for one in found.symmetry)


def read_docking(store: SessionStore, name: str = "docked") -> Docking:
    """What was docked in the model ``models/<name>``.

    Raises
    ------
    StoreError
        Where there is none, with the reason.
    """
    return read_record(store, f"models/{name}", Docking, f"model {name!r}", "dock_model", "docking")
