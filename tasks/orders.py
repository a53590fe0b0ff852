"""What an operator ordered in the Prefect UI while a stage runs: to suspend the flow run, or to cancel it.

The engine looks at orders between tasks only, and a stage may work on its items for hours. *Suspend* reaches a run of a
deployment through the engine's own watch (an event of the server, within a second; a look every 10 s as the fallback):
the stage has only to ask it. *Resume* then starts the flow run anew, in a new process, which keeps what is done.
*Cancel* ends the process of a deployment's run from outside; a flow started from a terminal has nobody who would do so,
and asks the server itself. Either tells the server as soon as it has let go of its session: the worker of a pool does
so only when it has seen the process end and has loaded the flow once more to look for hooks, which took 14 s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, PrefectException, TerminationSignal
from prefect.states import Cancelled

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_QUESTIONS = 5.0


class Orders:
    """The orders to the flow run that this code runs in; there are none outside of one."""

    def __init__(self) -> None:
        self._context = FlowRunContext.get()
        self._asked_at = time.monotonic()

    def heed(self) -> None:
        """Raise what ends the flow run in good order where it is to be suspended or was cancelled; else cheap."""
        if self._context is None:
            return
        self._context.flow_run_suspension_request.raise_if_requested()
        if self._context.flow_run is None or time.monotonic() - self._asked_at < _SECONDS_BETWEEN_QUESTIONS:
            return
        self._asked_at = time.monotonic()
        try:
            run_id, is_supervised = _root_run(self._context.flow_run.id)
            if is_supervised:
                return
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(run_id).state
        except (httpx.HTTPError, PrefectException):  # a server that is away gives no orders
            return
        if state is not None and (state.is_cancelled() or state.is_cancelling()):
            raise Abort("the flow run was cancelled in the Prefect UI; what is done is kept")


@contextmanager
def cancellation() -> Iterator[None]:
    """Around all that a flow run holds of a session: where the block ends because the run was cancelled, say so."""
    try:
        yield
    except (Abort, TerminationSignal):
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            _conclude(context.flow_run.id)
        raise


def _conclude(flow_run_id: UUID) -> None:
    """Turn *Cancelling* into *Cancelled*; a process that ends for another reason leaves its run as it is."""
    try:
        run_id, _ = _root_run(flow_run_id)
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run_id).state
            if state is not None and state.is_cancelling():
                message = "The flow run was cancelled; it has let go of its session, and what is done is kept."
                client.set_flow_run_state(run_id, Cancelled(message=message), force=True)
    except (httpx.HTTPError, PrefectException) as error:  # the worker of the pool says it later
        logger.warning("the server was not told that the run is cancelled: %s", error)


@lru_cache(maxsize=64)
def _root_run(flow_run_id: UUID) -> tuple[UUID, bool]:
    """The run that the operator sees at the top, and whether a worker watches over its process."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_id)
        while run.parent_task_run_id is not None:
            parent = client.read_task_run(run.parent_task_run_id).flow_run_id
            if parent is None:
                break
            run = client.read_flow_run(parent)
    return run.id, run.deployment_id is not None
