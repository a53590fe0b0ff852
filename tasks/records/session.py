"""A microscope session and the parameters that all of its stages share the shape of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.records.secrets import refuse_secrets

_UNITS = {
    "angstrom2": "Å²",
    "angstrom": "Å",
    "electrons": "e⁻",
    "kv": "kV",
    "mm": "mm",
    "mrad": "mrad",
    "rad": "rad",
    "deg": "°",
    "px": "px",
    "bytes": "bytes",
    "seconds": "s",
}
_WORDS = {"ctf": "CTF", "fsc": "FSC", "eer": "EER", "mrc": "MRC", "b": "B", "2d": "2D", "3d": "3D"}


def parameter_title(name: str, _: Any = None) -> str:
    """Name of a parameter in a form: ``box_size_px`` as *Box size (px)*, ``n_classes`` as *Classes (number)*."""
    first, *words = name.split("_")
    if first == "n" and words:
        unit: str | None = "number"
    else:
        words.insert(0, first)
        unit = _UNITS.get(words[-1]) if len(words) > 1 else None
        words = words if unit is None else words[:-1]
    title = " ".join(_WORDS.get(word, word) for word in words)
    title = title[0].upper() + title[1:]
    return title if unit is None else f"{title} ({unit})"


class StageParams(BaseModel):
    """Base of every stage's parameters: frozen; a misspelt name is an error, and so is a secret.

    A parameter's docstring and title reach its JSON schema, and so the forms that Prefect makes of it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, field_title_generator=parameter_title
    )

    @model_validator(mode="before")
    @classmethod
    def _hold_no_secret(cls, values: Any) -> Any:
        refuse_secrets(values, f"parameters of {cls.__name__.removesuffix('Params')}")
        return values

    def require_rising(self, *names: str) -> None:
        """ValueError where a parameter is not above the one named before it; None is no limit."""
        known = [(name, value) for name in names if (value := getattr(self, name)) is not None]
        for (lower, low), (upper, high) in pairwise(known):
            if not low < high:
                raise ValueError(f"{lower} is {low:g} and {upper} {high:g}; expected {lower} below {upper}")

    def require_not_falling(self, *names: str) -> None:
        """ValueError where a parameter is below the one named before it."""
        known = [(name, getattr(self, name)) for name in names]
        for (lower, low), (upper, high) in pairwise(known):
            if low > high:
                raise ValueError(f"{lower} is {low:g} and {upper} {high:g}; expected {lower} to be {high:g} or below")


class Session(BaseModel):
    """What is known of a session before its first exposure is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    created_at: str
    """ISO 8601, UTC."""
    software: str
    """Name and version of the program that created the store."""
    owner: str | None = None
    """User that the session belongs to."""
    group: str | None = None
    """Group that the session belongs to: a proposal, a laboratory."""


class StageReport(BaseModel):
    """What one stage did with the items it was given; seen = done + kept + failed + skipped."""

    stage: str
    done: list[str] = []
    """Items computed now."""
    kept: list[str] = []
    """Items whose committed product already had this fingerprint."""
    failed: dict[str, str] = {}
    """Item -> reason."""
    skipped: dict[str, str] = {}
    """Item -> reason; an earlier stage has no product for it."""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    """Largest resident set of a worker while it ran one of the items."""
    foreseen_cpu_seconds: float = 0.0
    """What was said before the items were run, see `tasks.workers.room`."""
    foreseen_memory_bytes: int = 0
    """Of a worker that runs one item at a time, its process included."""

    @property
    def n_seen(self) -> int:
        return len(self.done) + len(self.kept) + len(self.failed) + len(self.skipped)

    @property
    def available(self) -> list[str]:
        """Items that have a product now, computed or kept, in the order they were given where one kind."""
        return sorted([*self.done, *self.kept])
