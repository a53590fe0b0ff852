"""Run an engine: a program of somebody else's, in its own environment, in a folder that is thrown away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.formats import FormatError
from tasks.formats.prediction import Prediction, read_predictions
from tasks.prediction.request import Request

_TOLD_LINES = 12
_GRACE_SECONDS = 10.0


class EngineError(RuntimeError):
    """An engine ended without a prediction: what it said last."""


class EngineUnavailable(EngineError):
    """The program, its weights or its databases are not there: what to do next."""


@dataclass(frozen=True)
class EnginePlace:
    """Where an engine is, and what it may take."""

    program: str
    """Path of its command, or its name on the search path."""
    weights: Path | None = None
    """Folder of its weights; None for the place that it takes itself."""
    is_server_asked: bool = False
    """Whether it may send sequences to a public server that aligns them."""
    is_gpu: bool = False
    seconds: float = 4 * 3600.0


class Engine(Protocol):
    """Writes the input of an engine, and its command line."""

    name: str

    def command(self, request: Request, place: EnginePlace, folder: Path) -> list[str]:
        """Write the input into a folder; the command that predicts into its subfolder ``out``.

        Raises
        ------
        EngineError
            Where the engine cannot predict what is asked for.
        """
        ...

    def check_templates(self, out: Path) -> None:
        """Raise EngineError where what it wrote tells that it passed over the templates of its request."""
        ...


def predicted(engine: Engine, request: Request, place: EnginePlace, folder: Path) -> list[Prediction]:
    """Predict in a folder; the predictions, the best first.

    Raises
    ------
    EngineUnavailable
        Where its program or weights are not there.
    EngineError
        Where it fails, takes too long, writes nothing, or passes over a template.
    """
    program = shutil.which(place.program)
    if program is None:
        raise EngineUnavailable(
            f"{engine.name}: there is no program {place.program!r}; install it into an environment of its own and give"
            f" the path of its command with --program, or give a prediction that was made elsewhere with --from"
        )
    if place.weights is not None and not place.weights.is_dir():
        raise EngineUnavailable(
            f"{engine.name}: there is no folder of weights {place.weights}; fetch them as its manual says, or leave"
            " --weights out to let it fetch them itself"
        )
    command = engine.command(request, place, folder)
    out = folder / "out"
    log = folder / "log.txt"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("wb") as said:
        # a session of its own: what the engine starts ends with it
        running = subprocess.Popen(
            [program, *command],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = running.wait(place.seconds)
        except subprocess.TimeoutExpired:
            raise EngineError(
                f"{engine.name}: did not finish within {place.seconds:g} s; allow more time, or predict fewer residues"
            ) from None
        finally:
            _end(running)
    if code != 0:
        raise EngineError(f"{engine.name}: ended with code {code}: {_last(log)}")
    if not out.is_dir() or not any(p.is_file() for p in out.rglob("*")):
        raise EngineError(f"{engine.name}: ended well but wrote nothing into {out}: {_last(log)}")
    try:
        found = read_predictions(out)
    except FormatError as error:
        raise EngineError(f"{engine.name}: ended well, but {error}; it said: {_last(log)}") from error
    if request.templates:
        engine.check_templates(out)
    return found


def _end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(running.pid, number)
        try:
            running.wait(_GRACE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue


def _last(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").strip().splitlines()[-_TOLD_LINES:]
    return " | ".join(line.strip() for line in lines if line.strip()) or "it said nothing"
