"""Verdicts on models in the store."""

from __future__ import annotations

import numpy as np

from tasks.records.verdict import SessionVerdict
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore


def write_verdict(attempt: Attempt, found: SessionVerdict) -> None:
    """Write what was decided of a model into a product ``verdicts/<model>``."""
    attempt.write("json", np.frombuffer(found.model_dump_json().encode(), dtype=np.uint8))
    attempt.figures.update(
        decision=found.decision,
        reason=found.reason,
        n_disagreements=len(found.disagreements),
        n_weak_parts=len(found.weak_parts),
        n_to_rebuild=len(found.rebuild),
    )


def read_verdict(store: SessionStore, model: str) -> SessionVerdict:
    """What was decided of the model ``models/<model>``.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    """
    product = store.product(f"verdicts/{model}")
    product.done_record(f"verdict of {model!r}", "run judge_session")
    return SessionVerdict.model_validate_json(product.read()["json"].tobytes())
