"""Full sums of movies, 10 bytes a pixel, and the gain that is made of them; on the worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from kernels.movies.fixed_pattern import Detail, detail
from kernels.movies.gain_estimation import PatternSums, estimate_gain
from tasks.gain_doctor.counts import summed_counts
from tasks.gain_doctor.given_gain import gain_arrays
from tasks.gain_doctor.one_exposure import NoParams
from tasks.gain_doctor.params import DiagnoseGainParams
from tasks.gain_doctor.products import ESTIMATE, STAGE, SUMS, VERSION, digest
from tasks.stores.commit import Attempt, Reader
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.device import device
from tasks.workers.stage import SkipItem

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Merge:
    """What one step of making the gain is made of."""

    scratch: str
    parts: list[int]
    exposures: dict[str, str]
    """Exposure -> fingerprint of its sums, of all that are in it afterwards."""
    n_before: int
    """Exposures that the sums in the store have already, to which the parts are added; their motion may be corrected.
    """
    params: DiagnoseGainParams


def sum_part(part: tuple[int, list[str]], session_url: str, scratch: str, n_before: int) -> None:
    """Full sums of a few exposures, read once more; only while a gain is being made."""
    start, exposure_ids = part
    store = SessionStore.open(session_url)
    product = store.product(f"{scratch}/part_{start:05d}")
    if product.record_if_done() is not None:  # of an interrupted run; the address has the content
        return
    sums: PatternSums | None = None
    _, is_defect = gain_arrays(store)
    for number, exposure_id in enumerate(exposure_ids, start=n_before + start):
        try:
            counts = summed_counts(store, exposure_id)
        except (StoreError, SkipItem, ValueError) as error:  # its frames may have expired since
            logger.warning("%s: %s is left out of the gain: %s", STAGE, exposure_id, error)
            continue
        if sums is None:
            sums = PatternSums.zeros((int(counts.shape[0]), int(counts.shape[1])), counts.device)
        is_good = None
        if is_defect is not None and is_defect.shape == counts.shape:
            is_good = ~is_defect.to(counts.device)
        found: Detail = detail(counts, is_good)
        sums.add(found, number % 2)
    with product.write(STAGE, VERSION, NoParams(), {}) as attempt:
        if sums is not None:
            _write_sums(attempt, sums)


def merge_and_make(merge: Merge, session_url: str) -> None:
    """Add the parts to the session's sums, and make the gain where that is due."""
    store = SessionStore.open(session_url)
    params, product, estimate = merge.params, store.product(SUMS), store.product(ESTIMATE)
    made = estimate.record()
    sums = _read_sums(product.read()) if merge.n_before else None
    for start in merge.parts:
        reader = store.product(f"{merge.scratch}/part_{start:05d}").read()
        if reader.names:
            sums = _read_sums(reader) if sums is None else sums + _read_sums(reader)
    if sums is None:
        raise StoreError(f"{SUMS}: none of {len(merge.exposures)} exposures could be read; import them again")
    n = int(sums.n_exposures.sum())
    inputs = {"exposures": digest(merge.exposures)}
    is_at_end = n >= params.most_exposures
    figures: dict[str, float | int | bool] = {"n_exposures": n, "explained": 0.0, "pattern_percent": 100.0}
    n_used = int(made.figures.get("n_exposures") or 0) if made is not None and made.state == "done" else 0
    n_earlier = int(made.figures.get("n_earlier") or 0) if n_used and made is not None else 0
    is_frozen = is_at_end
    if int(sums.n_exposures.min()) > 0:
        found = estimate_gain(sums)
        is_frozen = is_at_end or found.explained >= params.enough_explained
        figures |= {
            "explained": round(found.explained, 4), "pattern_percent": round(100 * found.pattern_rms, 3),
            "error_percent": round(100 * found.rms_error, 3), "n_defects": int(found.is_defect.sum()),
        }  # fmt: skip
        if found.explained >= params.least_explained and (n >= 2 * n_used or is_frozen):
            n_used, n_earlier = n, merge.n_before
            with estimate.write(STAGE, VERSION, params, inputs) as attempt:
                attempt.write("gain", found.gain.cpu().numpy())
                attempt.write("is_defect", found.is_defect.to(torch.uint8).cpu().numpy())
                attempt.figures = {**figures, "is_frozen": is_frozen, "n_earlier": n_earlier}
                attempt.details = {
                    "shape": list(found.gain.shape),
                    "parts": [
                        {"name": p.name, "percent": 100 * p.rms, "error_percent": 100 * p.rms_error}
                        for p in found.parts
                    ],
                }
    with product.write(STAGE, VERSION, params, inputs) as attempt:
        _write_sums(attempt, sums)
        attempt.figures = {
            **figures, "is_used": n_used > 0, "n_exposures_used": n_used, "n_earlier": n_earlier, "is_frozen": is_frozen
        }  # fmt: skip
        attempt.details = {"exposures": merge.exposures, "shape": list(sums.n_hot.shape)}


def _write_sums(attempt: Attempt, sums: PatternSums) -> None:
    attempt.write("excess", sums.excess.cpu().numpy())
    attempt.write("expected", sums.expected.cpu().numpy())
    attempt.write("n_hot", sums.n_hot.cpu().numpy())
    attempt.write("n_exposures", sums.n_exposures.cpu().numpy())


def _read_sums(reader: Reader) -> PatternSums:
    on = device()
    excess, expected, n_hot = (torch.from_numpy(reader[name]).to(on) for name in ("excess", "expected", "n_hot"))
    return PatternSums(excess, expected, n_hot, torch.from_numpy(reader["n_exposures"]))
