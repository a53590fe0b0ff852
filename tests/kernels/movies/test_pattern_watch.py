"""Changes of a detector are reported once, at the exposure that brings them, and nothing else is."""

from dataclasses import replace

import pytest
import torch

from kernels.movies.fixed_pattern import detail
from kernels.movies.gain_evidence import evidence, patterns, scores, uses
from kernels.movies.pattern_watch import Watch, summarise
from kernels.specimen.simulation import random_detector
from tests.truth.detector_session import counts, generator, with_other_pixels

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (112, 120)


def summary_of(total, gain=None, pattern=None):
    found = detail(total)
    summary = summarise(total, found, torch.ones(SHAPE, dtype=torch.bool))
    if gain is None:
        return summary
    of = uses(gain.shape, SHAPE)[:1]
    score = scores(evidence(found, pattern, of), of)[0]
    return replace(summary, agreement=score.agreement, agreement_error=score.standard_error)


def watched(totals, gain=None):
    watch, findings = Watch(), []
    pattern = None if gain is None else patterns(gain, 1.0)
    for total in totals:
        watch, found = watch.look(summary_of(total, gain, pattern), SHAPE)
        findings += found
    return watch, findings


@pytest.mark.parametrize("mean", [1.0, 30.0])
def test_quiet_exposures_raise_no_alarm(mean):
    detector = random_detector(SHAPE, generator(1))
    _, findings = watched((counts(detector, mean, generator(i)) for i in range(30)), detector.gain)
    assert findings == []


def test_a_pattern_that_changes_is_found_without_a_gain_and_reported_once():
    detector = random_detector(SHAPE, generator(2))
    other = with_other_pixels(detector, 1.0, generator(3))
    totals = [counts(detector if i < 12 else other, 200.0, generator(i)) for i in range(18)]
    watch, findings = watched(totals)
    assert [finding.kind for finding in findings] == ["pattern"]
    assert abs(findings[0].exposure - 12) <= 3
    assert findings[0].size > watch.pattern_limit


def test_a_changed_gain_is_found_at_its_first_exposure_and_once():
    detector = random_detector(SHAPE, generator(4))
    other = with_other_pixels(detector, 1.0, generator(5))
    totals = [counts(detector if i < 7 else other, 60.0, generator(i)) for i in range(14)]
    _, findings = watched(totals, detector.gain)
    assert [(finding.kind, finding.exposure) for finding in findings] == [("gain agreement", 7)]
    assert findings[0].size == pytest.approx(-1, abs=0.2)


@pytest.mark.parametrize("mean", [2.0, 40.0])
def test_new_lines_are_found_with_their_place_and_single_exposures_are_not_believed(mean):
    detector = random_detector(SHAPE, generator(6))
    dead, hot, once = torch.ones(3, *SHAPE)
    dead[:, 50:52] = 0
    hot[33] = 3
    once[:, 90] = 0
    totals = []
    for i in range(16):
        broken = (dead if i >= 8 else 1) * (hot if i >= 12 else 1) * (once if i == 5 else torch.ones(SHAPE))
        totals.append(counts(detector, mean, generator(i), broken))
    _, findings = watched(totals)
    lines = [(f.kind, f.exposure, f.region) for f in findings]
    assert lines == [("column", 8, (50, 0, 2, 112)), ("row", 12, (0, 33, 120, 1))]
    assert findings[0].size == pytest.approx(-1, abs=0.1)


def test_a_new_cluster_is_found_and_single_pixels_and_hits_are_not():
    detector = random_detector(SHAPE, generator(7))
    broken = torch.ones(SHAPE)
    broken[60:63, 70:72] = 0
    broken[10, 12] = 0
    totals = [counts(detector, 40.0, generator(i), broken if i >= 6 else None) for i in range(12)]
    totals[4][100:103, 100:103] = 3000
    _, findings = watched(totals)
    assert [(f.kind, f.exposure, f.region) for f in findings] == [("pixels", 6, (70, 60, 2, 3))]


def test_what_was_bad_from_the_start_is_no_news():
    detector = random_detector(SHAPE, generator(8))
    broken = torch.ones(SHAPE)
    broken[:, 20] = 0
    broken[40:45, 60:64] = 0
    _, findings = watched([counts(detector, 40.0, generator(i), broken) for i in range(10)])
    assert findings == []
