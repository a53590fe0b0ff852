"""The course as it lies in ``session/gain_diagnosis``, for the next batch to go on from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from kernels.movies.pattern_watch import Watch
from tasks.gain_doctor.course import Course, agreement_of
from tasks.gain_doctor.given_gain import GivenGain
from tasks.gain_doctor.one_exposure import read_summary
from tasks.gain_doctor.products import STAGE
from tasks.records.gain import GainAlarm
from tasks.stores.commit import Attempt, Reader, Record
from tasks.stores.session_store import SessionStore


def write_course(attempt: Attempt, course: Course) -> None:
    watch = course.watch
    attempt.write("column_sum", watch.column_sum.numpy())
    attempt.write("row_sum", watch.row_sum.numpy())
    attempt.write("window_sum", watch.window_sum.numpy())
    attempt.write("known_odd_pixel", watch.known_odd.numpy())
    attempt.write("series", np.array(course.series, np.float32).reshape(-1, 3))
    if course.evidence is not None:
        attempt.write("evidence", course.evidence.numpy())
    attempt.set_attributes(
        {
            "exposures": course.prints, "left_out": course.left_out, "shape": course.shape,
            "n_evidence": course.n_evidence, "chosen": course.chosen, "counts_sum": course.counts_sum,
            "n_recent": len(watch.recent), "n": watch.n, "n_profiles": watch.n_profiles,
            "window_power": watch.window_power, "n_windows": watch.n_windows,
            "agreement_sum": watch.agreement_sum, "n_agreements": watch.n_agreements,
        }
    )  # fmt: skip


def read_course(store: SessionStore, reader: Reader, record: Record, gain: GivenGain | None) -> Course:
    """The course of a finished diagnosis of this gain; summaries of the last exposures come from their own products."""
    state = reader.attributes
    prints: dict[str, str] = state["exposures"]
    course = Course(
        prints=prints, left_out=state["left_out"], shape=None if state["shape"] is None else tuple(state["shape"]),
        evidence=torch.from_numpy(reader["evidence"]) if "evidence" in reader else None,
        n_evidence=state["n_evidence"], chosen=state["chosen"], counts_sum=state["counts_sum"],
        alarms=[GainAlarm.model_validate(a) for a in record.details["alarms"]], n_alarms=record.details["n_alarms"],
        series=[(a, b, c) for a, b, c in reader["series"].tolist()],
    )  # fmt: skip
    recent = []
    for exposure_id in list(prints)[len(prints) - state["n_recent"] :]:
        sums = store.exposure_product(exposure_id, STAGE).read()
        agreement = agreement_of(sums, gain, course) if course.chosen is not None else None
        summary = read_summary(sums)
        if agreement is not None:
            summary = replace(summary, agreement=agreement[0], agreement_error=agreement[1])
        recent.append(summary)
    course.watch = Watch(
        n=state["n"], column_sum=torch.from_numpy(reader["column_sum"]), row_sum=torch.from_numpy(reader["row_sum"]),
        n_profiles=state["n_profiles"], window_sum=torch.from_numpy(reader["window_sum"]),
        window_power=state["window_power"], n_windows=state["n_windows"], agreement_sum=state["agreement_sum"],
        n_agreements=state["n_agreements"], known_odd=torch.from_numpy(reader["known_odd_pixel"]),
        recent=tuple(recent),
    )  # fmt: skip
    return course
