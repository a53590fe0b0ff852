"""Structures placed in a map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from flows.commands.console import console, readable_errors
from flows.commands.processing import show_reports
from flows.commands.services import running_services
from flows.dock import DockingFailedError, DockRecipe
from flows.dock import dock as dock_flow
from flows.services import ServiceError
from tasks.dock_model import DockModelParams
from tasks.docking.tables import BODY_COLUMNS, body_words, not_placed_words, untrusted_words
from tasks.formats.structure import write_structure
from tasks.import_map import ImportMapParams
from tasks.records.docking import Docking
from tasks.stores.products.docking_store import read_docking
from tasks.stores.products.map_store import map_mates
from tasks.stores.products.model_store import read_model
from tasks.stores.session_store import SessionStore

_FILE: dict[str, Any] = {"exists": True, "dir_okay": False}


def dock(
    session: Annotated[
        str, typer.Option(help="Store: that of a processed session, or a new one for a map from files.")
    ],
    map: Annotated[Path | None, typer.Option(help="MRC or CCP4; without it the session's own map.", **_FILE)] = None,
    prediction: Annotated[
        list[str] | None, typer.Option(help="Name that `predict` gave to a prediction; may be repeated.")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Structure that is no prediction, mmCIF or PDB; may be repeated.", **_FILE)
    ] = None,
    copies: Annotated[
        str | None, typer.Option(help="Of each prediction, then of each model, as 2,1,?; ? for as many as there are.")
    ] = None,
    resolution: Annotated[float | None, typer.Option(help="Å, where nobody else tells it.")] = None,
    voxel_size: Annotated[float | None, typer.Option(help="Å, in place of what the map says.")] = None,
    symmetry: Annotated[
        str, typer.Option(help="Point group of the map of --map: one unit is filled, the others are its copies.")
    ] = "C1",
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Probability below which nothing is placed.")
    ] = DockModelParams.model_fields["least_confidence"].default,
    flexible: Annotated[bool, typer.Option(help="Bend what was docked into the map: models/flexed.")] = False,
    output: Annotated[Path | None, typer.Option(help="File for the model, .cif or .pdb.")] = None,
) -> None:
    """Place predicted or known structures in a map, as a whole and in their rigid parts, and say how sure that is."""
    with readable_errors(ServiceError, DockingFailedError):
        files = None
        if map is not None:
            files = ImportMapParams(
                map=str(map.absolute()),
                voxel_size_angstrom=voxel_size,
                resolution_angstrom=resolution,
                symmetry=symmetry,
            )
        elif not SessionStore.exists(session):
            raise typer.BadParameter(f"give --map, or the store of a session that has a map, found {session}")
        params = DockModelParams(
            predictions=tuple(prediction or ()),
            models=tuple(str(path.absolute()) for path in model or ()),
            copies=None if copies is None else tuple(_count(part) for part in copies.split(",")),
            resolution_angstrom=resolution,
            least_confidence=confidence,
        )
        with running_services():
            show_reports(dock_flow(session, DockRecipe(import_map=files, dock_model=params, is_flexible=flexible)))
        store = SessionStore.open(session)
        show_docking(read_docking(store))
        if flexible:
            for row in store.product("models/flexed").done_record("the bent model").details["chains"]:
                console.print(f"chain {row['chain']}: {row['reason']}", soft_wrap=True)
        if output is not None:
            name = "imported" if files is not None else params.map
            made = "flexed" if flexible else "docked"
            write_structure(output, read_model(store, made), made, map_mates(store, name))
            console.print(f"written: {output}", soft_wrap=True)


def _count(told: str) -> int | None:
    if told.strip() == "?":
        return None
    if not told.strip().isdigit():
        raise ValueError(f"copies {told!r}: expected a number, or ? for as many as the map shows")
    return int(told)


def show_docking(found: Docking) -> None:
    """What lies where, what does not, and the symmetry of what does."""
    table = Table(*BODY_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in found.placed:
        table.add_row(*body_words(row))
    console.print(table)
    for one in found.symmetry:
        console.print(f"[bold]{one.source}[/bold]: {one.words}", soft_wrap=True)
    for lacking in found.not_placed:
        console.print(f"[bold]{lacking.source}[/bold] {not_placed_words(lacking)}", soft_wrap=True)
    if found.n_untrusted:
        console.print(untrusted_words(found.n_untrusted))
