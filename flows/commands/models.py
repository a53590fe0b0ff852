"""Atomic models: how far each residue can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from flows.commands.console import console, readable_errors
from tasks.formats.ramachandran_tables import MissingTablesError
from tasks.ligands.tables import PLACED_COLUMNS, UNEXPLAINED_COLUMNS, placed_words, unexplained_words
from tasks.records.model import ModelValidation
from tasks.records.placement import Placement
from tasks.records.session import StageReport
from tasks.records.verdict import SessionVerdict
from tasks.stores.commit import Record
from tasks.validation.files import ValidationFiles, validate_files
from tasks.validation.tables import region_rows, summary_rows
from tasks.verdict.tables import (
    DISAGREEMENT_COLUMNS,
    WEAK_PART_COLUMNS,
    action_words,
    disagreement_words,
    weak_part_words,
)


def validate(
    map: Annotated[Path, typer.Option(help="Density map, MRC or CCP4, gzipped or not.")],
    model: Annotated[Path, typer.Option(help="Model in the frame of the map, mmCIF or PDB.")],
    half1: Annotated[Path | None, typer.Option(help="Half map that the model was refined with.")] = None,
    half2: Annotated[Path | None, typer.Option(help="The other half map: the free one.")] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Å; without it, from the half maps, or where map and model part.")
    ] = None,
    voxel_size: Annotated[float | None, typer.Option(help="Å, in place of what the maps say.")] = None,
    network: Annotated[bool, typer.Option(help="Ask the detection network about the amino acids as well.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Of the network, in place of those of the project.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for residues.csv, validation.json, and the model by probability."),
    ] = None,
) -> None:
    """Judge every residue of a model in its map: density, geometry, and the probability that it is right."""
    with readable_errors(MissingTablesError):
        given = ValidationFiles(map, model, half1, half2, voxel_size, resolution, network, weights)
        found, files = validate_files(given, output)
        show_validation(found)
        if files:
            console.print(f"written: {', '.join(str(path) for path in files)}", soft_wrap=True)


def show_validation(found: ModelValidation) -> None:
    """Summary, doubtful regions and decision."""
    table = Table("", "found", "aim", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in summary_rows(found):
        table.add_row(*row)
    console.print(table)
    if found.regions:
        doubtful = Table("chain", "residues", "verdict", "probability", "why", box=box.SIMPLE_HEAD)
        for region in region_rows(found):
            doubtful.add_row(*region)
        console.print(doubtful)
    console.print(f"[bold]{found.decision}[/bold]: {found.decision_reason}")


def show_reasons(reports: Sequence[StageReport]) -> None:
    """Why stages made nothing, so that an earlier model stays."""
    for report in reports:
        for reason in (*report.failed.values(), *report.skipped.values()):
            console.print(f"[bold]{report.stage}[/bold]: {escape(reason)}", soft_wrap=True)


def show_rounds(chosen: Record) -> None:
    """What each round of rebuilding did, and which one was taken."""
    rounds = chosen.details.get("rounds", [])
    if len(rounds) < 2:
        return
    table = Table(
        "round", "residues", "trusted", "Q", "favoured", "clashscore", "free FSC", "in one mask", "built anew",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for made in rounds:
        is_taken = made["name"] == chosen.figures.get("best_round")
        shares = [_percent(made[key]) for key in ("trusted_percent", "ramachandran_favoured_percent")]
        table.add_row(
            f"[bold]{made['name']}[/bold], taken" if is_taken else made["name"],
            str(made["residues"]), shares[0], f"{made['q_score']:.3f}", shares[1], f"{made['clashscore']:.1f}",
            *("none" if value is None else f"{value:.4f}" for value in (made["fsc_free"], made["fsc_free_one_mask"])),
            made["rebuilt"],
        )  # fmt: skip
    console.print(table)
    console.print(chosen.details["compared"], soft_wrap=True)


def show_verdict(found: SessionVerdict) -> None:
    """Where a prediction and the model disagree, parts that the map shows less well, and what is to be done next."""
    if found.disagreements:
        table = Table(*DISAGREEMENT_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for one in found.disagreements:
            table.add_row(*disagreement_words(one))
        console.print(table)
    if found.weak_parts:
        weak = Table(*WEAK_PART_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for part in found.weak_parts:
            weak.add_row(*weak_part_words(part))
        console.print(weak)
    if found.missing.views:
        console.print(found.missing.views, soft_wrap=True)
    if found.action is not None:
        console.print(action_words(found.action), soft_wrap=True)
    console.print(f"next: [bold]{found.decision}[/bold]: {found.reason}", soft_wrap=True)


def show_placement(found: Placement) -> None:
    """Ligands and ions that were placed, what was not, and density that nothing explains; waters as a number."""
    rows = [row for row in found.placed if row.kind != "water"]
    if rows:
        table = Table(*PLACED_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for row in rows:
            table.add_row(*placed_words(row))
        console.print(table)
    for refused in found.refused:
        console.print(f"[bold]{refused.name}[/bold] ({refused.told}) is not placed: {refused.reason}", soft_wrap=True)
    console.print(found.water_words)
    if found.unexplained:
        left = Table(*UNEXPLAINED_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="unexplained density")
        for one in found.unexplained:
            left.add_row(*unexplained_words(one))
        console.print(left)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f} %"
