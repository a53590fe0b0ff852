"""The depositor's file, read and checked: what lacks is told all at once, each with the place to write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.records.deposition import DepositionFile, Instrument


class MissingInformationError(ValueError):
    """What a deposition needs and neither the session nor the depositor's file tells."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        noun = "thing" if len(problems) == 1 else "things"
        lines = "\n".join(f"- {problem}" for problem in problems)
        super().__init__(f"{where}: {len(problems)} {noun} to write or to mend before anything is deposited:\n{lines}")
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Information:
    """What a depositor's file tells."""

    told: DepositionFile | None
    """None where it does not tell all."""
    instrument: Instrument
    """As far as it can be read, so that it can be compared with the session in any case."""
    n_molecules: int
    problems: list[str]
    """What lacks or is wrong, a line each."""


def read_information(path: Path) -> Information:
    """The file, looked at as a whole.

    Raises
    ------
    ValueError
        Where there is no such file, or it is no YAML of names and values.
    """
    try:
        told = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: there is no such file; write one to fill in with `vitriflow deposit SESSION --template {path}`"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({error}); compare it with a new `--template`") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path}: holds no names and values; compare it with a new `--template`")
    filled = _without_blanks(told)
    assert isinstance(filled, dict)
    sample = filled.get("sample")
    molecules = sample.get("molecules") if isinstance(sample, dict) else None
    n_molecules = len(molecules) if isinstance(molecules, list) else 0
    try:
        found = DepositionFile.model_validate(filled)
    except ValidationError as error:
        errors = error.errors()
        said = [
            _words(one["loc"], one["type"], one["msg"], one.get("input"))
            for one in errors
            if one["type"] != "too_short" or not _is_told_within(one["loc"], [other["loc"] for other in errors])
        ]
        return Information(None, _instrument(filled), n_molecules, said)
    return Information(found, found.instrument, n_molecules, [])


def _instrument(filled: dict[Any, Any]) -> Instrument:
    try:
        return Instrument.model_validate(filled.get("instrument", {}))
    except ValidationError:
        return Instrument()


def _is_told_within(place: tuple[int | str, ...], others: list[tuple[int | str, ...]]) -> bool:
    """Whether another error lies deeper at the same place; a list of wrong entries counts as empty, too."""
    return any(len(other) > len(place) and other[: len(place)] == place for other in others)


def _without_blanks(told: object) -> object:
    """Names without a value count as not written, so that a template may be filled in piece by piece."""
    if isinstance(told, dict):
        return {name: _without_blanks(value) for name, value in told.items() if value is not None}
    return [_without_blanks(one) for one in told] if isinstance(told, list) else told


def _words(place: tuple[int | str, ...], kind: str, message: str, found: object) -> str:
    name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    last = place[-1]
    above = ".".join(str(part) for part in place[:-1] if isinstance(part, str))
    where = f" below `{above}:`" if above else ""
    if kind == "missing":
        return f"{name}: is missing; write `{last}: …`{where}"
    if kind == "extra_forbidden":
        return f"{name}: is no field of a deposition; remove `{last}:`{where}, or look up its name in a `--template`"
    if kind == "too_short":
        return f"{name}: is empty; write at least one `- …` below `{last}:`"
    said = message.removeprefix("Value error, ")
    return f"{name}: {said[0].lower()}{said[1:]}, found {found!r}; write another `{last}:`{where}"
