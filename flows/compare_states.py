"""States of a molecule beside each other, each compared with the first one."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from flows.sole_use import MODELS, sole_use
from tasks.compare_states import CompareStatesParams
from tasks.compare_states import compare_states as compare
from tasks.records.session import StageReport
from tasks.report_session import ReportSessionParams, report_session


class ComparisonFailedError(RuntimeError):
    """There is no comparison: why."""


@flow(name="compare_states", flow_run_name="compare states with {session_url}")
def compare_states(session_url: str, others: Sequence[CompareStatesParams]) -> list[StageReport]:
    """``comparisons/<name>`` in the session of the first state, one for each other state.

    Its report shows what moves.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``.
    others
        One set of parameters for each other state: its session, or another model of this one.

    Raises
    ------
    ComparisonFailedError
        With the reason, and what to do next.
    StoreError
        Where a session or its model is not there.
    """
    reports = []
    with sole_use(session_url, MODELS):
        for params in others:
            reports.append(compare(session_url, params))
            for reason in (*reports[-1].failed.values(), *reports[-1].skipped.values()):
                raise ComparisonFailedError(reason)
    report_session(session_url, ReportSessionParams())
    return reports
