"""``session/gain``: the gain reference and the bad pixels of a session, in the orientation of its frames."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import NDArray

from tasks.records.gain import GainDiagnosis
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore

ADDRESS = "session/gain"


@dataclass(frozen=True)
class SessionGain:
    """What the product holds; its pixels are read when they are asked for."""

    session_url: str
    shape: tuple[int, int]
    """(y, x)"""
    fingerprint: str

    def factor(self, part: tuple[slice, slice]) -> NDArray | None:
        """(y, x) part of what multiplies the counts; None where there are only defects."""
        reader = SessionStore.open(self.session_url).product(ADDRESS).read()
        return reader.slice("gain", part) if "gain" in reader else None


def session_gain(store: SessionStore) -> SessionGain | None:
    """The session's gain or defects; None where there are none."""
    record = store.product(ADDRESS).record()
    shape = record.details.get("shape") if record is not None else None
    if record is None or not shape:
        return None
    n_y, n_x = shape
    return SessionGain(store.url, (int(n_y), int(n_x)), record.fingerprint)


def write_gain(attempt: Attempt, gain: NDArray | None, is_defect: NDArray) -> None:
    """Fill an attempt: (y, x) factors, None where there are only defects, and the (y, x) mask, 1 where bad."""
    if gain is not None:
        attempt.write("gain", gain)
    attempt.write("is_defect", is_defect)
    attempt.figures = {"n_defects": int(is_defect.sum())}
    attempt.details = {
        "shape": (int(is_defect.shape[0]), int(is_defect.shape[1])), "is_gain_given": gain is not None,
    }  # fmt: skip


def read_gain_diagnosis(store: SessionStore) -> GainDiagnosis | None:
    """What `diagnose_gain` found last; None before it ran."""
    record = store.product("session/gain_diagnosis").record()
    return None if record is None or not record.details else GainDiagnosis.model_validate(record.details)
