"""Records of what was docked, beside the model that it makes up."""

from __future__ import annotations

import numpy as np

from tasks.records.docking import Docking
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore


def write_docking(attempt: Attempt, found: Docking) -> None:
    """Write what lies where into the product of a docked model."""
    attempt.write("docking", np.frombuffer(found.model_dump_json().encode(), dtype=np.uint8))
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
    product = store.product(f"models/{name}")
    product.done_record(f"model {name!r}", "run dock_model")
    return Docking.model_validate_json(product.read()["docking"].tobytes())
