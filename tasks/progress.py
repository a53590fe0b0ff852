"""Progress of a stage: a bar in the terminal and, inside a Prefect run, a progress artifact."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

logger = logging.getLogger(__name__)

_SECONDS_UNTIL_SHOWN = 60.0
_LATER = 1.5
"""Each update of the artifact comes so many times later than the one before, counted from the start: the server keeps
4 kB of each in its log of events, for a week."""


@contextmanager
def progress(name: str, n_total: int) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each of ``n_total`` items.

    A stage that ends within a minute has no artifact; the session's page shows how far it is.
    """
    is_in_run = _is_in_run()
    bar = Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        row = bar.add_task(name, total=n_total)
        n_done, started, next_update = 0, time.monotonic(), _SECONDS_UNTIL_SHOWN
        artifact: UUID | None = None

        def advance() -> None:
            nonlocal n_done, artifact, next_update
            n_done += 1
            bar.advance(row)
            seconds, percent = time.monotonic() - started, 100.0 * n_done / n_total
            if artifact is not None and (n_done == n_total or seconds > next_update):
                update_progress_artifact(artifact, percent)
            elif is_in_run and artifact is None and seconds > next_update and n_done < n_total:
                artifact = create_progress_artifact(percent, key=None, description=name)  # type: ignore[assignment]
            else:
                return
            next_update = _LATER * seconds

        yield advance


def _is_in_run() -> bool:
    try:
        get_run_context()
    except MissingContextError:
        return False
    return True
