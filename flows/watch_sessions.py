"""The watch folder: sessions are found where microscopes write, and processed while they are collected."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from distributed import Client
from prefect import flow
from watchfiles import watch

from flows.deployed_runs import start_next_run, start_once
from flows.events import FACILITY, SECONDS_BETWEEN_LOOKS_AROUND, Told, emit_disk_low, emit_gpu_waiting
from flows.finish_session import finish_session
from flows.process_live import process_live
from flows.recipe import read_recipe
from flows.services import ServiceError, dask_address
from flows.session_recipe import RECIPE_ADDRESS, remember_recipe
from flows.settings import Settings
from flows.sole_use import EXPOSURES
from tasks.check_resources import CheckResourcesParams, disk_shortage, waiting_work
from tasks.records.session import StageParams
from tasks.report.facility import FacilityView
from tasks.scan_folders import FolderWatch, ScanFoldersParams, ScannedSession
from tasks.stores.files.arrivals import waiting_arrivals
from tasks.stores.ledger import unfinished_exposures
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import holder_of

logger = logging.getLogger(__name__)

WAVE = "process_live/process-live"
"""Deployment that processes a wave of one session."""
FINISH = "finish_session/finish-session"
"""Deployment that brings a session up to date that has ended."""
_FINISHED = "session/finished"
_SHORTEST_PAUSE_SECONDS = 1.0
_SECONDS_AFTER_A_FAILURE = 20.0


@flow(name="watch_sessions", on_completion=[start_next_run])
def watch_sessions(
    roots: list[str],
    stores: str,
    recipe: str = "default",
    changes: dict[str, Any] | None = None,
    scan: ScanFoldersParams | None = None,
    seconds: float = 3600.0,
    poll_seconds: float = 5.0,
    processing: Literal["deployment", "here"] = "deployment",
    ended_after_hours: float = 8.0,
) -> dict[str, int]:
    """Scan the folders of all microscopes again and again, and start a wave for every session with something new.

    Runs without overlap, and starts its successor when it has ended while its deployment's schedule is on: some seconds
    in an hour nobody watches. The schedule's own runs are cancelled while one watches, and take over where one has
    died. Nothing is remembered between runs but what the stores hold.

    Parameters
    ----------
    roots
        Folders below which microscopes make a folder a session.
    stores
        Folder or s3:// prefix for the sessions' stores.
    recipe
        YAML file, or the name of a recipe of the project, for sessions that begin now; others keep theirs.
    changes
        Parameters that differ from that recipe, for instance {"classify_2d.n_classes": 30}.
    scan
        When a file counts as complete.
    seconds
        How long this run watches.
    poll_seconds
        Between two scans.
    processing
        ``deployment`` starts waves on the work pool's queue for live sessions, ``here`` runs them in this process.
    ended_after_hours
        A session is finished, with all its particles and its report, when nothing has arrived for so long.

    Returns
    -------
    Session's store -> files that are complete.
    """
    watcher = FolderWatch(stores, scan or ScanFoldersParams())
    starter = _Waves(
        recipe, {name: str(value) for name, value in (changes or {}).items()}, processing, ended_after_hours
    )
    resources, view = _Resources(stores), FacilityView(stores)
    arrived: dict[str, int] = {}
    end = time.monotonic() + seconds
    with _woken_by_events(roots) as woken:
        while True:
            for session in watcher.scan(roots):
                arrived[session.store_url] = session.n_arrived
                starter.look_after(session)
            resources.tell()
            view.update()
            if time.monotonic() + poll_seconds > end:
                return arrived
            pause = min(poll_seconds, watcher.seconds_until_due())
            time.sleep(_SHORTEST_PAUSE_SECONDS)  # a file that grows makes an event with every block
            woken.wait(max(0.0, pause - _SHORTEST_PAUSE_SECONDS))
            woken.clear()


class _Waves:
    """Starts one wave at a time for each session."""

    def __init__(
        self, recipe: str, changes: dict[str, str], processing: Literal["deployment", "here"], ended_after_hours: float
    ) -> None:
        self._recipe = recipe
        self._changes = changes
        self._processing = processing
        self._ended_after_seconds = 3600 * ended_after_hours
        self._finished: dict[str, float] = {}
        """Session -> its last arrival when it was finished."""
        self._not_before: dict[str, float] = {}
        self._may_wait: dict[str, bool] = {}
        """Session -> whether files waited when it was last looked at."""
        self._coming: dict[str, set[str]] = {}
        """Session -> files that were still being written when it was last looked at."""

    def look_after(self, session: ScannedSession) -> None:
        """Start what is due for a session; a failure is logged, stops no other session and is tried again later."""
        url = session.store_url
        if time.monotonic() < self._not_before.get(url, 0.0):
            return
        try:
            self.start_if_due(session)
            self.finish_if_ended(session)
        except Exception:
            logger.exception("%s: tried again in %.0f s", url, _SECONDS_AFTER_A_FAILURE)
            self._may_wait[url] = True
            self._not_before[url] = time.monotonic() + _SECONDS_AFTER_A_FAILURE

    def start_if_due(self, session: ScannedSession) -> None:
        """Start a wave where files wait and no wave is there, or about to be there, to take them.

        The run of a deployment takes longer to begin than most movies take to be written, so it is started when the
        first of them appears.
        """
        url = session.store_url
        is_coming = self._processing == "deployment" and self._is_coming(session)
        if not session.n_new and not is_coming and not self._may_wait.get(url, True):
            return
        store = SessionStore.open(url)
        self._may_wait[url] = True
        if holder_of(store.location, EXPOSURES) is not None:
            return
        n_waiting = len(waiting_arrivals(store)) + len(unfinished_exposures(store))
        self._may_wait[url] = n_waiting > 0
        if not n_waiting and not is_coming:
            return
        if store.product(RECIPE_ADDRESS).record() is None:
            remember_recipe(url, read_recipe(self._recipe, self._changes))
        if self._processing == "here":
            process_live(url, idle_seconds=0, renewal="here")
        else:
            start_once(WAVE, url)

    def _is_coming(self, session: ScannedSession) -> bool:
        """Whether a file is being written that was not there at the last look; one that stays broken counts once."""
        before = self._coming.get(session.store_url, set())
        self._coming[session.store_url] = set(session.waiting)
        return not before.issuperset(session.waiting)

    def finish_if_ended(self, session: ScannedSession) -> None:
        """Bring a session up to date once nothing has come for long."""
        if not session.last_arrival or time.time() - session.last_arrival < self._ended_after_seconds:
            return
        if self._finished.get(session.store_url) == session.last_arrival:
            return
        product = SessionStore.open(session.store_url).product(_FINISHED)
        record = product.record()
        if record is None or record.details["last_arrival"] != session.last_arrival:
            logger.info("%s: nothing has come for %.0f h; it is finished", session.store_url, _hours_since(session))
            if self._processing == "here":
                finish_session(session.store_url)
            else:
                start_once(FINISH, session.store_url)
            with product.write("watch_sessions", 1, StageParams(), {}) as attempt:
                attempt.details = {"last_arrival": session.last_arrival}
        self._finished[session.store_url] = session.last_arrival


class _Resources:
    """Tells the server when the disk of the stores fills up, or work waits for a worker with a GPU label."""

    def __init__(self, stores: str) -> None:
        self._stores = stores
        self._next_at = 0.0
        self._told = Told()

    def tell(self) -> None:
        """Each thing once until it is over; looked at once a minute."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + SECONDS_BETWEEN_LOOKS_AROUND
        shortage = disk_shortage(self._stores, CheckResourcesParams())
        if self._told.is_new("disk", shortage is not None) and shortage is not None:
            emit_disk_low(FACILITY, shortage)
        try:
            with Client(dask_address(Settings()), set_as_default=False, timeout=10) as client:
                waiting = waiting_work(client, "GPU", CheckResourcesParams())
        except (OSError, ServiceError) as error:
            logger.warning("no Dask scheduler answers (%s); waves will fail until one does", error)
            return
        if self._told.is_new("gpu", waiting is not None) and waiting is not None:
            emit_gpu_waiting(FACILITY, waiting)


def _hours_since(session: ScannedSession) -> float:
    return (time.time() - session.last_arrival) / 3600


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
