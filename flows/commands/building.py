"""An atomic model, from a map of a session or of another program."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.console import console, readable_errors
from flows.commands.models import show_placement, show_reasons, show_rounds, show_validation, show_verdict
from flows.commands.processing import show_reports
from flows.commands.services import running_services
from flows.model import model as model_flow
from flows.model_recipe import ModelRecipe
from flows.model_rounds import StageFailedError
from flows.services import ServiceError
from tasks.build_model import BuildModelParams
from tasks.building.sequences import require_letters
from tasks.export_session import ExportError, ExportSessionParams, export_session
from tasks.formats.fasta import read_fasta
from tasks.formats.ramachandran_tables import MissingTablesError
from tasks.import_map import ImportMapParams
from tasks.judge_session import JudgeSessionParams
from tasks.ligands.params import PlaceLigandsParams
from tasks.merge_models import MergeModelsParams
from tasks.model_refinement.params import RefineModelParams
from tasks.stores.products.model_store import read_placement
from tasks.stores.products.validation_store import read_validation
from tasks.stores.products.verdict_store import read_verdict
from tasks.stores.session_store import SessionStore


class Act(StrEnum):
    """Decisions of a verdict that are followed at once."""

    none = "none"
    rebuild = "rebuild"
    refine = "refine"
    all = "all"


_FILE: dict[str, Any] = {"exists": True, "dir_okay": False}


def model(
    session: Annotated[
        str, typer.Option(help="Store for the model: that of a processed session, or a new one for a map from files.")
    ],
    map: Annotated[
        Path | None, typer.Option(help="Sharpened map, MRC or CCP4; without it the session's own map.", **_FILE)
    ] = None,
    half1: Annotated[Path | None, typer.Option(help="Unfiltered half map.", **_FILE)] = None,
    half2: Annotated[Path | None, typer.Option(help="The other half map.", **_FILE)] = None,
    sequence: Annotated[
        list[Path] | None, typer.Option(help="FASTA file of proteins, RNA and DNA; may be repeated.")
    ] = None,
    structure: Annotated[
        list[Path] | None,
        typer.Option(help="FASTA file of known or predicted secondary structures in H, E and C; may be repeated."),
    ] = None,
    resolution: Annotated[float | None, typer.Option(help="Å, where nobody else tells it.")] = None,
    voxel_size: Annotated[float | None, typer.Option(help="Å, in place of what the map says.")] = None,
    flip: Annotated[bool, typer.Option(help="Model the mirror image: the map of --map is of the wrong hand.")] = False,
    symmetry: Annotated[
        str, typer.Option(help="Point group of the map of --map: one unit is built, the others are its copies.")
    ] = "C1",
    monomers: Annotated[
        Path | None, typer.Option(help="Monomer library; else that of CLIBD_MON, CCP4 or Coot.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=0, max=10, help="Most rounds in which doubtful regions are built anew.")
    ] = 2,
    ligand: Annotated[
        list[str] | None,
        typer.Option(help="In the sample: monomer code, restraint CIF, SDF or MOL file, or SMILES; may be repeated."),
    ] = None,
    ions: Annotated[str | None, typer.Option(help="That may be placed, as MG,ZN; else peaks are listed.")] = None,
    prediction: Annotated[
        str | None, typer.Option(help="Name of a prediction in the session that the model is compared with.")
    ] = None,
    placed: Annotated[
        str | None,
        typer.Option(help="Docked predictions to merge with what is built: a model's name, or predictions/NAME."),
    ] = None,
    template_rounds: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=5,
            help="Most rounds in which the engine of the placed predictions is shown the model, and predicts anew; 1"
            " where an engine was run and there are half maps.",
        ),
    ] = None,
    goal: Annotated[float | None, typer.Option(help="Å that the map is to reach.")] = None,
    act_on_verdict: Annotated[
        Act, typer.Option(help="Follow the verdict at once, for one round: rebuild, refine the map there, or both.")
    ] = Act.none,
    waters: Annotated[bool, typer.Option(help="Place waters where the map is good enough.")] = True,
    output: Annotated[Path | None, typer.Option(help="Folder for the model, mmCIF, and the maps.")] = None,
) -> None:
    """Build an atomic model into a map, refine it, and judge every residue; with or without sequences."""
    with readable_errors(ServiceError, StageFailedError, ExportError, MissingTablesError):
        letters = [told for path in sequence or [] for told in sequences_of_file(path)]
        structures = [found.letters for path in structure or [] for found in read_fasta(path)]
        files = None
        if map is not None:
            files = ImportMapParams(
                map=str(map.absolute()),
                half_1=None if half1 is None else str(half1.absolute()),
                half_2=None if half2 is None else str(half2.absolute()),
                voxel_size_angstrom=voxel_size,
                resolution_angstrom=resolution,
                is_flipped=flip,
                symmetry=symmetry,
            )
        elif flip:
            raise typer.BadParameter("--flip is for the files of --map; a session's own map is flipped where needed")
        elif half1 is not None or half2 is not None or not SessionStore.exists(session):
            raise typer.BadParameter(f"give --map, or the store of a session that has a map, found {session}")
        library = None if monomers is None else str(monomers.absolute())
        recipe = ModelRecipe(
            import_map=files,
            build_model=BuildModelParams(sequences=tuple(letters), structures=tuple(structures)),
            refine_model=RefineModelParams(resolution_angstrom=resolution, monomer_library=library),
            n_rounds=rounds,
            merge_models=None if placed is None else MergeModelsParams(placed=placed, resolution_angstrom=resolution),
            n_template_rounds=template_rounds,
            judge_session=JudgeSessionParams(prediction=prediction, goal_angstrom=goal),
            act_on_verdict=act_on_verdict.value,
            place_ligands=PlaceLigandsParams(
                resolution_angstrom=resolution,
                monomer_library=library,
                ligands=tuple(_wherever(one) for one in ligand or []),
                ions=tuple(ions.split(",")) if ions else (),
                has_waters=waters,
            ),
        )
        with running_services():
            reports = model_flow(session, recipe)
            show_reports(reports)
            show_reasons(reports)
        store = SessionStore.open(session)
        if store.product("validations/chosen").record() is not None:
            show_rounds(store.product("models/chosen").done_record("the chosen model"))
            name = "placed" if store.product("validations/placed").record_if_done() is not None else "chosen"
            show_validation(read_validation(store, name))
        if store.product("verdicts/chosen").record_if_done() is not None:
            show_verdict(read_verdict(store, "chosen"))
        if store.product("models/placed").record_if_done() is not None:
            show_placement(read_placement(store, "placed"))
        if output is not None:
            written = export_session.fn(session, str(output), ExportSessionParams(is_overwriting=True))
            console.print(f"{len(written)} files written to {output}", soft_wrap=True)


def sequences_of_file(path: Path) -> list[str]:
    """Sequences of a FASTA file as stages take them, after a look at their letters."""
    found = read_fasta(path)
    for record in found:
        try:
            require_letters([record.told])
        except ValueError as error:
            raise ValueError(f"{path}, {record.name!r}: {error}") from error
    return [record.told for record in found]


def _wherever(ligand: str) -> str:
    """A ligand's file by its whole path, so that a worker finds it; anything else as it is."""
    path = Path(ligand).expanduser()
    return str(path.absolute()) if path.is_file() else ligand
