"""Flow runs that flows start on the work pools: at most one of a kind for a session."""

from __future__ import annotations

import logging

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
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
