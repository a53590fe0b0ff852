"""One flow at a time works on a part of a session; the next one continues what it left."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from prefect.runtime import flow_run

from flows.services import dask_address
from flows.settings import Settings
from tasks.orders import cancellation
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import Lease, hold
from tasks.workers.connection import connect

EXPOSURES: Literal["exposures"] = "exposures"
"""What is made of single exposures."""
MAPS: Literal["maps"] = "maps"
"""Classes, particle sets and maps."""
MODELS: Literal["models"] = "models"
"""Atomic models and what is known of them."""


@contextmanager
def sole_use(session_url: str, *parts: str) -> Iterator[tuple[Lease, ...]]:
    """Leases of parts of a session, in the order given, and the Dask cluster for the stages inside the block.

    Where somebody else holds a part, waits for as long as the settings say and then raises LeaseHeldError, which names
    the flow that works on it.
    """
    settings = Settings()
    location = SessionStore.open(session_url).location
    run = flow_run.get_name()
    holder = f"{flow_run.get_flow_name()} {run}" if run else "a program"
    holder = f"{holder} of {getpass.getuser()} on {socket.gethostname()}"
    with cancellation(), ExitStack() as stack:
        leases = tuple(
            stack.enter_context(hold(location, part, holder, wait_seconds=settings.lease_patience_seconds))
            for part in parts
        )
        owners = tuple(f"{location.url}#{part}" for part in parts)
        stack.enter_context(connect(dask_address(settings), owners, settings.worker_patience_seconds))
        yield leases
