"""`make bench`: the machinery, a simulated session of an unused seed and, where their folder is, real data.

Prints accuracy, CPU-seconds and peak memory together, and writes them to ``bench/``.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from flows.commands.processing import demo_inputs
from flows.commands.services import running_services
from flows.demonstrate import demonstrate
from flows.process_session import process_session
from flows.recipe import read_recipe
from tasks.records.comparison import Comparison
from tasks.records.session import StageReport
from tests.benchmarks import apoferritin, estimates, model_tables, operation
from tests.benchmarks.estimates import Section
from tests.truth.real_maps import REAL_DATA

SEED = 20261
"""Of the session that is reported; nothing was tuned on it."""


def main(
    folder: Annotated[Path, typer.Option(help="Folder for sessions and tables.")] = Path("bench"),
    seed: Annotated[int, typer.Option(help="Of the simulated session.")] = SEED,
    only: Annotated[str, typer.Option(help="simulated, real, models, operation or all.")] = "all",
    quick: Annotated[bool, typer.Option("--quick", help="Few models of each kind, no benchmark.")] = False,
) -> None:
    """Run the benchmark of whole sessions and of the machinery."""
    root = folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    tables = [_machine()]
    if only in ("operation", "all"):
        figures = operation.measure()
        tables += ["## Operation", accuracy(figures)]
        (root / "operation.json").write_text(json.dumps([c.model_dump() for c in figures], indent=1))
    with running_services() if only != "operation" else nullcontext():
        if only in ("simulated", "all"):
            inputs = demo_inputs(root / "simulated", seed)
            shutil.rmtree(inputs[1], ignore_errors=True)
            result = demonstrate(*inputs)
            tables += ["## Simulated session", accuracy(result.comparisons), resources(result.reports)]
            (root / "simulated.json").write_text(result.model_dump_json(indent=1))
        if only in ("real", "all") and REAL_DATA.is_dir():
            shutil.rmtree(root / "apoferritin.zarr", ignore_errors=True)
            reports = process_apoferritin(str(root / "apoferritin.zarr"), REAL_DATA)
            found = apoferritin.compare(str(root / "apoferritin.zarr"), REAL_DATA)
            tables += ["## Real session: apoferritin, EMPIAR-10146", accuracy(found), resources(reports)]
            (root / "real.json").write_text(json.dumps([c.model_dump() for c in found], indent=1))
        if only in ("real", "models", "all") and not REAL_DATA.is_dir():
            tables.append(f"(no real data at {REAL_DATA}; set VITRIFLOW_REAL_DATA)")
        if only in ("models", "all") and REAL_DATA.is_dir():
            tables = _with_models(root, quick, tables)
    Console(soft_wrap=True).print(_write(root, tables), markup=False, highlight=False)


def _with_models(root: Path, is_quick: bool, tables: list[str]) -> list[str]:
    """These tables and those of models, written whenever something has been measured."""
    shutil.rmtree(root / "models", ignore_errors=True)
    kinds = {
        "Models in real maps": model_tables.real_sections(root / "models", REAL_DATA, is_quick),
        "Models in simulated maps": model_tables.simulated_sections(root / "models", REAL_DATA, is_quick),
    }
    found: list[Section] = []
    for name, sections in kinds.items():
        heading, n_before = f"## {name}{' (quick: no benchmark)' if is_quick else ''}", len(found)
        before = tables
        for section in sections:
            found.append(section)
            tables = [*before, heading, estimates.table(found[n_before:])]
            (root / "models.json").write_text(json.dumps([asdict(some) for some in found], indent=1))
            _write(root, tables)
    return tables


def _write(root: Path, tables: Sequence[str]) -> str:
    """What has been measured by now: a benchmark of hours that is cut keeps its beginning."""
    text = "\n\n".join(tables) + "\n"
    (root / "bench.md").write_text(text)
    return text


def process_apoferritin(session_url: str, data: Path) -> list[StageReport]:
    """The ten good micrographs and the spoilt one, from nothing."""
    return process_session(
        session_url, str(data / "micrographs/apoferritin_EMPIAR-10146/avg"), read_recipe("apoferritin")
    )


def accuracy(comparisons: list[Comparison]) -> str:
    lines = ["| stage | figure | measured | to reach | |", "|---|---|---|---|---|"]
    for c in comparisons:
        verdict = {None: "", True: "reached", False: "missed"}[c.is_reached]
        lines.append(f"| {c.stage} | {c.figure} | {c.value:.3g} {c.unit} | {c.reach_words} | {verdict} |")
    return "\n".join(lines)


def resources(reports: list[StageReport]) -> str:
    lines = ["| stage | items | CPU-s | CPU-s per item | peak GB of a worker |", "|---|---|---|---|---|"]
    for r in reports:
        n = len(r.done) + len(r.failed)
        each = f"{r.cpu_seconds / n:.2f}" if n else ""
        lines.append(f"| {r.stage} | {n} | {r.cpu_seconds:.1f} | {each} | {r.peak_memory_bytes / 1e9:.2f} |")
    return "\n".join(lines)


def _machine() -> str:
    names = ("vitriflow", "torch", "zarr", "prefect", "dask")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    found = ", ".join(f"{name} {version(name)}" for name in names)
    when = datetime.now(UTC).date().isoformat()
    return f"{when}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores, {device}; {found}"


if __name__ == "__main__":
    typer.run(main)
