"""What is to be done with a model, its map and its session, and why."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Decision = Literal["deposit", "rebuild here", "refine the map here", "collect more data", "build a model"]
Side = Literal["map", "prediction", "not built", "not seen", "undecided"]


class Disagreement(BaseModel):
    """Residues in a row of a prediction that the model of the map does not agree with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: str
    """Of the prediction."""
    first: str
    """Number with insertion code, ``52A``."""
    last: str
    n_residues: int = Field(ge=1)
    side: Side
    """Whom the map speaks for: the model that was built in it, the prediction, the prediction where nothing was built,
    nobody as nothing is seen there, or that is not known."""
    why: str
    lddt: float | None
    """Mean lDDT of prediction and model, 0 to 1; None where nothing was built."""
    plddt: float
    """Mean, 0 to 100."""
    built_probability: float | None
    predicted_probability: float
    """Means, that the residues are right as they stand in the map."""
    of_model: tuple[str, ...] = ()
    """Stretches of the model that stand for them: ``A/12-88``; none where nothing was built."""


class WeakPart(BaseModel):
    """A part of the molecule that the map shows less well than the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: str
    """Name of its mask among the arrays of the verdict."""
    residues: tuple[str, ...]
    """Stretches of the model: ``A/12-88``."""
    n_residues: int = Field(ge=1)
    n_unbuilt: int = 0
    """Residues that its density has room for, beside those."""
    n_doubted: int = 0
    """Residues of the model in it, or touching it, that are not trusted."""
    resolution_angstrom: float
    """Median of its residues."""
    rest_angstrom: float
    """The same of the whole model."""


class NeededParticles(BaseModel):
    """Particles that a resolution takes by the session's own curve, those that are there included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution_angstrom: float
    n_particles: int
    low: int
    high: int | None
    """Ends of the 90 % interval; None for more than a hundred times those that are there."""
    n_exposures: int
    """That give as many particles, as exposures did so far."""


class MissingData(BaseModel):
    """What more particles, and which, would bring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_particles: int | None
    resolution_angstrom: float | None
    forecast: str | None
    """How the resolution grows with particles, in words."""
    evenness: float | None
    """Of the sampling of Fourier space by views: harmonic over arithmetic mean."""
    seldom_share: float | None
    """Of directions that have less than a quarter of the mean."""
    weakest_direction: tuple[float, float, float] | None
    """(z, y, x) of the map around which sampling is least."""
    views: str | None
    """Which are missing, in words."""
    limit_angstrom: float | None = None
    """Finest detail that the images hold as they are sampled."""
    needed: NeededParticles | None = None
    """For the goal; without one, for a map that a chain can be traced in. None where no curve tells it."""


class ActionTaken(BaseModel):
    """What was done at once about an earlier verdict, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: str
    """Name of that verdict, among those of the store."""
    decision: Decision
    what: str
    """What was done, or why nothing was."""
    model: str | None = None
    """Name of the model that was made; None where none was."""
    is_kept: bool = False
    """Whether that model was taken in place of the one before."""


class SessionVerdict(BaseModel):
    """One decision, and all that it rests on: a model in its map, or the map alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None
    """Name; None while there is none."""
    map: str
    prediction: str | None
    decision: Decision
    reason: str
    resolution_angstrom: float | None = None
    """Of the map."""
    goal_angstrom: float | None = None
    """That is to be reached, where somebody said so."""
    rebuild: tuple[str, ...]
    """Stretches of the model that are to be built anew, or that a prediction fills."""
    weak_parts: tuple[WeakPart, ...]
    disagreements: tuple[Disagreement, ...]
    missing: MissingData
    action: ActionTaken | None = None
    """That this verdict follows; None where nobody gave leave for one."""
