"""The versions of a session side by side, as a table in the Prefect UI, in the report and on the command line."""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.records.version_table import VersionTable
from tasks.report.artifacts import artifact_key, show_table
from tasks.report.versions import version_table
from tasks.report.words import markdown_text
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)


@task(name="compare_versions", cache_policy=NO_CACHE)
def compare_versions(session_url: str) -> VersionTable:
    """Parameters that differ, and figures of every stage, in the session and all of its versions.

    Reads ledgers and the few records of the whole session; a session of 10,000 exposures takes some seconds a version.
    """
    store = SessionStore.open(session_url)
    table = version_table(store)
    name = store.session.name
    show_table(artifact_key(name, "versions"), table.rows(), f"Versions of {markdown_text(name)}")
    logger.info("compare_versions: %s: %s", name, ", ".join(table.versions))
    return table
