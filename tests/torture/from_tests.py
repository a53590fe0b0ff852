"""Faults that have a test of their own: run with the full length of the outage, their rows read from the result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.torture.site import Row

_SECONDS_TO_END = 30.0
"""After the report is there."""
_WATCH = "tests/flows/test_watch_sessions.py"
TESTS = {
    "tests/infra/test_swift.py::test_an_outage_is_waited_for_and_nothing_is_lost_or_done_twice": "the S3 store fails",
    "tests/infra/test_swift.py::test_wrong_credentials_are_named_and_not_waited_for": "wrong S3 credentials",
    "tests/infra/test_swift.py::test_a_session_on_s3_has_the_numbers_of_one_in_a_folder": "local folder against S3",
    "tests/infra/test_postgresql.py::test_a_flow_outlives_a_restart_of_its_database": "PostgreSQL stopped",
    "tests/infra/test_slurm.py::test_a_cancelled_job_is_replaced_and_its_item_is_done_once": "a Slurm job cancelled",
    "tests/tasks/stores/test_commit.py::test_a_full_disk_is_named_and_leaves_nothing_readable": "a full disk",
    f"{_WATCH}::test_two_waves_at_once_do_everything_once": "two operators start one session",
    f"{_WATCH}::test_a_watch_that_starts_again_processes_nothing_again": "a batch handed over twice",
}  # fmt: skip


def rows(outage_seconds: float) -> list[Row]:
    """One row a test, in its own words; it asserts that nothing is lost or done twice: a failed one counts as both."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        tests = subprocess.Popen(
            [sys.executable, "-m", "pytest", *TESTS, f"--junitxml={report}", "-o", "junit_family=xunit1"],
            env={**os.environ, "VITRIFLOW_TEST_OUTAGE_SECONDS": str(outage_seconds)},
        )
        _wait_for(report, tests)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return [_row(case) for case in cases]


def _wait_for(report: Path, tests: subprocess.Popen[bytes]) -> None:
    """Until the tests have ended; Prefect's client may go on for half an hour to tell servers that were stopped."""
    while not report.exists() and tests.poll() is None:
        time.sleep(1.0)
    try:
        tests.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        tests.kill()
        tests.wait()


def _row(case: ElementTree.Element) -> Row:
    name = str(case.get("name"))
    fault = next((words for test, words in TESTS.items() if test.endswith(f"::{name.split('[')[0]}")), name)
    variant = f" ({name.split('[')[1].rstrip(']')})" if "[" in name else ""
    properties = {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}
    seconds = next((float(v) for k, v in properties.items() if "recover" in k), None)
    outage = properties.get("outage_seconds")
    fault += variant + (f" for {float(outage):.0f} s" if outage else "")
    if case.find("skipped") is not None:
        return Row(fault, f"not run: {case.find('skipped').get('message')}"[:160], 0, 0, None)  # type: ignore[union-attr]
    failed = case.find("failure") is not None or case.find("error") is not None
    if failed:
        return Row(fault, "FAILED, see above", 1, 1, seconds)
    return Row(fault, properties["seen"], 0, 0, seconds)
