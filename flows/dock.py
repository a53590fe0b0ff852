"""Structures into a map of a session, or of another program."""

from __future__ import annotations

from prefect import flow

from flows.sole_use import MODELS, sole_use
from tasks.dock_model import DockModelParams, dock_model
from tasks.flex_model import FlexModelParams, flex_model
from tasks.import_map import ImportMapParams, import_map
from tasks.records.session import StageParams, StageReport
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.session_store import SessionStore


class DockingFailedError(RuntimeError):
    """Nothing lies in the map: why."""


class DockRecipe(StageParams):
    """What is docked, and where."""

    import_map: ImportMapParams | None = None
    """Files of a map that another program made; without them a map of the session is used."""
    dock_model: DockModelParams
    is_flexible: bool = False
    """Whether what was docked is then bent into the map, as ``models/flexed``."""


@flow(name="dock", flow_run_name="dock {session_url}")
def dock(session_url: str, recipe: DockRecipe) -> list[StageReport]:
    """``models/docked`` in a session, which is made where there is none; and ``models/flexed`` where it is asked for.

    The session's report shows what lies where.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``; made where there is none.
    recipe
        The structures, and the map that they are docked in.

    Raises
    ------
    DockingFailedError
        With the reason, and what to do next.
    """
    SessionStore.create(session_url)
    with sole_use(session_url, MODELS):
        reports, params = [], recipe.dock_model
        if recipe.import_map is not None:
            reports.append(_needed(import_map(session_url, recipe.import_map)))
            params = params.model_copy(update={"map": "imported"})
        reports.append(_needed(dock_model(session_url, params)))
        if recipe.is_flexible:
            bending = FlexModelParams(map=params.map, resolution_angstrom=params.resolution_angstrom)
            reports.append(_needed(flex_model(session_url, bending)))
    report_session(session_url, ReportSessionParams())
    return reports


def _needed(report: StageReport) -> StageReport:
    for reason in (*report.failed.values(), *report.skipped.values()):
        raise DockingFailedError(f"{report.stage}: {reason}")
    return report
