"""The small sums of one exposure: evidence about the gain given, and a summary that tells changes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kernels.movies.fixed_pattern import detail
from kernels.movies.gain_evidence import Meaning, binning, evidence, patterns, scores, uses
from kernels.movies.pattern_watch import ExposureSummary, summarise
from tasks.gain_doctor.counts import file_set_aside, summed_counts
from tasks.gain_doctor.given_gain import gain_arrays
from tasks.gain_doctor.products import GAIN
from tasks.records.session import StageParams
from tasks.stores.commit import Attempt, Reader
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem

_LEAST_COUNTS = 0.05
"""Electrons on a pixel in a whole movie; with fewer the beam was off."""
_WINDOW_STEPS = 16.0
"""Steps of the stored window in one standard deviation of it."""


class NoParams(StageParams):
    """The sums of an exposure depend on nothing but counts and gain."""


def inputs_of(store: SessionStore, exposure_id: str) -> list[str]:
    """Addresses of the products that the sums of an exposure are made of."""
    record = store.exposure_product(exposure_id, "import_session").record()
    # one that was set aside is known by its id, which has the hash of its content
    addresses = [] if file_set_aside(record) else [f"exposures/{exposure_id}/import_session"]
    gain = store.product(GAIN).record()
    return [*addresses, GAIN] if gain is not None and gain.state == "done" else addresses


def sum_exposure(store: SessionStore, exposure_id: str, params: NoParams, attempt: Attempt) -> None:
    """Write the sums of one exposure; raises `SkipItem` where the beam was off."""
    counts = summed_counts(store, exposure_id)
    shape = (int(counts.shape[0]), int(counts.shape[1]))
    gain, is_defect = gain_arrays(store)
    is_good = torch.ones_like(counts, dtype=torch.bool)
    if is_defect is not None and is_defect.shape == counts.shape:
        is_good = ~is_defect.to(counts.device)
    found = detail(counts, is_good)
    if not float(found.expected.mean()) > _LEAST_COUNTS:
        raise SkipItem(f"{float(found.expected.mean()):.2g} counts on a pixel: the beam was off, or hardly on")
    summary = summarise(counts, found, is_good)
    attempt.figures.update(mean_counts=round(summary.mean_counts, 4), noise=round(summary.noise, 4))
    if gain is not None:
        attempt.details["gain_shape"] = list(gain.shape)
        factor = binning(gain.shape, shape)
        if factor is not None:
            of = uses(gain.shape, shape)
            pattern, rms = _patterns(store.url, store.fingerprints([GAIN])[GAIN], factor)
            on = {meaning: one.to(counts.device) for meaning, one in pattern.items()}
            sums = evidence(found, on, of, seed=sum(exposure_id.encode()))
            attempt.write("evidence", sums.cpu().numpy())
            as_given = scores(sums, of)[0]
            attempt.figures.update(
                gain_agreement=round(as_given.agreement, 4),
                gain_agreement_error=round(as_given.standard_error, 5),
                gain_pattern_percent=round(100 * rms, 3),
            )
    _write_summary(attempt, summary, shape)


@lru_cache(maxsize=1)
def _patterns(session_url: str, _fingerprint: str, factor: float) -> tuple[dict[Meaning, Tensor], float]:
    """Patterns of the gain given, and the RMS of the one as given; a worker keeps the last."""
    gain, _ = gain_arrays(SessionStore.open(session_url))
    assert gain is not None
    found = patterns(gain, factor)
    return found, float(found["multiply"].square().mean().sqrt())


def _write_summary(attempt: Attempt, summary: ExposureSummary, shape: tuple[int, int]) -> None:
    step = max(1e-9, float(summary.window.std()) / _WINDOW_STEPS)
    attempt.write("window", (summary.window / step).round().clamp(-127, 127).to(torch.int8).cpu().numpy())
    attempt.write("column_profile", summary.column_profile.float().cpu().numpy())
    attempt.write("row_profile", summary.row_profile.float().cpu().numpy())
    attempt.write("odd_pixel", summary.odd_pixel.cpu().numpy().astype(np.int64))
    attempt.figures["n_odd_pixels"] = len(summary.odd_pixel)
    attempt.details.update(window_step=step, shape=list(shape), mean_counts=summary.mean_counts, noise=summary.noise)


def read_summary(reader: Reader) -> ExposureSummary:
    """What `sum_exposure` wrote of an exposure, its window in the steps that it was rounded to."""
    details = reader.record.details
    return ExposureSummary(
        torch.from_numpy(reader["window"]).float() * float(details["window_step"]),
        torch.from_numpy(reader["column_profile"]),
        torch.from_numpy(reader["row_profile"]),
        torch.from_numpy(reader["odd_pixel"]),
        float(details["mean_counts"]),
        float(details["noise"]),
    )
