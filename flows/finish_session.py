"""The end of a session that was followed: everything is brought up to date with its last exposure."""

from __future__ import annotations

from prefect import flow

from flows.exposure_stages import particle_finding, run_each
from flows.preprocess import preprocess
from flows.process_session import batches, merge_batches
from flows.renew import renew
from flows.session_recipe import recall_recipe
from flows.sole_use import EXPOSURES, sole_use
from tasks.records.session import StageReport
from tasks.report_session import report_session
from tasks.stores.products.exposure_order import exposures_by_time
from tasks.stores.session_store import SessionStore
from tasks.stores.upkeep.costs import spending


@flow(name="finish_session", flow_run_name="finish {session_url}")
def finish_session(session_url: str) -> list[StageReport]:
    """Classes, maps and the forecast with all particles, and the report.

    Exposures are gone through first: where the gain was estimated anew since they came, their motion is corrected
    again.

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``.
    """
    recipe = recall_recipe(session_url)
    exposures = exposures_by_time(SessionStore.open(session_url))
    with sole_use(session_url, EXPOSURES), spending(SessionStore.open(session_url), EXPOSURES) as reports:
        for batch in batches(exposures, recipe.batch_size):
            reports += preprocess(session_url, batch, recipe)
        reports += run_each(particle_finding(recipe), session_url, exposures)
    renewed = renew(session_url, recipe, is_final=True)
    report_session(session_url, recipe.report_session)
    return merge_batches([*reports, *renewed])
