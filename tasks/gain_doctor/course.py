"""The course over the session: exposures one after another, what they say of the gain, alarms."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kernels.movies.gain_evidence import judge, scores, uses
from kernels.movies.pattern_watch import Finding, Watch
from tasks.gain_doctor.given_gain import GivenGain
from tasks.gain_doctor.one_exposure import read_summary
from tasks.gain_doctor.products import STAGE
from tasks.gain_doctor.words import what_changed
from tasks.records.gain import GainAlarm
from tasks.stores.commit import Reader
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)

_EVIDENCE_EXPOSURES = 64
"""The first ones; what comes later speaks for changes, not for the gain as it was given."""
_MOST_ALARMS = 200


@dataclass
class Course:
    """The session so far; what the next batch is added to."""

    prints: dict[str, str] = field(default_factory=dict)
    """Exposure -> fingerprint of its sums, in the order in which they were looked at."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The same of exposures whose frames have another shape than the first."""
    shape: tuple[int, int] | None = None
    watch: Watch = field(default_factory=Watch)
    evidence: Tensor | None = None
    """(use, 3)"""
    n_evidence: int = 0
    chosen: int | None = None
    """Number of the use that is watched, once it is clear."""
    alarms: list[GainAlarm] = field(default_factory=list)
    n_alarms: int = 0
    counts_sum: float = 0.0
    series: list[tuple[float, float, float]] = field(default_factory=list)
    """Counts on a pixel, agreement with the use as given, its error; NaN where there is none."""


def look_at(store: SessionStore, course: Course, new: dict[str, str], gain: GivenGain | None) -> None:
    """Add exposures to the course: first what they say of the gain, then, one after another, what changed."""
    readers = {}
    for exposure_id, print_ in new.items():
        reader = store.exposure_product(exposure_id, STAGE).read()
        n_y, n_x = reader.record.details["shape"]
        course.shape = course.shape or (n_y, n_x)
        if (n_y, n_x) != course.shape:
            course.left_out[exposure_id] = print_
            continue
        readers[exposure_id] = reader
        if "evidence" in reader and course.n_evidence < _EVIDENCE_EXPOSURES:
            sums = torch.from_numpy(reader["evidence"])
            course.evidence = sums if course.evidence is None else course.evidence + sums
            course.n_evidence += 1
    for exposure_id, reader in readers.items():
        summary = read_summary(reader)
        course.prints[exposure_id] = new[exposure_id]
        course.counts_sum += summary.mean_counts
        agreement = agreement_of(reader, gain, course)
        course.series.append((summary.mean_counts, *(agreement or (math.nan, math.nan))))
        if agreement is not None:
            summary = replace(summary, agreement=agreement[0], agreement_error=agreement[1])
        assert course.shape is not None
        course.watch, findings = course.watch.look(summary, course.shape)
        for finding in findings:
            _raise_alarm(course, finding)


def agreement_of(reader: Reader, gain: GivenGain | None, course: Course) -> tuple[float, float] | None:
    """Agreement of an exposure with the gain in the use that fits the session, and its standard error."""
    if gain is None or course.evidence is None or course.shape is None or "evidence" not in reader:
        return None
    of = uses(gain.shape, course.shape)
    if course.chosen is None:
        found = scores(course.evidence, of)
        verdict = judge(found, None, 1.0)
        if verdict.kind not in ("as given", "other way") or verdict.best is None:
            return None
        course.chosen = of.index(verdict.best.use)
    score = scores(torch.from_numpy(reader["evidence"]), of)[course.chosen]
    return score.agreement, score.standard_error


def _raise_alarm(course: Course, finding: Finding) -> None:
    number = max(0, finding.exposure)
    first = list(course.prints)[number]
    words = f"from exposure {first} on: {what_changed(finding)}"
    course.n_alarms += 1
    logger.warning("%s: alarm: %s", STAGE, words)
    if len(course.alarms) < _MOST_ALARMS:
        course.alarms.append(
            GainAlarm(
                kind=finding.kind, exposure=first, number=number, size=finding.size, region_px=finding.region,
                words=words,
            )
        )  # fmt: skip
