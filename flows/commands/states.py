"""States of a molecule: what moves between their models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from flows.commands.console import console, readable_errors
from flows.commands.services import running_services
from flows.compare_states import ComparisonFailedError
from flows.compare_states import compare_states as compare_states_flow
from flows.services import ServiceError
from tasks.compare_states import CompareStatesParams
from tasks.records.state_comparison import StateComparison
from tasks.states.files import export_comparison
from tasks.states.tables import summary_words, tables_of
from tasks.stores.products.comparison_store import read_comparison
from tasks.stores.session_store import SessionStore


def compare_states(
    sessions: Annotated[
        list[str], typer.Argument(help="Stores of the states; each is compared with the first. One for its own models.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name of the models in their stores; repeated, those of the states in turn."),
    ] = None,
    distance: Annotated[
        list[str] | None, typer.Option(help="Between two residues of the first state, A/10:B/20; may be repeated.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Å, within which residues move as one body; else from the models' error.")
    ] = None,
    copies: Annotated[
        bool, typer.Option(help="Compare all copies that the maps' point groups make, as chains A, B …")
    ] = False,
    pockets: Annotated[bool, typer.Option(help="Look for pockets that open and close.")] = True,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the residue tables, JSON, and the states laid on the first.")
    ] = None,
) -> None:
    """Compare states: domains that move and their axes, hinges, distances, pockets that open or close."""
    with readable_errors(ServiceError, ComparisonFailedError):
        first, *others = _states(sessions, model or ["chosen"])
        params = [
            CompareStatesParams(
                other_session=None if session == first[0] else session,
                model=first[1],
                other_model=name,
                distances=tuple(distance or ()),
                tolerance_angstrom=tolerance,
                has_copies=copies,
                has_pockets=pockets,
            )
            for session, name in others
        ]
        with running_services():
            reports = compare_states_flow(first[0], params)
        store = SessionStore.open(first[0])
        for report in reports:
            (item,) = report.available
            name = item.rsplit(" ", 1)[1]
            _show(read_comparison(store, name))
            if output is not None:
                written = export_comparison(store, name, output)
                console.print(f"written: {', '.join(str(path) for path in written)}", soft_wrap=True)


def _states(sessions: list[str], models: list[str]) -> list[tuple[str, str]]:
    """Session and model of each state."""
    if len(sessions) == 1 and len(models) > 1:
        sessions = sessions * len(models)
    if len(models) == 1:
        models = models * len(sessions)
    if len(sessions) < 2 or len(models) != len(sessions):
        raise typer.BadParameter(
            f"found {len(sessions)} stores and {len(models)} names of models; give two stores or more, and one name or"
            " as many; or one store and two names or more (--model)"
        )
    return list(zip(sessions, models))


def _show(found: StateComparison) -> None:
    """Domains, motions, hinges, distances and pockets that change."""
    console.print(summary_words(found), soft_wrap=True)
    for columns, rows in tables_of(found):
        table = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for row in rows:
            table.add_row(*row)
        console.print(table)
