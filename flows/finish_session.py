"""The end of a session that was followed: everything is brought up to date with its last exposure."""

from __future__ import annotations

from prefect import flow

from flows.renew import renew
from flows.session_recipe import recall_recipe
from tasks.records.session import StageReport
from tasks.report_session import report_session


@flow(name="finish_session", flow_run_name="finish {session_url}")
def finish_session(session_url: str) -> list[StageReport]:
    """Classes, maps and the forecast with all particles, and the report.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``.
    """
    recipe = recall_recipe(session_url)
    reports = renew(session_url, recipe, is_final=True)
    report_session(session_url, recipe.report_session)
    return reports
