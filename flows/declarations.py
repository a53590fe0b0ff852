"""What is to be installed on the Prefect server, as the YAML files in ``deployments/`` and of a facility say it."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.recipe import Recipe, recipe_content
from tasks.records.session import parameter_title

DEPLOYMENTS = Path(__file__).parents[1] / "deployments"

_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, so that installing a schedule again does not move it."""


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Queue(_Declaration):
    """A queue of a work pool; the lowest priority number is served first."""

    name: str
    priority: int = Field(ge=1)
    description: str = ""
    concurrency_limit: int | None = Field(default=None, ge=0)


class WorkPool(_Declaration):
    """A work pool, the environment of the processes that its workers start, and its queues."""

    name: str
    description: str = ""
    type: Literal["process"] = "process"
    concurrency_limit: int | None = Field(default=None, ge=0)
    env: dict[str, str] = {}
    queues: list[Queue] = []


class GlobalLimit(_Declaration):
    """Slots that flow runs of any pool share."""

    name: str
    limit: int = Field(ge=1)
    slot_decay_per_second: float = Field(default=0.0, ge=0)


class Schedule(_Declaration):
    """When a deployment runs by itself: every ``interval`` seconds, or by a cron expression."""

    interval: float | None = Field(default=None, gt=0)
    cron: str | None = None
    timezone: str = "UTC"
    active: bool = True
    parameters: dict[str, Any] = {}

    def timing(self) -> SCHEDULE_TYPES:
        if self.interval is not None:
            return IntervalSchedule(interval=self.interval, anchor_date=_ANCHOR, timezone=self.timezone)  # type: ignore[arg-type]
        if self.cron is None:
            raise ValueError("a schedule has neither interval nor cron; give one of them")
        return CronSchedule(cron=self.cron, timezone=self.timezone)


class PlaceInPool(_Declaration):
    """The pool and the queue that a deployment's runs wait in."""

    name: str
    work_queue_name: str = "default"
    job_variables: dict[str, Any] = {}


class DeploymentDeclaration(_Declaration):
    """One flow with its parameters, schedules and limits."""

    name: str
    description: str = ""
    entrypoint: str
    """Module and function, ``flows.process_session.process_session``."""
    tags: list[str] = []
    parameters: dict[str, Any] = {}
    schedules: list[Schedule] = []
    concurrency_limit: int | ConcurrencyLimitConfig | None = None
    work_pool: PlaceInPool
    enforce_parameter_schema: bool = True

    def flow(self) -> Flow[Any, Any]:
        try:
            return load_flow_from_entrypoint(self.entrypoint)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"deployment {self.name}: its entrypoint {self.entrypoint} cannot be imported ({error}); "
                "expected a module and a flow in it, like flows.process_session.process_session"
            ) from error

    def filled_parameters(self) -> dict[str, Any]:
        """The parameters with the content of a recipe in place of its name, where the flow takes nothing but content.

        Values are checked one by one; a recipe may lack what only a session knows, the form asks for it.
        """
        hints = get_type_hints(self.flow().fn, include_extras=True)
        filled = {}
        for name, value in self.parameters.items():
            if name not in hints:
                raise ValueError(f"deployment {self.name}: its flow has no parameter {name!r}; it has {sorted(hints)}")
            takes = {hints[name], *get_args(hints[name])}
            filled[name] = recipe_content(value) if Recipe in takes - {str} and isinstance(value, str) else value
        return filled


class Notify(_Declaration):
    """Tell somebody; templates are filled in by the Prefect server."""

    subject: str
    message: str


class AutomationDeclaration(_Declaration):
    """A trigger in Prefect's own words, and actions: ``{notify: …}``, or Prefect's own."""

    name: str
    description: str = ""
    trigger: dict[str, Any]
    """With ``match_related: our deployments``, events of their runs; ``our flows``, also of runs started by hand."""
    actions: list[dict[str, Any]] = Field(min_length=1)


class Declarations(_Declaration):
    """Everything that `vitriflow deploy` installs."""

    work_pools: list[WorkPool] = []
    global_limits: list[GlobalLimit] = []
    deployments: list[DeploymentDeclaration] = []
    automations: list[AutomationDeclaration] = []


def read_declarations(folder: Path = DEPLOYMENTS, facility: Path | None = None) -> Declarations:
    """The declarations of a folder, with those of a facility's file merged over them.

    Parameters
    ----------
    folder
        Has ``pools.yaml``, ``prefect.yaml`` and ``automations.yaml``.
    facility
        YAML with any of the keys of these files; entries are matched by name, and only what they say is changed.
    """
    content: dict[str, Any] = {}
    for name in ("pools.yaml", "prefect.yaml", "automations.yaml"):
        content |= _read_yaml(folder / name)
    content = {key: value for key, value in content.items() if key in Declarations.model_fields}
    where = str(folder)
    if facility is not None:
        changes = _read_yaml(facility)
        where = f"{folder} with {facility}"
        unknown = set(changes) - set(Declarations.model_fields)
        if unknown:
            raise ValueError(f"{facility}: unknown {sorted(unknown)}; it may have {sorted(Declarations.model_fields)}")
        content = {key: _merged_by_name(content.get(key, []), changes.get(key, [])) for key in content | changes}
    try:
        return Declarations.model_validate(content)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors())
        raise ValueError(f"declarations in {where}: {found}") from error


def parameter_form(flow: Flow[Any, Any]) -> dict[str, Any]:
    """The schema of a flow's parameters, with titles and the descriptions of its docstring: Prefect's form of it."""
    schema = parameter_schema(flow).model_dump()
    told = _parameter_docstrings(flow.fn.__doc__ or "")
    for name, about in schema["properties"].items():
        about["title"] = parameter_title(name)
        if name in told:
            about["description"] = told[name]
    return schema


def _parameter_docstrings(text: str) -> dict[str, str]:
    """Name -> description, of the section *Parameters* of a docstring in numpy's style; Prefect reads only Google's."""
    _, _, section = inspect.cleandoc(text).partition("\nParameters\n----------\n")
    found: dict[str, list[str]] = {}
    lines = section.splitlines()
    for line, following in zip(lines, [*lines[1:], ""]):
        if following.startswith("---"):
            break
        if line.startswith(" ") and found:
            found[list(found)[-1]].append(line.strip())
        elif line.strip():
            found[line.strip()] = []
    return {name: " ".join(words) for name, words in found.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give a file of declarations") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error}); correct the file") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found a {type(content).__name__}, expected keys like work_pools and deployments")
    return content


def _merged_by_name(entries: list[dict[str, Any]], changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged = {entry["name"]: entry for entry in entries}
    for change in changes:
        merged[change["name"]] = _merged(merged.get(change["name"], {}), change)
    return list(merged.values())


def _merged(entry: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    result = dict(entry)
    for key, value in change.items():
        if key == "queues":
            result[key] = _merged_by_name(result.get(key, []), value)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = result[key] | value
        else:
            result[key] = value
    return result
