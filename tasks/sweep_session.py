"""Removes what a session need not keep: expired products and attempts that nothing names."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.records.retention import RetentionPolicy, SweepReport
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import Lease, LeaseHeldError, hold, holder_of
from tasks.stores.upkeep.retention import plan_sweep, remove
from tasks.stores.upkeep.survey import survey, versions_of

logger = logging.getLogger(__name__)


@task(name="sweep_session", cache_policy=NO_CACHE)
def sweep_session(session_url: str, policy: RetentionPolicy, is_dry_run: bool = True) -> SweepReport:
    """What expired under ``policy`` is removed, or in a dry run listed; a session that a flow works on is left alone.

    Stops at the first file that cannot be removed. Memory: some hundred bytes a product of the session.
    """
    store = SessionStore.open(session_url)
    report = SweepReport(session=store.session.name, url=store.url, is_dry_run=is_dry_run)
    with ExitStack() as stack:
        try:
            leases = [] if is_dry_run else _hold_all(store, stack)
        except LeaseHeldError as error:
            report.refused = str(error)
            logger.info("sweep_session %s: left alone: %s", store.session.name, error)
            return report
        if is_dry_run and (holder := _any_holder(store)):
            report.refused = f"{holder} works on it; a sweep would leave it alone until that has ended"
        found = survey(store)
        now = datetime.now(UTC)
        plan = plan_sweep(found, policy, now)
        report.last_activity = found.last_activity.isoformat(timespec="seconds")
        report.n_products = sum(product.is_recorded for product in found.products.values())
        report.held = plan.held
        report.n_already_expired = plan.n_already_expired
        if is_dry_run:
            report.removed = [removal.item for removal in plan.removals]
        else:
            report.removed.extend(remove(plan.removals, now, partial(_check, leases)))
    logger.info(
        "sweep_session %s: %s %.3f GB in %d products (%s); %d held since they are needed",
        store.session.name, "would remove" if is_dry_run else "removed", report.n_bytes / 1e9, len(report.removed),
        ", ".join(f"{name} {n / 1e9:.3f} GB" for name, n in report.bytes_by_class().items()) or "nothing",
        len(report.held),
    )  # fmt: skip
    return report


def _hold_all(store: SessionStore, stack: ExitStack) -> list[Lease]:
    """The lease of every part of the session and its versions, so that no flow starts on it meanwhile."""
    holder = f"sweep_session ({socket.gethostname()}, process {os.getpid()})"
    return [
        stack.enter_context(hold(one.location, part, holder))
        for one in (store, *versions_of(store))
        for part in _parts(one)
    ]


def _check(leases: list[Lease]) -> None:
    for lease in leases:
        lease.check()


def _any_holder(store: SessionStore) -> str | None:
    holders = (holder_of(one.location, part) for one in (store, *versions_of(store)) for part in _parts(one))
    return next((holder for holder in holders if holder is not None), None)


def _parts(store: SessionStore) -> list[str]:
    """Parts of a session that a flow has held a lease of."""
    return (store.location / "leases").list()
