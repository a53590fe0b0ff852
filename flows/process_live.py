"""A wave of a session that is still being collected: what has arrived is processed while more arrives."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.deployed_runs import start_once
from flows.events import SECONDS_BETWEEN_LOOKS_AROUND, Told, emit_gain_alarm, emit_quality_drift
from flows.exposure_stages import particle_finding, preprocessing, run_within
from flows.forecast import show_forecast
from flows.process_session import check_failures, merge_batches
from flows.recipe import Recipe
from flows.renew import anything_due, renew
from flows.session_recipe import recall_recipe, with_source
from flows.sole_use import EXPOSURES, sole_use
from tasks.check_quality import check_quality
from tasks.diagnose_gain import diagnose_gain
from tasks.import_session import import_session
from tasks.orders import Orders
from tasks.records.session import StageReport
from tasks.report.live import LiveView
from tasks.scan_folders import source_folder
from tasks.stores.files.arrivals import Arrival, arrivals_version, waiting_arrivals
from tasks.stores.ledger import unfinished_exposures
from tasks.stores.products.session_gain import read_gain_diagnosis
from tasks.stores.record_memory import remembered_records
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import Lease, LeaseHeldError
from tasks.stores.upkeep.costs import spending

logger = logging.getLogger(__name__)

RENEWAL = "renew/renew"
"""Deployment that renews classes and maps."""
_SECONDS_BETWEEN_LOOKS = 1.0
_FEWEST_TO_JUDGE = 20
"""Exposures of a wave from which failures speak for a cause that they share, as bad files often come together, and from
which what the session will need is told anew."""


@flow(name="process_live", flow_run_name="live {session_url}")
def process_live(
    session_url: str,
    recipe: Recipe | None = None,
    idle_seconds: float = 60.0,
    max_seconds: float = 3600.0,
    renewal: Literal["deployment", "here", "never"] = "deployment",
) -> list[StageReport]:
    """Process the exposures of a session as they arrive, until nothing has arrived for a while.

    Whoever watches the folder hands files over (`tasks.stores.files.arrivals`); a wave takes them, in batches as
    large as what has gathered, and ends when there is nothing new for ``idle_seconds``, or at the first pause after
    ``max_seconds``. Two waves of one session never run at once: the second waits for a moment and leaves, since the
    first takes what it would have taken. A wave that dies loses nothing: the next one continues.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``.
    recipe
        Parameters of every stage; those that are kept with the session when left out.
    idle_seconds
        The wave ends when nothing has arrived for so long.
    max_seconds
        The wave ends at the first pause after this time.
    renewal
        Where classes and maps are renewed when enough particles have come: ``deployment`` starts a run on the pool for
        GPUs, ``here`` does it when the wave has ended, ``never`` leaves them.
    """
    source = source_folder(SessionStore.open(session_url))
    chosen = with_source(recipe or recall_recipe(session_url), source)
    try:
        with sole_use(session_url, EXPOSURES) as (lease,):
            is_renewed = renewal == "deployment"
            reports = follow_arrivals(session_url, source.folder, chosen, idle_seconds, max_seconds, is_renewed, lease)
    except LeaseHeldError as held:
        logger.info("nothing to do: %s", held)
        return []
    if renewal == "here":
        reports += renew(session_url, chosen)
    return reports


@task(name="follow_arrivals", cache_policy=NO_CACHE)
def follow_arrivals(
    session_url: str,
    source: str,
    recipe: Recipe,
    idle_seconds: float,
    max_seconds: float,
    is_renewed: bool,
    lease: Lease,
) -> list[StageReport]:
    """Take what has arrived until nothing does.

    One task run a wave: a task run a batch would cost more of the server's database than the exposures of a batch.
    """
    is_foreseen = False
    with spending(SessionStore.open(session_url), EXPOSURES) as reports:
        for spent in _batches_as_they_come(session_url, source, recipe, idle_seconds, max_seconds, is_renewed, lease):
            reports[:] = merge_batches([*reports, *spent])
            check_failures(reports, recipe.max_failed_fraction, _FEWEST_TO_JUDGE)
            if not is_foreseen and max(report.n_seen for report in reports) >= _FEWEST_TO_JUDGE:
                is_foreseen = True
                show_forecast(session_url, recipe, reports)
    return reports


def _batches_as_they_come(
    session_url: str,
    source: str,
    recipe: Recipe,
    idle_seconds: float,
    max_seconds: float,
    is_renewed: bool,
    lease: Lease,
) -> Iterator[list[StageReport]]:
    store = SessionStore.open(session_url)
    started = last_arrival = time.monotonic()
    tried: set[Arrival] = set()
    version: tuple[str, ...] | None = None
    unfinished = unfinished_exposures(store)
    orders, view = Orders(), LiveView(session_url, recipe.report_session.web_folder)
    looked_around_at, alarms = -math.inf, _Alarms()
    while True:
        orders.heed()
        lease.check()
        if unfinished:  # of a wave that died
            left, unfinished = unfinished[: recipe.batch_size], unfinished[recipe.batch_size :]
            yield process_exposures(session_url, left, recipe)
            continue
        found = arrivals_version(store)
        batch: list[Arrival] = []
        if found != version:
            waiting = [arrival for arrival in waiting_arrivals(store) if arrival not in tried]
            batch = waiting[: recipe.batch_size]
            version = found if len(batch) == len(waiting) else None
        if batch:
            tried |= set(batch)
            files = [arrival.path for arrival in batch]
            yield process_arrivals(session_url, source, files, recipe)
            view.update(len(batch))
            last_arrival = time.monotonic()
            if last_arrival - looked_around_at > SECONDS_BETWEEN_LOOKS_AROUND:
                looked_around_at = last_arrival
                alarms.tell(session_url, recipe)
                if is_renewed and anything_due(session_url, recipe):
                    start_once(RENEWAL, session_url)
        elif time.monotonic() - last_arrival >= idle_seconds or time.monotonic() - started > max_seconds:
            view.finish()
            return
        else:
            time.sleep(min(_SECONDS_BETWEEN_LOOKS, idle_seconds))


class _Alarms:
    """Tells the server what changed in mid-session, each thing once a wave."""

    def __init__(self) -> None:
        self._told = Told()

    def tell(self, session_url: str, recipe: Recipe) -> None:
        store = SessionStore.open(session_url)
        changes = check_quality.fn(session_url, recipe.check_quality)
        if fresh := [change for change in changes if self._told.is_new(f"quality {change.figure}")]:
            emit_quality_drift(store.session.name, fresh)
        diagnosis = read_gain_diagnosis(store)
        alarms = diagnosis.alarms if diagnosis else []
        if new := [a for a in alarms if self._told.is_new(f"{a.kind} {a.exposure} {a.region_px}")]:
            emit_gain_alarm(store.session.name, new)


def process_arrivals(session_url: str, source: str, files: Sequence[str], recipe: Recipe) -> list[StageReport]:
    """Import a few files that have arrived, and all that is done with single exposures."""
    imported = import_session.fn(session_url, source, recipe.import_session, list(files))
    return [imported, *process_exposures(session_url, imported.available, recipe)]


def process_exposures(session_url: str, exposures: list[str], recipe: Recipe) -> list[StageReport]:
    """All that is done with single exposures, within the task run of the wave."""
    stages = ((diagnose_gain, recipe.diagnose_gain), *preprocessing(recipe), *particle_finding(recipe))
    with remembered_records():  # the lease of the wave keeps others from writing them
        return list(run_within(stages, session_url, exposures))
