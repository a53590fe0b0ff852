"""What became of an exposure in an operator's words, and the figures that are followed over a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.plots import page
from tasks.stores.ledger import Line

TONES: dict[str, page.Tone] = {
    "in use": "good",
    "rejected": "warn",
    "skipped": "warn",
    "failed": "bad",
    "quarantined": "bad",
}


def outcome_of(line: Line) -> str:
    """The state in an operator's words."""
    if line.state == "done":
        return "in use"
    return "rejected" if line.state == "skipped" and line.stage == "curate_exposures" else line.state


@dataclass(frozen=True)
class SeriesSpec:
    title: str
    unit: str
    figure: str
    """Name among the ledger's figures."""
    scale: float
    format: str


SERIES = (
    SeriesSpec("Defocus", "µm", "defocus_u_angstrom", 1e-4, ".2f"),
    SeriesSpec("CTF fit resolution", "Å", "fit_resolution_angstrom", 1.0, ".1f"),
    SeriesSpec("Total motion", "Å", "total_motion_angstrom", 1.0, ".1f"),
    SeriesSpec("Drift within the exposure", "Å", "drift_angstrom", 1.0, ".1f"),
    SeriesSpec("Picks per exposure", "", "n_picks", 1.0, ".0f"),
)


def values_of(lines: Sequence[Line], one: SeriesSpec) -> NDArray[np.float64]:
    """(exposure,) the figure of each line, NaN where it has none."""
    values = np.full(len(lines), np.nan)
    for i, line in enumerate(lines):
        found = line.figures.get(one.figure)
        if isinstance(found, int | float) and not isinstance(found, bool):
            values[i] = float(found) * one.scale
    return values
