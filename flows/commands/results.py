"""What came of sessions: all of a facility, the versions of one, and its results as files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from flows.commands.console import console, readable_errors
from tasks.export_session import ExportError, ExportSessionParams, export_session
from tasks.report.facility import FacilityView, facility_rows
from tasks.report.versions import version_table
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError


def sessions(stores: Annotated[str, typer.Argument(help="Folder or s3:// prefix that holds the stores.")]) -> None:
    """Show all sessions of a facility: which are collected now, how fast, how good, and which want a look."""
    with readable_errors():
        now = time.time()
        rows = facility_rows(FacilityView(stores).glances(now), now)
        if not rows:
            raise StoreError(f"{stores}: found no session; check the address")
        table = Table(*rows[0], box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for row in rows:
            table.add_row(*row.values())
        console.print(table)


def compare(session: Annotated[str, typer.Argument(help="Store of the session, or of one of its versions.")]) -> None:
    """Compare the versions of a session: what was changed, and what came of it."""
    with readable_errors():
        store = SessionStore.open(session)
        found = version_table(SessionStore.open(store.parents[-1].url) if store.parents else store)
        table = Table("", *found.versions, "better", title=f"versions of session {found.session}")
        for row in found.rows():
            table.add_row(*row.values())
        console.print(table)


def export(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write STAR, MRC and PNG files into.")],
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Write the session's results as STAR, MRC and PNG files."""
    with readable_errors(ExportError):
        files = export_session.fn(session, str(folder), ExportSessionParams(is_overwriting=overwrite))
        console.print(f"{len(files)} files written to {folder}")
