"""The gain given: what ``session/gain`` holds, and whether a diagnosis is about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.movies.gain import Flip, combined
from kernels.movies.gain_evidence import GainUse, Meaning
from tasks.gain_doctor.products import DIAGNOSIS, GAIN
from tasks.stores.commit import Record
from tasks.stores.session_store import SessionStore


@dataclass(frozen=True)
class GivenGain:
    """What ``session/gain`` holds, and how it came from its file."""

    shape: tuple[int, int]
    fingerprint: str
    rotation_deg: int = 0
    flip: Flip = "none"
    meaning: Meaning = "multiply"
    binning: float = 1.0

    def absolute(self, use: GainUse) -> tuple[int, Flip, Meaning]:
        """Rotation, flip and meaning of the file for a use of the gain in the store."""
        angle, flip = combined(self.rotation_deg, self.flip, use.rotation_deg, use.flip)
        other: dict[Meaning, Meaning] = {"multiply": "divide", "divide": "multiply"}
        return angle, flip, self.meaning if use.meaning == "multiply" else other[self.meaning]


def given_gain(store: SessionStore) -> GivenGain | None:
    """None where the session has no gain, or defects only."""
    product = store.product(GAIN)
    record = product.record()
    if record is None or record.state != "done":
        return None
    reader = product.read()
    if "gain" not in reader:
        return None
    n_y, n_x = reader.shape("gain")
    meaning = record.params.get("meaning", "auto")
    if meaning not in ("multiply", "divide"):
        # RELION's rule: a reference for EER movies holds the response, unless it is a .gain file
        meaning = "divide" if record.params.get("is_for_eer") else "multiply"
    rotation, flip = int(record.params.get("rotation_deg", 0)), record.params.get("flip", "none")
    binned_by = float(record.params.get("binning", 1))
    return GivenGain((n_y, n_x), record.fingerprint, rotation, flip, meaning, binned_by)


def compared_with_another_gain(store: SessionStore, gain: GivenGain | None) -> list[str]:
    """Exposures of the diagnosis, where it is about another gain than the one given now."""
    record = store.product(DIAGNOSIS).record()
    if record is None or record.state != "done" or is_of(record, gain):
        return []
    return list(store.product(DIAGNOSIS).read().attributes["exposures"])


def is_of(record: Record, gain: GivenGain | None) -> bool:
    """Whether a diagnosis is about this gain, or None: about a session without one."""
    return record.inputs.get(GAIN) == (gain.fingerprint if gain is not None else None)


def gain_arrays(store: SessionStore) -> tuple[Tensor | None, Tensor | None]:
    """(y, x) gain, and (y, x) bool where the detector is bad, as they lie in the store."""
    product = store.product(GAIN)
    record = product.record()
    if record is None or record.state != "done":
        return None, None
    reader = product.read()
    gain = torch.from_numpy(reader["gain"]) if "gain" in reader else None
    is_defect = torch.from_numpy(reader["is_defect"]).bool() if "is_defect" in reader else None
    return gain, is_defect
