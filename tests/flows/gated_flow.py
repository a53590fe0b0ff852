"""A flow of one stage whose items wait at a gate in a folder, so that a test decides when each of them ends."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.sole_use import EXPOSURES, sole_use
from tasks.records.session import StageParams, StageReport
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_LONGEST_WAIT_SECONDS = 120


class GateParams(StageParams):
    folder: str


def _no_inputs(store, item):
    return []


def _wait_at_gate(store, item, params, attempt):
    """Leave a file that says this item has begun, and go on once there is one that says it may."""
    folder = Path(params.folder)
    (folder / f"begun-{item}-{uuid.uuid4().hex[:6]}").touch()
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while not (folder / "open").exists() and not (folder / f"open-{item}").exists():
        if time.monotonic() > deadline:
            raise ValueError(f"{item}: the gate {folder} stayed closed")
        time.sleep(0.02)
    attempt.write("micrograph", np.full((4, 4), 1.0, np.float32))


GATED = Stage("import_session", 1, "CPU", _wait_at_gate, _no_inputs)


@task(name="pass_gate", cache_policy=NO_CACHE)
def pass_gate(session_url: str, items: list[str], folder: str) -> StageReport:
    return run_stage(session_url, GATED, items, GateParams(folder=folder))


@flow(name="gated")
def gated(session_url: str, folder: str, n_items: int = 12) -> None:
    """Take the items through the gate in ``folder``."""
    SessionStore.create(session_url)
    with sole_use(session_url, EXPOSURES):
        pass_gate(session_url, [f"item-{i:02d}" for i in range(n_items)], folder)
