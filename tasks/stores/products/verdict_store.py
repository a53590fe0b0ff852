"""Verdicts on models in the store."""

from __future__ import annotations

from tasks.records.verdict import SessionVerdict
from tasks.stores.commit import Attempt
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.session_store import SessionStore


def write_verdict(attempt: Attempt, found: SessionVerdict) -> None:
    """Write what was decided of a model into a product ``verdicts/<model>``."""
    write_record(attempt, found)
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
    return read_record(store, f"verdicts/{model}", SessionVerdict, f"verdict of {model!r}", "judge_session")
