"""What the machinery costs and how it keeps up: the part of `make bench` that is about operation, not about images.

``python -m tests.benchmarks.operation [--only overhead --only status …]`` runs it, or some of it, alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tasks.records.comparison import Comparison
from tests.benchmarks.latency import latency
from tests.benchmarks.overhead import overhead
from tests.benchmarks.scaling import scaling
from tests.benchmarks.status import ledger_of_100_000, status_from_disk, status_from_s3

PARTS: dict[str, Callable[[Path], list[Comparison]]] = {
    "overhead": overhead,
    "latency": latency,
    "status": lambda folder: [*status_from_disk(folder), *status_from_s3(folder)],
    "ledger": lambda folder: ledger_of_100_000(),
    "scaling": scaling,
}


def measure(parts: list[str] | None = None) -> list[Comparison]:
    """All figures of the parts; each works in a folder of its own that is removed."""
    found: list[Comparison] = []
    for name in parts or PARTS:
        with tempfile.TemporaryDirectory(prefix=f"vitriflow-{name}-") as folder:
            found += PARTS[name](Path(folder))
    return found


def main(only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PARTS)}; may be repeated.")] = None):
    """Measure the machinery."""
    for comparison in measure(only):
        verdict = {None: "", True: "reached", False: "missed"}[comparison.is_reached]
        print(f"{comparison.figure}: {comparison.value:.3g} {comparison.unit} {comparison.reach_words} {verdict}")


if __name__ == "__main__":
    typer.run(main)
