"""What runs beside the flows: the services of a workstation, and the deployments on its Prefect server."""

from __future__ import annotations

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
from rich.table import Table

from flows import services
from flows.commands.console import console, readable_errors
from flows.declarations import DEPLOYMENTS, read_declarations
from flows.deploy import Change
from flows.deploy import deploy as install
from flows.services import ServiceError, Services
from flows.settings import Settings


def up() -> None:
    """Start the Prefect server, the Dask scheduler and the two workers, or say where they run."""
    show_services(services.up(Settings()))


def down() -> None:
    """Stop what `up` started."""
    console.print(f"stopped {services.down(Settings())} processes")


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
    with readable_errors(ServiceError):
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


def show_services(found: Services) -> None:
    console.print(f"Prefect UI  {found.prefect_ui_url}\nDask        {found.dask_address}", highlight=False)
