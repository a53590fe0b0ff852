"""Predicted structures: asked of an engine, or taken over from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.building import sequences_of_file
from flows.commands.console import console, readable_errors
from flows.commands.services import running_services
from flows.predict import PredictionFailedError
from flows.predict import predict as predict_flow
from flows.services import ServiceError
from tasks.predict_structure import PredictStructureParams
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.session_store import SessionStore

_FILE: dict[str, Any] = {"exists": True, "dir_okay": False}
_BANDS = (
    (90.0, "very high, 90 and more"),
    (70.0, "high, 70 to 90"),
    (50.0, "low, 50 to 70"),
    (0.0, "very low, below 50"),
)


def predict(
    session: Annotated[str, typer.Option(help="Store for the prediction: a session, or a new one.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            exists=True,
            help="Model, folder or zip of AlphaFold DB, AlphaFold Server, AlphaFold 3, ColabFold, Boltz, ESMFold or"
            " RoseTTAFold; without it the engine is run.",
        ),
    ] = None,
    pae: Annotated[Path | None, typer.Option(help="Predicted aligned errors for a single model.", **_FILE)] = None,
    sequence: Annotated[
        list[Path] | None, typer.Option(help="FASTA file of proteins, RNA and DNA; may be repeated.")
    ] = None,
    copies: Annotated[str | None, typer.Option(help="Of each sequence, as 2,1; one each without it.")] = None,
    ligand: Annotated[
        list[str] | None, typer.Option(help="Code of the PDB's dictionary, or smiles:…; may be repeated.")
    ] = None,
    alignment: Annotated[
        list[Path] | None, typer.Option(help="a3m file of a sequence, in their order; may be repeated.", **_FILE)
    ] = None,
    engine: Annotated[str, typer.Option(help="boltz or colabfold.")] = "boltz",
    program: Annotated[
        str | None, typer.Option(help="Path of the engine's command, in an environment of its own.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of its weights, where it is not its own.")] = None,
    ask_server: Annotated[
        bool, typer.Option(help="Let the engine send the sequences to a public server that aligns them.")
    ] = False,
    template: Annotated[
        str | None,
        typer.Option(help="Name of a judged model in the session that the engine is shown, as refined or chosen."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How often it is predicted; the best comes first.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the engine.")] = 0,
    name: Annotated[str, typer.Option(help="Of the prediction in the store.")] = "predicted",
) -> None:
    """Predict a structure with an engine, or take over what one predicted, with its confidence."""
    with readable_errors(ServiceError, PredictionFailedError):
        params = PredictStructureParams(
            name=name,
            file=None if source is None else str(source.absolute()),
            pae=None if pae is None else str(pae.absolute()),
            engine=engine,  # type: ignore[arg-type]  # pydantic says what it may be
            sequences=tuple(letters for path in sequence or [] for letters in sequences_of_file(path)),
            copies=None if copies is None else tuple(int(part) for part in copies.split(",")),
            ligands=tuple(ligand or ()),
            alignments=tuple(str(path.absolute()) for path in alignment or ()),
            program=program,
            weights=None if weights is None else str(weights.absolute()),
            is_server_asked=ask_server,
            template=template,
            n_samples=samples,
            seed=seed,
        )
        with running_services():
            predict_flow(session, params)
        _show(SessionStore.open(session), name)


def _show(store: SessionStore, name: str) -> None:
    """Confidence of the best prediction, and where it comes from."""
    best = read_prediction(store, name)
    structure, source = best.structure, best.source
    chains = len({residue.chain for residue in structure.model.residues})
    told = [f"{structure.model.n_residues} residues in {chains} chains", f"pLDDT {float(structure.plddt.mean()):.1f}"]
    told += [f"{what} {value:.2f}" for what, value in (("pTM", structure.ptm), ("ipTM", structure.iptm)) if value]
    shown = store.product(f"predictions/{name}").done_record(f"prediction {name!r}").details.get("template")
    if shown:
        chains_shown = (f"{c['shown']} of {c['residues']} residues of chain {c['chain']}" for c in shown["chains"])
        told.append(f"shown {', '.join(chains_shown)} as in models/{shown['model']}")
    told.append("PAE" if structure.pae_angstrom is not None else "no PAE")
    console.print(f"{source.engine}: {', '.join(told)}; licence: {source.licence or 'not told'}", soft_wrap=True)
    table = Table("pLDDT", "residues")
    above = float("inf")
    for low, meaning in _BANDS:
        inside = (structure.plddt >= low) & (structure.plddt < above)
        table.add_row(meaning, f"{int(inside.sum())} ({float(inside.float().mean()):.0%})")
        above = low
    console.print(table)
