"""A whole session: from the files of a microscope to a sharpened map and a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import flow
from pydantic import Field

from flows.find_particles import find_particles
from flows.forecast import show_forecast
from flows.preprocess import preprocess
from flows.recipe import Recipe
from flows.reconstruct import reconstruct
from flows.session_recipe import remember_recipe
from flows.sole_use import EXPOSURES, MAPS, sole_use
from tasks.diagnose_gain import diagnose_gain
from tasks.import_session import import_session
from tasks.records.session import StageReport
from tasks.report.live import LiveView
from tasks.report_session import report_session
from tasks.stores.session_store import SessionStore
from tasks.stores.upkeep.costs import spending


class TooManyFailuresError(RuntimeError):
    """More exposures failed than the recipe allows."""


_SESSION: Any = Field(description="Store of the session: a folder, or `s3://bucket/prefix`.")
_SOURCE: Any = Field(description="Folder with the movies or micrographs.")
_RECIPE: Any = Field(description="Parameters of every stage.")
"""Prefect shows these descriptions in the form of a deployment."""


@flow(name="process_session", flow_run_name="{session_url}")
def process_session(session_url: str = _SESSION, source: str = _SOURCE, recipe: Recipe = _RECIPE) -> list[StageReport]:
    """Process every exposure in the folder ``source`` into the store ``session_url``.

    Whatever the store has already, with the same parameters and inputs, is kept; so a flow that was interrupted is
    continued by running it again, and a changed parameter recomputes only what depends on it.

    Returns
    -------
    One report a stage; a stage that ran in batches has one for all of them.
    """
    SessionStore.create(session_url)
    remember_recipe(session_url, recipe)
    with sole_use(session_url, EXPOSURES, MAPS), accounted(session_url, recipe) as reports:
        imported = import_session(session_url, source, recipe.import_session)
        reports.append(imported)
        solve(session_url, imported.available, recipe, reports)
    return merge_batches(reports)


def solve(session_url: str, exposure_ids: Sequence[str], recipe: Recipe, reports: list[StageReport]) -> None:
    """From imported exposures to a sharpened map; what each stage did is added to ``reports``."""
    view = LiveView(session_url, recipe.report_session.web_folder)
    reports.append(diagnose_gain(session_url, list(exposure_ids), recipe.diagnose_gain))
    for number, batch in enumerate(batches(exposure_ids, recipe.batch_size)):
        if number <= 1:  # before anything has started, and by what the first exposures cost
            show_forecast(session_url, recipe, reports)
        reports += preprocess(session_url, batch, recipe)
        view.update(len(batch))
        check_failures(reports, recipe.max_failed_fraction)
    reports += find_particles(session_url, list(exposure_ids), recipe)
    reports += reconstruct(session_url, recipe)


@contextmanager
def accounted(session_url: str, recipe: Recipe) -> Iterator[list[StageReport]]:
    """Gives a list for the stages' reports; at the end adds up the costs and writes the session's report.

    Also when a stage stops the flow: an operator wants to see how far it came. A flow that is suspended or cancelled
    leaves at once.
    """
    with spending(SessionStore.open(session_url), EXPOSURES) as reports:
        try:
            yield reports
        except Exception:
            report_session(session_url, recipe.report_session)
            raise
        else:
            report_session(session_url, recipe.report_session)


def batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    """The items in lists of at most ``size``."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def check_failures(reports: list[StageReport], max_failed_fraction: float, fewest: int = 1) -> None:
    """Raise when too many of ``fewest`` exposures or more failed: something is wrong with all of them."""
    failed = {item: f"{r.stage}: {reason}" for r in reports for item, reason in r.failed.items()}
    seen = {item for r in reports for item in [*r.done, *r.kept, *r.failed, *r.skipped]}
    if len(seen) >= fewest and len(failed) > max_failed_fraction * len(seen):
        item, reason = next(iter(failed.items()))
        raise TooManyFailuresError(
            f"{len(failed)} of {len(seen)} exposures failed, more than the {max_failed_fraction:.0%} that the recipe "
            f"allows (max_failed_fraction); the first: {item}: {reason}"
        )


def merge_batches(reports: list[StageReport]) -> list[StageReport]:
    """One report a stage, in the order in which the stages first ran."""
    merged: dict[str, StageReport] = {}
    for report in reports:
        known = merged.get(report.stage, StageReport(stage=report.stage))
        merged[report.stage] = StageReport(
            stage=report.stage,
            done=[*known.done, *report.done],
            kept=[*known.kept, *report.kept],
            failed={**known.failed, **report.failed},
            skipped={**known.skipped, **report.skipped},
            cpu_seconds=known.cpu_seconds + report.cpu_seconds,
            foreseen_cpu_seconds=known.foreseen_cpu_seconds + report.foreseen_cpu_seconds,
            peak_memory_bytes=max(known.peak_memory_bytes, report.peak_memory_bytes),
            foreseen_memory_bytes=max(known.foreseen_memory_bytes, report.foreseen_memory_bytes),
        )
    return list(merged.values())
