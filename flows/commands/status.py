"""What became of every file of a session; imports little, as it is asked often."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import console, readable_errors
from tasks.stores import ledger
from tasks.stores.files.index import FileIndex
from tasks.stores.products.verdict_store import standing_verdict
from tasks.stores.session_store import SessionStore


def status(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    rebuild: Annotated[bool, typer.Option(help="Read every commit record instead of the index.")] = False,
) -> None:
    """Show the ledger: what became of every file that was seen."""
    with readable_errors():
        if rebuild:
            ledger.rebuild(SessionStore.open(session))
            FileIndex(SessionStore.open(session)).clear()  # the next import makes it from the records
        show_status(session)


def show_status(session: str) -> None:
    store = SessionStore.open(session)
    found = ledger.read_ledger(store)
    table = Table("exposure", "state", "last stage", "reason", title=f"session {found.session}")
    for column in table.columns:
        column.overflow = "fold"
    for line in found.lines:
        if line.state != "done":
            table.add_row(line.exposure, line.state, line.stage, line.reason or "")
    if table.rows:
        console.print(table)
    if store.session.owner or store.session.group:
        console.print(f"Owner {store.session.owner or '–'}, group {store.session.group or '–'}", highlight=False)
    counts = found.counts()
    console.print(
        f"{len(found.lines)} seen = " + " + ".join(f"{n} {state}" for state, n in counts.items()), highlight=False
    )
    verdict = standing_verdict(store)
    if verdict is not None:
        told = verdict.figures
        console.print(f"Next        [bold]{told['decision']}[/bold]: {told['reason']}", highlight=False, soft_wrap=True)
    if (store.location / "report.html").read_bytes() is not None:
        console.print(f"Report      {store.url}/report.html", highlight=False, soft_wrap=True)
