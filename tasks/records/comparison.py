"""A figure of a session compared with what is known to be true."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Comparison(BaseModel):
    """One line of the table that a demonstration or a benchmark ends with."""

    model_config = ConfigDict(frozen=True)

    stage: str
    figure: str
    value: float
    unit: str = ""
    reach: float | None = None
    """What is to be reached; None for a figure that is only told."""
    better: Literal["lower", "higher"] = "lower"

    @property
    def reach_words(self) -> str:
        """For a table, for instance "≤ 0.3 px"."""
        if self.reach is None:
            return ""
        return f"{'≤' if self.better == 'lower' else '≥'} {self.reach:g} {self.unit}".strip()

    @property
    def is_reached(self) -> bool | None:
        if self.reach is None:
            return None
        return self.value <= self.reach if self.better == "lower" else self.value >= self.reach
