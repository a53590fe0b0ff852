"""What commands share: the console, errors in words, and changes of a recipe that are given as options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from tasks.records.secrets import SecretError, redacted
from tasks.stores.storage.lease import LeaseHeldError
from tasks.stores.storage.location import StoreError

console = Console()

_EXPECTED_ERRORS = (ValueError, OSError, StoreError, LeaseHeldError, SecretError)
"""Errors whose message says all an operator needs; anything else is a defect and shows its traceback."""

Changes = Annotated[
    list[str] | None, typer.Option("--set", help="One parameter of the recipe, e.g. classify_2d.n_classes=30.")
]


@contextmanager
def readable_errors(*others: type[Exception]) -> Iterator[None]:
    """Ends the command with the words of an expected error; ``others`` are those that it may meet besides."""
    expected: tuple[type[Exception], ...] = (*_EXPECTED_ERRORS, *others)
    try:
        yield
    except expected as error:
        console.print(f"[red]{type(error).__name__}[/red]: {redacted(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("\ninterrupted; what is done is kept, and the same command continues from here")
        raise typer.Exit(130) from error


def changes_of(texts: list[str] | None) -> dict[str, str]:
    """Parameter of the recipe -> value, of ``name=value``."""
    found = {}
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign:
            raise typer.BadParameter(f"--set {text!r}: expected name=value, for instance classify_2d.n_classes=30")
        found[name] = value
    return found


def with_shorthands(
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
