"""Whether the exposures of a session have changed since earlier in it: defocus, drift, CTF resolution, picks."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels.level_change import LevelChange, level_change
from tasks.records.alarm import QualityChange
from tasks.records.session import StageParams
from tasks.stores.commit import Figure
from tasks.stores.ledger import Line, read_ledger
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)


class CheckQualityParams(StageParams):
    """How large a change has to be, and how sure; None switches a figure off."""

    n_recent: int = Field(default=25, ge=5)
    """Exposures whose median is compared; as many as a cycle of defocus targets, or more."""
    n_before: int = Field(default=250, ge=25)
    """Exposures before them that it is compared with; nothing is said before there are five times `n_recent`."""
    min_sigma: float = Field(default=4.0, gt=0)
    """Standard deviations between the medians, from which on a change is no accident."""
    max_defocus_change_angstrom: float | None = Field(default=4000.0, gt=0)
    """In either direction."""
    max_drift_factor: float | None = Field(default=1.6, gt=1)
    """Of the drift left within an exposure, and of the motion over a movie; only more of it is a change."""
    max_fit_resolution_factor: float | None = Field(default=1.25, gt=1)
    """Of the resolution to which the CTF fits; only a coarser one is a change."""
    max_picks_factor: float | None = Field(default=2.0, gt=1)
    """Of the picks per exposure, in either direction; grid squares differ in it by a quarter."""

    @model_validator(mode="after")
    def _more_before_than_now(self) -> CheckQualityParams:
        self.require_not_falling("n_recent", "n_before")
        return self


@task(name="check_quality", cache_policy=NO_CACHE)
def check_quality(session_url: str, params: CheckQualityParams) -> list[QualityChange]:
    """Figures whose level changed in the last exposures of a session; empty where all is as before.

    Nothing is computed from pixels: the figures are those of the ledger, also of exposures that curation rejected.
    """
    store = SessionStore.open(session_url)
    changes = quality_changes(read_ledger(store).lines, params)
    for change in changes:
        logger.warning("check_quality %s: %s", store.session.name, change.words)
    return changes


def quality_changes(lines: Sequence[Line], params: CheckQualityParams) -> list[QualityChange]:
    """The same from the lines of a ledger, in any order."""
    in_order = sorted(lines, key=_when)
    found = []
    for watched in _WATCHED:
        limit = watched.limit(params)
        if limit is None:
            continue
        known = [(line.exposure, value) for line in in_order if (value := watched.value(line.figures)) is not None]
        values = np.array([value for _, value in known])
        change = level_change(watched.scaled(values), params.n_recent, params.n_before)
        if change is None or change.n_sigma < params.min_sigma or not watched.is_beyond(change, limit):
            continue
        found.append(
            QualityChange(
                figure=watched.name,
                unit=watched.unit,
                before=watched.unscaled(change.before),
                recent=watched.unscaled(change.recent),
                n_sigma=change.n_sigma,
                n_before=min(params.n_before, len(known) - params.n_recent),
                n_recent=params.n_recent,
                first_exposure=known[-params.n_recent][0],
                last_exposure=known[-1][0],
            )
        )
    return found


@dataclass(frozen=True)
class _Watched:
    """One figure, and what counts as a change of it."""

    name: str
    unit: str
    figure: str
    limit: Callable[[CheckQualityParams], float | None]
    kind: Literal["difference", "factor"]
    is_only_more: bool = False

    def value(self, figures: dict[str, Figure]) -> float | None:
        if self.figure == "defocus":
            u, v = _number(figures, "defocus_u_angstrom"), _number(figures, "defocus_v_angstrom")
            return None if u is None or v is None else 0.5 * (u + v)
        return _number(figures, self.figure)

    def scaled(self, values: NDArray) -> NDArray:
        """What changes by a factor is compared by its logarithm; below 1 Å, or one pick, nothing is told apart."""
        return values if self.kind == "difference" else np.log(values.clip(min=1.0))

    def unscaled(self, value: float) -> float:
        return value if self.kind == "difference" else math.exp(value)

    def is_beyond(self, change: LevelChange, limit: float) -> bool:
        more = change.recent - change.before
        most = limit if self.kind == "difference" else math.log(limit)
        return more > most or (not self.is_only_more and -more > most)


_WATCHED = (
    _Watched("defocus", "Å", "defocus", lambda p: p.max_defocus_change_angstrom, "difference"),
    _Watched("drift within an exposure", "Å", "drift_angstrom", lambda p: p.max_drift_factor, "factor", True),
    _Watched("motion over a movie", "Å", "total_motion_angstrom", lambda p: p.max_drift_factor, "factor", True),
    _Watched("CTF resolution", "Å", "fit_resolution_angstrom", lambda p: p.max_fit_resolution_factor, "factor", True),
    _Watched("picks per exposure", "", "n_picks", lambda p: p.max_picks_factor, "factor"),
)


def _when(line: Line) -> tuple[str, list[int | str]]:
    """Time of acquisition where the ledger has it; else the name, whose numbers grow as a microscope writes them."""
    acquired = line.figures.get("acquired_at")
    texts = _NUMBER.split(line.exposure.rpartition("-")[0] or line.exposure)
    return str(acquired or ""), [int(text) if place % 2 else text for place, text in enumerate(texts)]


_NUMBER = re.compile(r"(\d+)")
"""Splits into texts and numbers by turns."""


def _number(figures: dict[str, Figure], name: str) -> float | None:
    value = figures.get(name)
    return None if value is None or isinstance(value, str) else float(value)
