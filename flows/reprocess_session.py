"""A session once more: only what failed, or with other parameters as a new version beside the old one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from prefect import flow
from pydantic import Field

from flows.process_session import accounted, merge_batches, solve
from flows.recipe import Recipe, changed_recipe
from flows.session_recipe import recall_recipe, remember_recipe, with_source
from flows.sole_use import EXPOSURES, MAPS, sole_use
from tasks.compare_versions import compare_versions
from tasks.import_session import import_session
from tasks.records.exposure import Exposure
from tasks.records.session import StageReport
from tasks.scan_folders import followed_folder
from tasks.stores.ledger import Line, read_ledger
from tasks.stores.session_store import SessionStore

_SESSION: Any = Field(description="Store of the session: a folder, or `s3://bucket/prefix`.")
_VERSION: Any = Field(
    default="", description="Name of a version beside the session, a new one or one that exists; empty: the session."
)
_CHANGES: Any = Field(
    default={},
    description='Parameters of the recipe and their new values, for instance `{"classify_2d.n_classes": 30}`. The new '
    "version pays only for what depends on them, and a table compares it with the others.",
)
_ONLY_FAILED: Any = Field(
    default=False,
    description="Try again what failed, and what depends on it; everything else is kept. Unreadable files and rejected "
    "exposures did not fail.",
)
_SOURCE: Any = Field(
    default="", description="Folder of the files, where files have to be read again; empty: where they came from."
)
"""Prefect shows these descriptions in the form of a deployment."""


@flow(name="reprocess_session", flow_run_name="again {session_url}")
def reprocess_session(
    session_url: str = _SESSION,
    version: str = _VERSION,
    changes: dict[str, Any] = _CHANGES,
    only_failed: bool = _ONLY_FAILED,
    source: str = _SOURCE,
) -> list[StageReport]:
    """Process a session again with the recipe that is kept in its store; the parameters are described above.

    With neither changes nor ``only_failed``, a session that was interrupted is continued.

    Returns
    -------
    One report a stage.
    """
    store, recipe = _version(session_url, version, changes, only_failed)
    with sole_use(store.url, EXPOSURES, MAPS):
        with accounted(store.url, recipe) as reports:
            lines = read_ledger(store).lines
            chosen = [line for line in lines if line.state == "failed"] if only_failed else lines
            exposures = [line.exposure for line in chosen if _is_imported(line)]
            if _needs_import(chosen, store, recipe):
                imported = import_again(store, source, recipe)
                reports.append(imported)
                exposures = sorted({*exposures, *imported.done} if only_failed else imported.available)
            # of those that failed before all may fail again
            tolerance = {"max_failed_fraction": 1.0} if only_failed else {}
            solve(store.url, exposures, recipe.model_copy(update=tolerance), reports)
        if store.parents:  # their costs are added up by now
            compare_versions(store.parents[-1].url)
    return merge_batches(reports)


def _version(
    session_url: str, version: str, changes: Mapping[str, Any], only_failed: bool
) -> tuple[SessionStore, Recipe]:
    """The store to work in and its recipe; raises ValueError, before anything is written, where that makes no sense."""
    session = SessionStore.open(session_url)
    if changes and not version:
        raise ValueError(
            f"session {session.session.name}: changes are given, but no version; name one (for instance 'second'), so "
            "that the results there are stay beside it"
        )
    if changes and only_failed:
        raise ValueError(
            f"session {session.session.name}: only_failed keeps the recipe, and changes are given; leave one out"
        )
    store = session
    is_new = bool(version) and version not in session.versions()
    if version and not is_new:
        store = session.branch(version)
    recipe = changed_recipe(recall_recipe(store.url), changes)
    if is_new and not changes:
        known = ", ".join(session.versions()) or "none yet"
        raise ValueError(
            f"session {session.session.name}: version {version!r} would be new, and no changes are given; say what to "
            f"change, or name one that exists ({known})"
        )
    if is_new:
        store = session.branch(version)
    remember_recipe(store.url, recipe)
    return store, recipe


def _is_imported(line: Line) -> bool:
    return line.stage != "import_session" or line.state == "done"


def _needs_import(chosen: list[Line], store: SessionStore, recipe: Recipe) -> bool:
    """Whether files have to be read again: other parameters of the import than its parent's, or a failed import."""
    if any(line.stage == "import_session" and line.state == "failed" for line in chosen):
        return True
    return bool(store.parents) and recipe.import_session != recall_recipe(store.parents[0].url).import_session


def import_again(store: SessionStore, source: str, recipe: Recipe) -> StageReport:
    """Import from the folder given, else from the one that the session follows, else from that of its files.

    A session that follows a folder has its gain and defects from there, as its waves had them.
    """
    followed = followed_folder(store)
    if followed is not None:
        recipe = with_source(recipe, followed)
    folder = source or (followed.folder if followed is not None else _folder_of_files(store))
    return import_session(store.url, folder, recipe.import_session)


def _folder_of_files(store: SessionStore) -> str:
    """The folder that holds the files of all exposures there are."""
    found = []
    for exposure_id in store.exposure_ids():
        record = store.exposure_product(exposure_id, "import_session").record_if_done()
        if record is not None:
            found.append(os.path.dirname(Exposure.model_validate(record.details["exposure"]).source))  # noqa: PTH120
    if not found:
        raise ValueError(f"session {store.session.name}: no exposure was imported yet; give the folder as `source`")
    return os.path.commonpath(found)
