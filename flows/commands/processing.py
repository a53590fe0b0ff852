"""From movies to a map: a session, a watched folder, the demonstration, and what they will need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.console import Changes, changes_of, console, readable_errors, with_shorthands
from flows.commands.services import running_services, show_services
from flows.commands.status import show_status
from flows.demonstrate import demonstrate
from flows.forecast import needs_of, outline_of
from flows.model_recipe import ModelRecipe
from flows.process_session import TooManyFailuresError, process_session
from flows.recipe import Recipe, read_recipe
from flows.services import ServiceError
from flows.watch_sessions import watch_sessions
from kernels.specimen.cage_design import SEQUENCE
from tasks.build_model import BuildModelParams
from tasks.model_refinement.params import RefineModelParams
from tasks.records.comparison import Comparison
from tasks.records.secrets import refuse_secrets
from tasks.records.session import StageReport
from tasks.report.needs import need_rows
from tasks.scan_folders import ScanFoldersParams
from tasks.simulate_session import SimulateSessionParams
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location
from tasks.stores.upkeep.costs import read_costs
from tasks.workers.connection import NoWorkerError
from tasks.workers.items import SchedulerLostError
from tasks.workers.room import DoesNotFitError

_ERRORS = (ServiceError, NoWorkerError, SchedulerLostError, DoesNotFitError, TooManyFailuresError)


def process(
    session: Annotated[str, typer.Option(help="Store of the session: a folder or s3://bucket/prefix.")],
    movies: Annotated[Path | None, typer.Option(help="Folder with movies.")] = None,
    micrographs: Annotated[Path | None, typer.Option(help="Folder with micrographs that are summed already.")] = None,
    recipe: Annotated[str, typer.Option(help="YAML file, or the name of a recipe of the project.")] = "default",
    pixel_size: Annotated[
        float | None, typer.Option(help="Å per pixel; without it, what the microscope's files say.")
    ] = None,
    voltage: Annotated[float | None, typer.Option(help="kV; likewise, else 300.")] = None,
    cs: Annotated[float | None, typer.Option(help="Spherical aberration, mm; likewise, else 2.7.")] = None,
    dose_per_frame: Annotated[float | None, typer.Option(help="e⁻/Å² per frame.")] = None,
    gain: Annotated[Path | None, typer.Option(help="Gain reference: MRC, TIFF or .gain.")] = None,
    diameter: Annotated[float | None, typer.Option(help="Diameter of the particle, Å.")] = None,
    symmetry: Annotated[str | None, typer.Option(help="Point group: Cn, Dn, T, O or I.")] = None,
    change: Changes = None,
) -> None:
    """Process a session: everything in the folder, from movies or micrographs to a map and a report."""
    if (movies is None) == (micrographs is None):
        raise typer.BadParameter("give one of --movies and --micrographs")
    changes = changes_of(change)
    changes["import_session.kind"] = "movies" if movies else "micrographs"
    for value, names in (
        (voltage, ["import_session.voltage_kv"]),
        (cs, ["import_session.spherical_aberration_mm"]),
        (dose_per_frame, ["import_session.dose_per_frame"]),
        (gain, ["import_session.gain"]),
    ):
        changes |= {name: str(value) for name in names if value is not None and name not in changes}
    changes = with_shorthands(changes, pixel_size, diameter, symmetry)
    with readable_errors(*_ERRORS):
        Location.of(session)  # an address with a secret is refused before a server records it
        chosen = read_recipe(recipe, changes)
        with running_services() as found:
            reports = process_session(str(session), str(movies or micrographs), chosen)
            show_reports(reports)
            show_services(found)
            show_status(session)


def forecast(
    place: Annotated[str, typer.Argument(help="Store of a session, or a folder with movies or micrographs.")],
    recipe: Annotated[str, typer.Option(help="YAML file, or the name of a recipe of the project.")] = "default",
    pixel_size: Annotated[float | None, typer.Option(help="Å per pixel, where the files do not say.")] = None,
    diameter: Annotated[float | None, typer.Option(help="Diameter of the particle, Å.")] = None,
    symmetry: Annotated[str | None, typer.Option(help="Point group: Cn, Dn, T, O or I.")] = None,
    change: Changes = None,
) -> None:
    """Tell the memory, time and disk that every stage will need, from sizes alone; nothing is started."""
    with readable_errors(*_ERRORS):
        changes = with_shorthands(changes_of(change), pixel_size, diameter, symmetry)
        chosen = read_recipe(recipe, changes)
        about = outline_of(place, chosen)
        costs = read_costs(SessionStore.open(place)) if SessionStore.exists(place) else {}
        rows = need_rows(needs_of(chosen, about), costs)
        table = Table(*rows[0], title=f"{about.n_exposures} exposures of {about.frames_words}")
        for row in rows:
            table.add_row(*row.values())
        console.print(table)


def watch(
    roots: Annotated[list[Path], typer.Argument(help="Folders below which microscopes make a folder a session.")],
    stores: Annotated[str, typer.Option(help="Folder or s3:// prefix for the stores of the sessions.")],
    recipe: Annotated[str, typer.Option(help="Of sessions that begin now.")] = "default",
    expected_frames: Annotated[int | None, typer.Option(help="Frames of a movie, where no sidecar tells.")] = None,
    hours: Annotated[float, typer.Option(help="How long to watch.")] = 24.0,
    change: Changes = None,
) -> None:
    """Watch folders and process what microscopes write, here, until it is interrupted.

    A facility lets the deployment `watch_sessions` do this on a schedule, see `vitriflow deploy`.
    """
    with readable_errors(*_ERRORS):
        Location.of(stores)
        changes: dict[str, Any] = changes_of(change)
        refuse_secrets(changes, "--set")
        if expected_frames is not None:
            changes["import_session.expected_frames"] = expected_frames
        with running_services():
            arrived = watch_sessions(
                [str(root.absolute()) for root in roots],
                stores,
                recipe,
                changes,
                ScanFoldersParams(expected_frames=expected_frames),
                seconds=hours * 3600,
                processing="here",
            )
        for url, n_files in arrived.items():
            console.print(f"{url}: {n_files} files arrived")


def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the simulated movies, their truth and the store.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed simulates another session.")] = 2026,
    movies: Annotated[int, typer.Option(help="Good movies; a truncated and a drifting one come on top.")] = 12,
) -> None:
    """Simulate a session, process it from movies to a map and an atomic model, and compare them with the truth."""
    with readable_errors(*_ERRORS):
        inputs = demo_inputs(folder.resolve(), seed, movies)
        with running_services() as found:
            show_services(found)
            result = demonstrate(*inputs, demo_model())
            show_reports(result.reports)
            show_status(inputs[1])
            _show_comparisons(result.comparisons)
            _show_where_the_model_is(inputs[1])
            show_services(found)
    console.print("`vitriflow down` stops the server and the workers", highlight=False)


def demo_inputs(root: Path, seed: int, movies: int = 12) -> tuple[str, str, SimulateSessionParams, Recipe]:
    """Arguments of `demonstrate` for a session below the folder ``root``."""
    session_folder = root / "session"
    simulation = SimulateSessionParams(seed=seed, n_movies=movies, n_truncated=1, n_drifting=1)
    changes = {
        "import_session.gain": str(session_folder / "gain.mrc"),
        "import_session.defects": str(session_folder / "defects.txt"),
        "import_session.expected_frames": str(simulation.n_frames),
    }
    return str(session_folder), str(root / f"{root.name}.zarr"), simulation, read_recipe("demo", changes)


def demo_model() -> ModelRecipe:
    """How the model of the cage is built: its sequence is known, once in each of 24 units."""
    return ModelRecipe(
        build_model=BuildModelParams(sequences=(SEQUENCE,), copies=(1,)),
        refine_model=RefineModelParams(without_library="real space"),
        n_rounds=0,
    )


def _show_where_the_model_is(session_url: str) -> None:
    figures = SessionStore.open(session_url).product("models/refined").done_record("model 'refined'").figures
    words = f"Model       `vitriflow export {session_url} FOLDER` writes it and the maps"
    if "refined_in" in figures:
        words += (
            "\n            refined in real space alone, for want of a monomer library: with one, `--monomers FOLDER`"
            f" of `vitriflow model --session {session_url}` refines against the half maps"
        )
    console.print(words, highlight=False, soft_wrap=True)


def show_reports(reports: list[StageReport]) -> None:
    """What each stage did, and what it cost."""
    table = Table("stage", "done", "kept", "failed", "skipped", "CPU-s", "peak GB")
    for column in table.columns[1:]:
        column.justify = "right"
    for r in reports:
        counts = [len(r.done), len(r.kept), len(r.failed), len(r.skipped)]
        table.add_row(r.stage, *map(str, counts), f"{r.cpu_seconds:.1f}", f"{r.peak_memory_bytes / 1e9:.2f}")
    console.print(table)


def _show_comparisons(comparisons: list[Comparison]) -> None:
    table = Table("stage", "figure", "measured", "to reach", "", title="against the simulated truth")
    for column in table.columns[2:4]:
        column.justify = "right"
    for c in comparisons:
        verdict = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[c.is_reached]
        table.add_row(c.stage, c.figure, f"{c.value:.3g} {c.unit}", c.reach_words, verdict)
    console.print(table)
