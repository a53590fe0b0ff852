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

_SECONDS_BETWEEN_UPDATES = 3.0


@contextmanager
def progress(name: str, n_total: int) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each of ``n_total`` items."""
    artifact = _start_artifact(name)
    bar = Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        row = bar.add_task(name, total=n_total)
        n_done, last_update = 0, time.monotonic()

        def advance() -> None:
            nonlocal n_done, last_update
            n_done += 1
            bar.advance(row)
            if artifact is not None and (
                n_done == n_total or time.monotonic() - last_update > _SECONDS_BETWEEN_UPDATES
            ):
                update_progress_artifact(artifact, 100.0 * n_done / n_total)
                last_update = time.monotonic()

        yield advance


def _start_artifact(name: str) -> UUID | None:
    try:
        get_run_context()
    except MissingContextError:
        return None
    return create_progress_artifact(0.0, key=None, description=name)  # type: ignore[return-value]
