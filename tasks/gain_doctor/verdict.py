"""The verdict on the gain of a session, from its course."""

from __future__ import annotations

import math
from typing import Any

from kernels.movies.gain_evidence import binning, compared_pixels, judge, scores, uses
from tasks.gain_doctor.course import Course
from tasks.gain_doctor.given_gain import GivenGain
from tasks.gain_doctor.words import words_with_gain, words_without_gain
from tasks.records.gain import GainDiagnosis, GainRow


def diagnosis_of(
    course: Course, gain: GivenGain | None, estimate: dict[str, float | int | bool]
) -> GainDiagnosis:  # fmt: skip
    """What the record of the diagnosis says; ``estimate`` has the figures of a gain from the movies, if any."""
    power = course.watch.pattern_power
    own = math.sqrt(max(0.0, power[0])) if power is not None else None
    limit = course.watch.pattern_limit
    n = len(course.prints)
    common: dict[str, Any] = {
        "n_exposures": n,
        "mean_counts": round(course.counts_sum / max(1, n), 4),
        "pattern_percent": None if own is None else round(100 * own, 3),
        "pattern_limit_percent": None if limit is None else round(100 * limit, 3),
        "alarms": course.alarms,
        "n_alarms": course.n_alarms,
        "estimate": estimate,
    }
    if gain is None:
        kind, words = words_without_gain(estimate)
        return GainDiagnosis(kind=kind, verdict=words, **common)  # type: ignore[arg-type]
    assert course.shape is not None
    factor = binning(gain.shape, course.shape)
    if factor is None or course.evidence is None:
        words = (
            f"the gain is {gain.shape} but the frames are {course.shape}, and no binning by 2 or 4 fits; give the gain "
            "of this detector and mode"
        )
        return GainDiagnosis(kind="other shape", verdict=words, **common)
    found = scores(course.evidence, uses(gain.shape, course.shape))
    gain_rms = _gain_pattern_rms(course)
    # by what the windows can tell: a pattern half as strong as the gain's has to be clear of their noise
    is_known = power is not None and 3 * power[1] < 0.25 * gain_rms**2
    verdict = judge(found, own if is_known else None, gain_rms)
    rows = []
    for score in sorted(found, key=lambda s: s.sigma, reverse=True):
        angle, flip, meaning = gain.absolute(score.use)
        rows.append(
            GainRow(
                rotation_deg=angle, flip=flip, meaning=meaning, binning=factor * gain.binning,
                agreement=round(score.agreement, 4), standard_error=round(score.standard_error, 6),
                sigma=round(score.sigma, 2), is_as_given=score.use == found[0].use,
            )
        )  # fmt: skip
    words, recipe = words_with_gain(verdict, gain, factor, course.n_evidence)
    return GainDiagnosis(
        kind=verdict.kind, verdict=words, recipe=recipe, rows=rows, margin_sigma=round(verdict.margin_sigma, 2),
        gain_pattern_percent=round(100 * gain_rms, 3), **common,
    )  # fmt: skip


def _gain_pattern_rms(course: Course) -> float:
    """RMS of the gain's pattern, weighted with the counts; from the evidence, which has it times counts and pixels."""
    assert course.evidence is not None and course.shape is not None
    n_pixels = compared_pixels(course.shape)
    counts = sum(mean for mean, _, _ in course.series[: course.n_evidence])
    return math.sqrt(max(0.0, float(course.evidence[0, 1]) / n_pixels / max(1e-9, counts)))
