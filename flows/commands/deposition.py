"""A session handed to the archives, and its bundle looked through again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.console import console, readable_errors
from flows.commands.services import running_services
from flows.deposit import deposit as deposit_flow
from flows.services import ServiceError
from tasks.deposit_structure import DepositionError, verify_bundle
from tasks.deposition.bundle import read_manifest, require_new
from tasks.deposition.gathered import gather
from tasks.deposition.params import DepositStructureParams
from tasks.deposition.template import write_template
from tasks.formats.pdbx import MissingDictionaryError
from tasks.stores.session_store import SessionStore


def deposit(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    folder: Annotated[Path | None, typer.Argument(help="New folder for the bundle.")] = None,
    about: Annotated[
        Path | None, typer.Option(help="YAML file with what only you know: title, authors, sample.", dir_okay=False)
    ] = None,
    template: Annotated[Path | None, typer.Option(help="Write such a file to fill in, and nothing else.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model in the store; else the one that the session ended with.")
    ] = None,
    map: Annotated[str | None, typer.Option(help="Map in the store; else that of the model.")] = None,
    pdb: Annotated[bool, typer.Option(help="Deposit a model beside its map.")] = True,
    empiar: Annotated[bool, typer.Option(help="Deposit images.")] = True,
    images: Annotated[
        str, typer.Option(help="Of movies, micrographs and particles, what goes to EMPIAR.")
    ] = "movies,particles",
    copy_movies: Annotated[bool, typer.Option(help="Copy the movies into the bundle, in place of links.")] = False,
    dictionary: Annotated[
        Path | None, typer.Option(help="PDBx/mmCIF dictionary, newer than that of cctbx.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Make a bundle for EMDB, the PDB and EMPIAR: filled from the session, checked, with check sums."""
    with readable_errors(DepositionError, MissingDictionaryError, ServiceError):
        params = DepositStructureParams.model_validate(
            {
                "has_pdb": pdb, "has_empiar": empiar, "model": model, "map": map,
                "image_sets": [one.strip() for one in images.split(",")], "are_movies_linked": not copy_movies,
                "dictionary": None if dictionary is None else str(dictionary.absolute()),
            }
        )  # fmt: skip
        if template is not None:
            write_template(SessionStore.open(session), template, params)
            console.print(f"{template} written; fill it in, then give it as --about", soft_wrap=True)
            return
        if folder is None or about is None:
            raise typer.BadParameter("give a new folder and --about FILE, or --template FILE to get one to fill in")
        gather(SessionStore.open(session), about, params)  # what lacks is told before any service starts
        require_new(folder)
        with running_services():
            files = deposit_flow(session, str(about.absolute()), str(folder.absolute()), params)
        console.print(f"{len(files)} files written to {folder}", soft_wrap=True)
        _show(folder)


def verify(folder: Annotated[Path, typer.Argument(help="Folder of a bundle of `vitriflow deposit`.")]) -> None:
    """Look a deposition bundle through: its files, and the FSC made anew from its half maps and particles."""
    with readable_errors(DepositionError):
        for words in verify_bundle(folder):
            console.print(words, soft_wrap=True)


def _show(folder: Path) -> None:
    for words in read_manifest(folder)["checks"]:
        console.print(words, soft_wrap=True)
