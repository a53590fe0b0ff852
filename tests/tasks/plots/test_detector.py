"""Pictures of the gain's diagnosis: drawn from whatever was found."""

import numpy as np

from tasks.plots.detector import gain_diagnosis
from tasks.plots.style import png
from tasks.records.gain import GainAlarm, GainDiagnosis, GainRow


def row(angle, flip, meaning, agreement, is_as_given=False):
    return GainRow(
        rotation_deg=angle, flip=flip, meaning=meaning, binning=1.0, agreement=agreement, standard_error=0.01,
        sigma=agreement / 0.01, is_as_given=is_as_given,
    )  # fmt: skip


def test_rows_course_and_alarms_are_drawn_where_they_belong():
    rows = [
        row(angle, flip, meaning, 0.99 if (angle, flip, meaning) == (90, "vertical", "multiply") else -0.02, angle == 0)
        for meaning in ("multiply", "divide") for angle in (0, 90, 180, 270) for flip in ("none", "vertical")
    ]  # fmt: skip
    rows.sort(key=lambda one: -one.agreement)
    alarms = [GainAlarm(kind="column", exposure="m", number=number, size=-1, words="") for number in (12, 12, 20)]
    found = GainDiagnosis(kind="other way", verdict="rotate 90°", rows=rows, n_exposures=30, n_alarms=3, alarms=alarms)
    series = np.stack([np.full(30, 40.0), np.linspace(0.95, 1.0, 30), np.full(30, 0.01)], 1)
    figure = gain_diagnosis(found, series)
    scores, course = figure.axes
    longest = max(scores.patches, key=lambda patch: patch.get_width())
    label = scores.get_yticklabels()[int(np.argmax([p.get_width() for p in scores.patches]))].get_text()
    assert longest.get_width() == 0.99 and label == "multiply 90°, vertical"
    assert [text.get_text() for text in course.texts] == ["column × 2", "column"]
    assert course.get_title("left") == "3 alarms"
    assert len(png(figure)) > 2000


def test_a_session_without_a_gain_or_without_exposures_is_still_a_picture():
    found = GainDiagnosis(kind="no gain", verdict="no gain was given")
    assert len(png(gain_diagnosis(found, np.zeros((0, 3))))) > 500
    series = np.array([[30.0, np.nan, np.nan]] * 4)
    assert gain_diagnosis(found, series).axes[1].get_ylabel() == "electrons on a pixel"
