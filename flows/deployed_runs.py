"""Flow runs that flows start on the work pools: one of a kind for a session, or the next after this one."""

from __future__ import annotations

import logging
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment

logger = logging.getLogger(__name__)

_OPEN = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.CANCELLING,
    StateType.PAUSED,
]


def start_once(deployment: str, session_url: str, **parameters: object) -> bool:
    """Start a deployment's run for a session unless the server has one that has not ended; says whether it did.

    A run that an operator suspended counts as not ended: nobody starts another behind their back.
    """
    tag = f"{deployment}:{session_url}"
    is_open = FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN))
    with get_client(sync_client=True) as client:
        of_session = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]), state=is_open)
        if client.read_flow_runs(flow_run_filter=of_session, limit=1):
            return False
    run_deployment(
        deployment, parameters={"session_url": session_url, **parameters}, timeout=0, as_subflow=False, tags=[tag]
    )
    logger.info("%s started for %s", deployment, session_url)
    return True


def start_next_run(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for the completion of a flow of which one run at a time is there: start the next while its schedule is on.

    The server has ended the run by then, so that its successor is not cancelled for being the second.
    """
    if flow_run.deployment_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment(flow_run.deployment_id)
            schedule = next((schedule for schedule in deployment.schedules if schedule.active), None)
            if not deployment.paused and schedule is not None:
                client.create_flow_run_from_deployment(deployment.id, parameters=schedule.parameters)
    except Exception:
        logger.exception("the next run of %s could not be started; its schedule starts one", flow.name)
