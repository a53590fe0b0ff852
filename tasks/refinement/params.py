"""Parameters of refinements; they lie here as their parts read them on the worker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.records.point_group import PointGroup
from tasks.records.session import StageParams


class RefinementParams(StageParams):
    """What all refinements have."""

    max_iterations: int = Field(default=10, ge=2, le=100)
    shift_step_angstrom: float = Field(default=2.0, gt=0)
    n_candidates: int = Field(default=8, ge=1, le=100)
    """Poses of the search that are refined for each particle."""
    particles_per_block: int = Field(default=1000, ge=10)
    """Particles per item; a worker keeps four blocks where it has room, one where not, of 5 bytes · box² a particle.
    On disk each block leaves sums of 50 bytes · box³ until an iteration ends."""


class RefineMapParams(RefinementParams):
    """Parameters of `refine_map`."""

    diameter_angstrom: float = Field(gt=0)
    """Outer diameter of the particle; the mask stays inside a ball of this size."""
    symmetry: PointGroup = "C1"
    initial_map: str = "initial"
    """Name under ``maps/`` of the map that the first iteration starts from, in the frame of the point group."""
    initial_low_pass_angstrom: float = Field(default=20.0, gt=0)
    shift_range_angstrom: float = Field(default=10.0, ge=0)
    """How far particles may lie from the centre of their image."""
    start: Literal["last", "initial"] = "last"
    """From the last half maps and poses where particles were added to theirs, or always from the initial map."""
    seed: int = 1
    """Of the split into halves."""
