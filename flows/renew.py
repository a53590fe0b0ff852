"""Classes and maps of a session that is still being collected, renewed as its particles grow."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prefect import flow
from prefect.concurrency.sync import concurrency

from flows.recipe import Recipe
from flows.renewal_policy import Decision, classes_due, first_map_due, refinement_due
from flows.session_recipe import recall_recipe
from flows.sole_use import MAPS, sole_use
from tasks.build_initial_map import build_initial_map
from tasks.classify_2d import classify_2d
from tasks.forecast_resolution import forecast_resolution
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.records.session import StageReport
from tasks.refine_map import refine_map
from tasks.sharpen_map import sharpen_map
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import LeaseHeldError
from tasks.stores.upkeep.costs import spending
from tasks.stores.upkeep.counts import count_session

logger = logging.getLogger(__name__)

GPU_SLOTS = "gpu-slots"
"""Limit of `deployments/pools.yaml`: renewals at the same time; without it on the server there is none."""


@flow(name="renew", flow_run_name="renew {session_url}")
def renew(session_url: str, recipe: Recipe | None = None, is_final: bool = False) -> list[StageReport]:
    """Renew the classes, the first map, the refinement and the verdict of a session as far as its particles have grown.

    What is due is decided by counting and said in the log; where nothing is, no worker is asked for. Each renewal
    starts from the last one. Two renewals of one session never run at once: the second leaves, and the first or the
    next one sees the particles that came meanwhile.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``.
    recipe
        Parameters of the stages, and when they are due (``renewal``); the one kept in the store when left out.
    is_final
        The session has ended: bring everything up to date, whatever the thresholds.
    """
    chosen = recipe or recall_recipe(session_url)
    if not anything_due(session_url, chosen, is_final):
        return []
    try:
        with sole_use(session_url, MAPS), concurrency(GPU_SLOTS, strict=False):
            with spending(SessionStore.open(session_url), MAPS) as reports:
                reports += renew_due(session_url, chosen, is_final)
            return reports
    except LeaseHeldError as held:
        logger.info("nothing is renewed: %s", held)
        return []


def anything_due(session_url: str, recipe: Recipe, is_final: bool = False) -> bool:
    """Whether classes, a first map or a refinement is due now; says so in the log, and reads records only."""
    counts = count_session(SessionStore.open(session_url))
    due = [
        _said("classes", classes_due(counts, recipe.renewal, is_final)),
        _said("first map", first_map_due(counts, recipe.renewal, is_final)),
        _said("refinement", refinement_due(counts, recipe.renewal, is_final)),
    ]
    return any(due)


def renew_due(session_url: str, recipe: Recipe, is_final: bool = False) -> Iterator[StageReport]:
    """Run what is due, counting again after each step, since it decides over the next."""
    store, policy = SessionStore.open(session_url), recipe.renewal
    if _said("classes", classes_due(count_session(store), policy, is_final)):
        yield classify_2d(session_url, recipe.classify_2d)
    if _said("first map", first_map_due(count_session(store), policy, is_final)):
        yield build_initial_map(session_url, recipe.build_initial_map)
    if _said("refinement", refinement_due(count_session(store), policy, is_final)):
        yield refine_map(session_url, recipe.refine_map)
        yield sharpen_map(session_url, recipe.sharpen_map)
        yield forecast_resolution(session_url, recipe.forecast_resolution)
        yield judge_session(session_url, JudgeSessionParams(model=None))


def _said(what: str, decision: Decision) -> bool:
    logger.info("%s: %s: %s", what, "due" if decision.is_due else "not due", decision.reason)
    return decision.is_due
