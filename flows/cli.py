"""Cryo-EM from microscope movies to a validated atomic model."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_PLACES = {
    "up": "services",
    "down": "services",
    "deploy": "services",
    "process": "processing",
    "forecast": "processing",
    "watch": "processing",
    "demo": "processing",
    "status": "status",
    "sessions": "results",
    "compare": "results",
    "export": "results",
    "deposit": "deposition",
    "verify": "deposition",
    "predict": "prediction",
    "dock": "docking",
    "model": "building",
    "validate": "models",
    "compare-states": "states",
    "train": "training",
    "sweep": "retention",
    "restore": "retention",
}
"""Command -> the module below `flows.commands` that has it as a function of this name (an underscore for a hyphen), in
the order of the help."""


class _Commands(TyperGroup):
    """Imports a command when it is called: all together take seconds, and `status` needs a few of their modules."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(_PLACES)

    def get_command(self, ctx: object, cmd_name: str) -> Any:
        if cmd_name not in _PLACES:
            return None
        found = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        module = import_module(f"flows.commands.{_PLACES[cmd_name]}")
        found.command(cmd_name)(getattr(module, cmd_name.replace("-", "_")))
        return typer.main.get_command(found)


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)


@app.callback()
def _vitriflow() -> None:
    pass


def main() -> None:
    """Entry point of ``vitriflow``."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    app()


if __name__ == "__main__":
    main()
