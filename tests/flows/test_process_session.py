"""Batches, failures and merged reports of the flow."""

import pytest

from flows.process_session import TooManyFailuresError, batches, check_failures, merge_batches
from tasks.records.session import StageReport


def test_batches_hold_every_item_once_and_in_order():
    items = [f"e{i}" for i in range(7)]
    parts = list(batches(items, 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [item for part in parts for item in part] == items


def test_the_flow_stops_when_too_many_exposures_failed():
    reports = [
        StageReport(stage="import_session", done=["a", "b", "c"]),
        StageReport(stage="correct_motion", done=["a"], failed={"b": "constant", "c": "gain of another shape"}),
    ]
    check_failures(reports, 0.7)
    with pytest.raises(TooManyFailuresError, match=r"2 of 3 exposures failed.*b: correct_motion: constant"):
        check_failures(reports, 0.5)


def test_batches_of_one_stage_become_one_report():
    merged = merge_batches(
        [
            StageReport(stage="a", done=["1"], cpu_seconds=1, peak_memory_bytes=5),
            StageReport(stage="b", done=["1"]),
            StageReport(stage="a", failed={"2": "x"}, cpu_seconds=2, peak_memory_bytes=3),
        ]
    )
    assert [r.stage for r in merged] == ["a", "b"]
    assert merged[0].n_seen == 2
    assert (merged[0].cpu_seconds, merged[0].peak_memory_bytes) == (3, 5)
