"""Versions of a session side by side: what was changed, and what came of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ParameterRow(BaseModel):
    """A parameter of the recipe that is not the same in all versions."""

    model_config = ConfigDict(frozen=True)

    name: str
    """``stage.parameter``."""
    values: tuple[str, ...]
    """One a version, in words."""


class FigureRow(BaseModel):
    """One figure in all versions."""

    model_config = ConfigDict(frozen=True)

    stage: str
    figure: str
    unit: str = ""
    values: tuple[float | None, ...]
    """One a version: a count, or a median over exposures; None where there is none."""
    spreads: tuple[float | None, ...] = ()
    """Half the distance between the quartiles of each version; empty for counts."""
    better: Literal["lower", "higher"] | None = None
    """None where neither is."""
    decimals: int = 0

    @property
    def best(self) -> int | None:
        """Number of the version that is better than every other one; None where none is."""
        known = [value for value in self.values if value is not None]
        if self.better is None or len(known) < 2:
            return None
        target = round(min(known) if self.better == "lower" else max(known), self.decimals)
        winners = [i for i, value in enumerate(self.values) if value is not None and self._shown(value) == target]
        return winners[0] if len(winners) == 1 else None

    def _shown(self, value: float) -> float:
        """A difference that the table does not show decides nothing."""
        return round(value, self.decimals)

    def words(self) -> tuple[str, ...]:
        """The values as a table shows them, for instance "4.21 ± 0.30"; an en dash for none."""
        found = []
        for i, value in enumerate(self.values):
            spread = self.spreads[i] if self.spreads else None
            text = "–" if value is None else f"{value:.{self.decimals}f}"
            found.append(f"{text} ± {spread:.{self.decimals}f}" if value is not None and spread is not None else text)
        return tuple(found)


class VersionTable(BaseModel):
    """All versions of a session."""

    model_config = ConfigDict(frozen=True)

    session: str
    versions: tuple[str, ...]
    """Names, the session itself first."""
    parameters: tuple[ParameterRow, ...]
    figures: tuple[FigureRow, ...]

    def rows(self) -> list[dict[str, str]]:
        """For a table: what, a column a version, and which one is better."""
        changed = [{"what": row.name, **dict(zip(self.versions, row.values)), "better": ""} for row in self.parameters]
        told = [
            {
                "what": f"{row.figure}, {row.unit}" if row.unit else row.figure,
                **dict(zip(self.versions, row.words())),
                "better": "" if row.best is None else self.versions[row.best],
            }
            for row in self.figures
        ]
        return [*changed, *told]
