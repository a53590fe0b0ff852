"""The command line: one more caller of the flows."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_RETRY_EXTRA_CODES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_UI_URL,
    temporary_settings,
)
from rich import box
from rich.console import Console
from rich.table import Table

from flows import services
from flows.declarations import DEPLOYMENTS, read_declarations
from flows.demonstrate import demonstrate
from flows.deploy import Change
from flows.deploy import deploy as install
from flows.forecast import needs_of, outline_of
from flows.process_session import TooManyFailuresError, process_session
from flows.recipe import Recipe, read_recipe
from flows.services import ServiceError, Services
from flows.settings import Settings
from flows.sweep_sessions import POLICY, read_policy
from flows.watch_sessions import watch_sessions
from tasks.export_session import ExportError, ExportSessionParams, export_session
from tasks.records.comparison import Comparison
from tasks.records.retention import PRODUCT_CLASSES, SweepReport, SweptItem
from tasks.records.secrets import SecretError, redacted, refuse_secrets
from tasks.records.session import StageReport
from tasks.report.facility import FacilityView, facility_rows
from tasks.report.needs import need_rows
from tasks.report.versions import version_table
from tasks.scan_folders import ScanFoldersParams
from tasks.simulate_session import SimulateSessionParams
from tasks.stores import ledger
from tasks.stores.files.index import FileIndex
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import LeaseHeldError
from tasks.stores.storage.location import Location, StoreError
from tasks.stores.upkeep.costs import read_costs
from tasks.stores.upkeep.retention import expired_products
from tasks.stores.upkeep.retention import restore as mark_wanted
from tasks.stores.upkeep.survey import find_sessions
from tasks.sweep_session import sweep_session
from tasks.workers.connection import NoWorkerError
from tasks.workers.items import SchedulerLostError
from tasks.workers.room import DoesNotFitError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()

EXPECTED_ERRORS = (
    ValueError,
    OSError,
    StoreError,
    ExportError,
    ServiceError,
    NoWorkerError,
    SchedulerLostError,
    DoesNotFitError,
    TooManyFailuresError,
    LeaseHeldError,
    SecretError,
)
"""Errors whose message says all an operator needs; anything else is a defect and shows its traceback."""


@app.command()
def up() -> None:
    """Start the Prefect server, the Dask scheduler and the two workers, or say where they run."""
    _show_services(services.up(Settings()))


@app.command()
def down() -> None:
    """Stop what `up` started."""
    console.print(f"stopped {services.down(Settings())} processes")


@app.command()
def deploy(
    folder: Annotated[
        Path, typer.Option(help="Folder with pools.yaml, prefect.yaml and automations.yaml.")
    ] = DEPLOYMENTS,
    facility: Annotated[
        Path | None, typer.Option(help="YAML with what differs here; VITRIFLOW_FACILITY when not given.")
    ] = None,
) -> None:
    """Install work pools, limits, deployments and automations on the Prefect server; safe to repeat."""
    settings = Settings()
    with _readable_errors():
        declared = read_declarations(folder, facility or settings.facility)
        with running_services():
            _show_changes(install(declared, settings))


def _show_changes(changes: list[Change]) -> None:
    table = Table("kind", "name", "", "what differed")
    for change in changes:
        table.add_row(change.kind, change.name, change.outcome, ", ".join(change.fields))
    console.print(table)
    counts = Counter[str](change.outcome for change in changes)
    outcomes = ("created", "updated", "unchanged", "removed")
    console.print(", ".join(f"{counts[outcome]} {outcome}" for outcome in outcomes), highlight=False)


@app.command()
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
    change: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter of the recipe, e.g. classify_2d.n_classes=30.")
    ] = None,
) -> None:
    """Process a session: everything in the folder, from movies or micrographs to a map and a report."""
    if (movies is None) == (micrographs is None):
        raise typer.BadParameter("give one of --movies and --micrographs")
    changes = _changes(change or [])
    changes["import_session.kind"] = "movies" if movies else "micrographs"
    for value, names in (
        (voltage, ["import_session.voltage_kv"]),
        (cs, ["import_session.spherical_aberration_mm"]),
        (dose_per_frame, ["import_session.dose_per_frame"]),
        (gain, ["import_session.gain"]),
    ):
        changes |= {name: str(value) for name in names if value is not None and name not in changes}
    changes = _with_shorthands(changes, pixel_size, diameter, symmetry)
    with _readable_errors():
        Location.of(session)  # an address with a secret is refused before a server records it
        chosen = read_recipe(recipe, changes)
        with running_services() as found:
            reports = process_session(str(session), str(movies or micrographs), chosen)
            _show_reports(reports)
            _show_services(found)
            _show_status(session)


def _with_shorthands(
    changes: dict[str, str], pixel_size: float | None, diameter: float | None, symmetry: str | None
) -> dict[str, str]:
    """Changes of the recipe, with options that set several parameters; what is set by itself comes first."""
    of_options = {"import_session.pixel_size_angstrom": pixel_size}
    of_options |= {f"{stage}.diameter_angstrom": diameter for stage in _STAGES_WITH_A_DIAMETER}
    named = {name: str(value) for name, value in of_options.items() if value is not None}
    if symmetry is not None:
        named |= {"build_initial_map.symmetry": symmetry, "refine_map.symmetry": symmetry}
    return named | changes


_STAGES_WITH_A_DIAMETER = ("pick_particles", "extract_particles", "classify_2d", "build_initial_map", "refine_map")


@app.command()
def forecast(
    place: Annotated[str, typer.Argument(help="Store of a session, or a folder with movies or micrographs.")],
    recipe: Annotated[str, typer.Option(help="YAML file, or the name of a recipe of the project.")] = "default",
    pixel_size: Annotated[float | None, typer.Option(help="Å per pixel, where the files do not say.")] = None,
    diameter: Annotated[float | None, typer.Option(help="Diameter of the particle, Å.")] = None,
    symmetry: Annotated[str | None, typer.Option(help="Point group: Cn, Dn, T, O or I.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter of the recipe, e.g. classify_2d.n_classes=30.")
    ] = None,
) -> None:
    """Tell the memory, time and disk that every stage will need, from sizes alone; nothing is started."""
    with _readable_errors():
        changes = _with_shorthands(_changes(change or []), pixel_size, diameter, symmetry)
        chosen = read_recipe(recipe, changes)
        about = outline_of(place, chosen)
        costs = read_costs(SessionStore.open(place)) if SessionStore.exists(place) else {}
        rows = need_rows(needs_of(chosen, about), costs)
        table = Table(*rows[0], title=f"{about.n_exposures} exposures of {about.frames_words}")
        for row in rows:
            table.add_row(*row.values())
        console.print(table)


@app.command()
def watch(
    roots: Annotated[list[Path], typer.Argument(help="Folders below which microscopes make a folder a session.")],
    stores: Annotated[str, typer.Option(help="Folder or s3:// prefix for the stores of the sessions.")],
    recipe: Annotated[str, typer.Option(help="Of sessions that begin now.")] = "default",
    expected_frames: Annotated[int | None, typer.Option(help="Frames of a movie, where no sidecar tells.")] = None,
    hours: Annotated[float, typer.Option(help="How long to watch.")] = 24.0,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter of the recipe, e.g. classify_2d.n_classes=30.")
    ] = None,
) -> None:
    """Watch folders and process what microscopes write, here, until it is interrupted.

    A facility lets the deployment `watch_sessions` do this on a schedule, see `vitriflow deploy`.
    """
    with _readable_errors():
        Location.of(stores)
        changes: dict[str, Any] = _changes(change or [])
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


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the simulated movies, their truth and the store.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed simulates another session.")] = 2026,
    movies: Annotated[int, typer.Option(help="Good movies; a truncated and a drifting one come on top.")] = 12,
) -> None:
    """Simulate a session, process it from movies to a map, and compare the result with the truth."""
    with _readable_errors():
        inputs = demo_inputs(folder.resolve(), seed, movies)
        with running_services() as found:
            _show_services(found)
            result = demonstrate(*inputs)
            _show_reports(result.reports)
            _show_status(inputs[1])
            _show_comparisons(result.comparisons)
            _show_services(found)
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


@app.command()
def status(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    rebuild: Annotated[bool, typer.Option(help="Read every commit record instead of the index.")] = False,
) -> None:
    """Show the ledger: what became of every file that was seen."""
    with _readable_errors():
        if rebuild:
            ledger.rebuild(SessionStore.open(session))
            FileIndex(SessionStore.open(session)).clear()  # the next import makes it from the records
        _show_status(session)


@app.command()
def sessions(stores: Annotated[str, typer.Argument(help="Folder or s3:// prefix that holds the stores.")]) -> None:
    """Show all sessions of a facility: which are collected now, how fast, how good, and which want a look."""
    with _readable_errors():
        now = time.time()
        rows = facility_rows(FacilityView(stores).glances(now), now)
        if not rows:
            raise StoreError(f"{stores}: found no session; check the address")
        table = Table(*rows[0], box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for row in rows:
            table.add_row(*row.values())
        console.print(table)


@app.command()
def export(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write STAR, MRC and PNG files into.")],
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Write the session's results as STAR, MRC and PNG files."""
    with _readable_errors():
        files = export_session.fn(session, str(folder), ExportSessionParams(is_overwriting=overwrite))
        console.print(f"{len(files)} files written to {folder}")


