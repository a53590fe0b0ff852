"""What `diagnose_gain` says of a session's gain reference."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from kernels.movies.gain import Flip
from kernels.movies.gain_evidence import Meaning, VerdictKind
from kernels.movies.pattern_watch import FindingKind

GainVerdictKind = VerdictKind | Literal["other shape", "no gain: estimated", "no gain: not needed", "no gain"]


class GainRow(BaseModel):
    """One use of the gain given, and how it fits the counts."""

    model_config = ConfigDict(frozen=True)

    rotation_deg: int
    """Of the file, as the recipe gives it."""
    flip: Flip
    meaning: Meaning
    binning: float
    """Pixels of the file along one pixel of the frames."""
    agreement: float
    """Slope of the counts' fixed pattern on that of the gain; 1 where it is right, 0 where it is another."""
    standard_error: float
    sigma: float
    """Agreement in standard errors."""
    is_as_given: bool


class GainAlarm(BaseModel):
    """Something about the detector that changed in mid-session."""

    model_config = ConfigDict(frozen=True)

    kind: FindingKind
    exposure: str
    """The first that shows it."""
    number: int | None = None
    """Of that exposure, from 0, in the order in which they came."""
    size: float
    region_px: tuple[int, int, int, int] | None = None
    """x, y, width, height in pixels of the frames; the form of a line of a defects file."""
    words: str
    """What was found, what was expected, what to do."""


class GainDiagnosis(BaseModel):
    """The details of the product ``session/gain_diagnosis``."""

    model_config = ConfigDict(frozen=True)

    kind: GainVerdictKind
    verdict: str
    """In words, with what to do."""
    recipe: dict[str, int | float | str] = {}
    """Parameters of `import_session` to set; empty where those given are right."""
    rows: list[GainRow] = []
    """Best first."""
    margin_sigma: float = 0.0
    """How much better the best use fits than the next, in standard errors."""
    n_exposures: int = 0
    mean_counts: float = 0.0
    """Electrons on a pixel of an exposure, all frames together."""
    pattern_percent: float | None = None
    """RMS of the fixed pattern that the uncorrected counts of all exposures share; None with fewer than seven."""
    gain_pattern_percent: float | None = None
    """RMS of the pattern that the gain given would take away."""
    pattern_limit_percent: float | None = None
    """The smallest change of the pattern that would raise an alarm now."""
    alarms: list[GainAlarm] = []
    """In order of exposure; at most 200."""
    n_alarms: int = 0
    estimate: dict[str, float | int | bool] = {}
    """Of the gain made from the movies: figures of ``session/gain_sums``."""
