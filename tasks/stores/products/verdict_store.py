"""Verdicts on models, and on sessions that have none, in the store."""

from __future__ import annotations

from numpy.typing import NDArray

from tasks.records.verdict import SessionVerdict
from tasks.stores.commit import Attempt, Record
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.session_store import SessionStore

_OF_MAP = "session/verdict"


def verdict_address(model: str | None) -> str:
    """Of what was decided of a model, or of a session that has none."""
    return _OF_MAP if model is None else f"verdicts/{model}"


def write_verdict(attempt: Attempt, found: SessionVerdict) -> None:
    """Write what was decided into the product at `verdict_address`."""
    write_record(attempt, found)
    attempt.figures.update(
        decision=found.decision,
        reason=found.reason,
        n_disagreements=len(found.disagreements),
        n_weak_parts=len(found.weak_parts),
        n_to_rebuild=len(found.rebuild),
    )
    if found.action is not None:
        attempt.figures.update(action=found.action.what, is_action_kept=found.action.is_kept)


def read_verdict(store: SessionStore, model: str | None) -> SessionVerdict:
    """What was decided of the model ``models/<model>``, or of a session that has none.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    """
    what = "verdict of the map" if model is None else f"verdict of {model!r}"
    return read_record(store, verdict_address(model), SessionVerdict, what, "judge_session")


def sides_of_residues(store: SessionStore, model: str) -> NDArray | None:
    """(residue,) of the model, what `kernels.models.disagreement.sides` says of it; None without a prediction."""
    reader = store.product(verdict_address(model)).read()
    if "side" not in reader:
        return None
    return reader["side"]


def standing_verdict(store: SessionStore) -> Record | None:
    """The record of the verdict that holds for the session as it is now; its `model` is a parameter of the record.

    The newest one on a model comes before that of the map. One whose model, map or particles were made anew since
    does not count.
    """
    of_models = [store.product(verdict_address(name)).record_if_done() for name in store.names("verdicts")]
    newest_first = sorted((r for r in of_models if r is not None), key=lambda r: r.written_at, reverse=True)
    for record in (*newest_first, store.product(_OF_MAP).record_if_done()):
        if record is not None and _stands(store, record):
            return record
    return None


def _stands(store: SessionStore, record: Record) -> bool:
    now = {address: store.product(address).record() for address in record.inputs}
    return all(found is not None and found.fingerprint == record.inputs[a] for a, found in now.items())