@app.command()
def sweep(
    stores: Annotated[list[str], typer.Argument(help="Sessions, or folders and s3:// prefixes that hold sessions.")],
    is_deleting: Annotated[bool, typer.Option("--delete/--dry-run", help="Remove, or print what would go.")] = False,
    policy: Annotated[Path, typer.Option(help="YAML file that says how long each class is kept.")] = POLICY,
) -> None:
    """Remove expired products and what killed stages left; never what another product has to be made from."""
    with _readable_errors():
        chosen = read_policy(policy)
        urls = [url for root in stores for url in find_sessions(Location.of(root))]
        if not urls:
            raise StoreError(f"{', '.join(stores)}: found no session; check the address")
        _show_sweep([sweep_session.fn(url, chosen, not is_deleting) for url in urls])


@app.command()
def restore(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    product: Annotated[
        list[str] | None, typer.Option(help="Class (imported_movies, …) or address of a product; all when left out.")
    ] = None,
) -> None:
    """Mark expired products to be made again by the next `process`, with what they are made from."""
    with _readable_errors():
        store = SessionStore.open(session)
        expired = expired_products(store)
        unknown = set(product or []) - set(expired) - set(expired.values()) - set(PRODUCT_CLASSES)
        if unknown:
            raise ValueError(
                f"{', '.join(sorted(unknown))}: has not expired and is no class; expected one of "
                f"{', '.join(sorted(set(expired.values()))) or 'none: nothing expired here'}"
            )
        chosen = [a for a, name in expired.items() if not product or a in product or name in product]
        marked = mark_wanted(store, chosen)
        console.print(f"{len(marked)} products will be made again by the next `vitriflow process` of {store.url}")


