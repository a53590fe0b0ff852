"""A predicted structure, from an engine or from files, into a session."""

from __future__ import annotations

from prefect import flow

from flows.sole_use import MODELS, sole_use
from tasks.predict_structure import PredictStructureParams, predict_structure
from tasks.records.session import StageReport
from tasks.stores.session_store import SessionStore


class PredictionFailedError(RuntimeError):
    """There is no prediction: why."""


@flow(name="predict", flow_run_name="predict {session_url}")
def predict(session_url: str, params: PredictStructureParams) -> StageReport:
    """``predictions/<name>`` in a session, which is made where there is none.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``; made where there is none.
    params
        What is predicted and by which engine, or the files of a prediction; paths are those of the machine that runs
        the flow and of its workers.

    Raises
    ------
    PredictionFailedError
        With the reason, and what to do next.
    """
    SessionStore.create(session_url)
    with sole_use(session_url, MODELS):
        report = predict_structure(session_url, params)
    for reason in (*report.failed.values(), *report.skipped.values()):
        raise PredictionFailedError(reason)
    return report
