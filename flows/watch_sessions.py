"""The watch folder: sessions are found where microscopes write, and processed while they are collected."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from watchfiles import watch

from flows.process_live import process_live
from flows.recipe import read_recipe
from flows.session_recipe import RECIPE_ADDRESS, remember_recipe
from flows.sole_use import EXPOSURES
from tasks.scan_folders import FolderWatch, ScanFoldersParams, ScannedSession
from tasks.stores.arrivals import waiting_arrivals
from tasks.stores.lease import holder_of
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)

WAVE = "process_live/process-live"
"""Deployment that processes a wave of one session."""
_SHORTEST_PAUSE_SECONDS = 1.0


@flow(name="watch_sessions")
def watch_sessions(
    roots: list[str],
    stores: str,
    recipe: str = "default",
    changes: dict[str, Any] | None = None,
    scan: ScanFoldersParams | None = None,
    seconds: float = 840.0,
    poll_seconds: float = 5.0,
    processing: Literal["deployment", "here"] = "deployment",
) -> dict[str, int]:
    """Scan the folders of all microscopes again and again, and start a wave for every session with something new.

    Runs on a schedule whose interval is a little longer than ``seconds``, without overlap. Nothing is remembered
    between runs but what the stores hold, so a run that dies costs the time until the next.

    Parameters
    ----------
    roots
        Folders below which microscopes make a folder a session.
    stores
        Folder or s3:// prefix for the sessions' stores.
    recipe
        YAML file, or the name of a recipe of the project, for sessions that begin now; others keep theirs.
    changes
        Parameters that differ from that recipe, for instance {"refine_map.symmetry": "O"}.
    scan
        When a file counts as complete.
    seconds
        How long this run watches.
    poll_seconds
        Between two scans.
    processing
        ``deployment`` starts waves on the work pool's queue for live sessions, ``here`` runs them in this process.

    Returns
    -------
    Session's store -> files that are complete.
    """
    watcher = FolderWatch(stores, scan or ScanFoldersParams())
    starter = _Waves(recipe, {name: str(value) for name, value in (changes or {}).items()}, processing)
    arrived: dict[str, int] = {}
    end = time.monotonic() + seconds
    with _woken_by_events(roots) as woken:
        while True:
            for session in watcher.scan(roots):
                arrived[session.store_url] = session.n_arrived
                starter.start_if_due(session)
            if time.monotonic() + poll_seconds > end:
                return arrived
            time.sleep(_SHORTEST_PAUSE_SECONDS)  # a file that grows makes an event with every block
            woken.wait(max(0.0, poll_seconds - _SHORTEST_PAUSE_SECONDS))
            woken.clear()


class _Waves:
    """Starts one wave at a time for each session."""

    def __init__(self, recipe: str, changes: dict[str, str], processing: Literal["deployment", "here"]) -> None:
        self._recipe = recipe
        self._changes = changes
        self._processing = processing
        self._may_wait: dict[str, bool] = {}
        """Session -> whether files waited when it was last looked at."""

    def start_if_due(self, session: ScannedSession) -> None:
        """Start a wave where files wait and no wave is there, or about to be there, to take them."""
        url = session.store_url
        if not session.n_new and not self._may_wait.get(url, True):
            return
        store = SessionStore.open(url)
        n_waiting = len(waiting_arrivals(store))
        self._may_wait[url] = n_waiting > 0
        if not n_waiting or holder_of(store.location, EXPOSURES) is not None:
            return
        if store.product(RECIPE_ADDRESS).record() is None:
            remember_recipe(url, read_recipe(self._recipe, self._changes))
        if self._processing == "here":
            process_live(url, idle_seconds=0)
        elif not _is_on_its_way(url):
            run_deployment(WAVE, parameters={"session_url": url}, timeout=0, as_subflow=False, tags=[_tag(url)])
            logger.info("%s: %d files wait; a wave starts", url, n_waiting)


def _tag(url: str) -> str:
    return f"live:{url}"


def _is_on_its_way(url: str) -> bool:
    """Whether the server has a wave of this session that has not ended."""
    is_open = FlowRunFilterState(
        type=FlowRunFilterStateType(
            any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
        )
    )
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[_tag(url)]), state=is_open), limit=1
        )
    return bool(found)


@contextmanager
def _woken_by_events(roots: list[str]) -> Iterator[threading.Event]:
    """An event that file events below the roots set; they are a hint and no more, so a failure is only logged."""
    woken, is_over = threading.Event(), threading.Event()

    def listen() -> None:
        try:
            for _ in watch(*roots, stop_event=is_over, recursive=True, ignore_permission_denied=True):
                woken.set()
        except Exception as error:  # no inotify here (NFS, limits of the kernel): the scan finds everything anyway
            logger.warning("no file events from %s (%s); scans alone find new files", ", ".join(roots), error)

    listener = threading.Thread(target=listen, name="file-events", daemon=True)
    listener.start()
    try:
        yield woken
    finally:
        is_over.set()
        listener.join(timeout=10)