def _show_sweep(reports: list[SweepReport]) -> None:
    is_dry_run = all(report.is_dry_run for report in reports)
    verb = "would be removed" if is_dry_run else "removed"
    table = Table("session", "class", "products", "bytes", "reason", title=verb)
    for column in table.columns[2:4]:
        column.justify = "right"
    for report in reports:
        for items, words in ((report.removed, ""), (report.held, "kept: ")):
            groups: dict[tuple[str, str], list[SweptItem]] = {}
            for item in items:
                reason = item.reason if not words else item.reason.split("/")[-1]
                groups.setdefault((item.product_class, reason), []).append(item)
            for (name, reason), group in groups.items():
                n_bytes = sum(item.n_bytes for item in group)
                table.add_row(report.session, name, str(len(group)), f"{n_bytes:,}", f"{words}{reason}")
        if report.refused:
            table.add_row(report.session, "", "", "", report.refused)
    if table.rows:
        console.print(table)
    total = sum(report.n_bytes for report in reports)
    console.print(f"{total:,} bytes {verb} in {len(reports)} sessions", highlight=False)
    if is_dry_run and total:
        console.print("nothing was removed; give --delete to remove it")


@app.command()
def compare(session: Annotated[str, typer.Argument(help="Store of the session, or of one of its versions.")]) -> None:
    """Compare the versions of a session: what was changed, and what came of it."""
    with _readable_errors():
        store = SessionStore.open(session)
        found = version_table(SessionStore.open(store.parents[-1].url) if store.parents else store)
        table = Table("", *found.versions, "better", title=f"versions of session {found.session}")
        for row in found.rows():
            table.add_row(*row.values())
        console.print(table)


@contextmanager
def running_services() -> Iterator[Services]:
    """The services, and a process whose flows report to them."""
    found = services.up(Settings())
    services.require_login(found)
    changed: dict[Any, Any] = {
        PREFECT_API_URL: found.prefect_api_url,
        PREFECT_UI_URL: found.prefect_ui_url,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_CLIENT_RETRY_EXTRA_CODES: services.CLIENT_ENVIRONMENT["PREFECT_CLIENT_RETRY_EXTRA_CODES"],
        PREFECT_CLIENT_MAX_RETRIES: services.CLIENT_ENVIRONMENT["PREFECT_CLIENT_MAX_RETRIES"],
        PREFECT_LOGGING_EXTRA_LOGGERS: ["tasks", "flows"],
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30,  # the automation "lost heartbeat" counts on it
    }
    for words in services.login().values():
        changed[PREFECT_API_AUTH_STRING] = words
    with temporary_settings(changed):
        yield found


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except EXPECTED_ERRORS as error:
        console.print(f"[red]{type(error).__name__}[/red]: {redacted(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("\ninterrupted; what is done is kept, and the same command continues from here")
        raise typer.Exit(130) from error


def _changes(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise typer.BadParameter(f"--set {text!r}: expected name=value, for instance classify_2d.n_classes=30")
        found[name] = value
    return found


def _show_services(found: Services) -> None:
    console.print(f"Prefect UI  {found.prefect_ui_url}\nDask        {found.dask_address}", highlight=False)


def _show_reports(reports: list[StageReport]) -> None:
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


def _show_status(session: str) -> None:
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
    if (store.location / "report.html").read_bytes() is not None:
        console.print(f"Report      {store.url}/report.html", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of ``vitriflow``."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    app()


if __name__ == "__main__":
    main()
