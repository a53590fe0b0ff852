"""Parameters of `refine_model`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.records.session import StageParams


class RefineModelParams(StageParams):
    """Parameters of `refine_model`."""

    model: Literal["built", "imported", "docked"] = "built"
    """Model to start from, ``models/<name>``: a trace with CA atoms, or all atoms."""
    round: int = Field(default=0, ge=0)
    """0 for the first refinement; n for that of ``models/rebuilt-<n>``, whose atoms stay what they are and whose map
    weighs as much as it did in ``models/refined``, but for a trace, which is refined as the first one was."""
    map: Literal["sharpened", "imported", "flipped", "joined"] = "sharpened"
    """Map to look at, ``maps/<name>``."""
    half_maps: Literal["refined", "imported"] | None = "refined"
    """Map whose halves are refined against; those of `map` when it has its own, none where neither has."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Of the map; the one in its record when not given."""
    is_rebuilt: bool = True
    """Build all atoms of proteins anew about their Cα atoms; otherwise atoms stay what they are."""
    n_build_rounds: int = Field(default=2, ge=1, le=6)
    n_repair_rounds: int = Field(default=1, ge=0, le=5)
    """Rounds of flipped peptides and new rotamers after the first refinement."""
    monomer_library: str | None = None
    """Folder of a CCP4-style monomer library; looked for when not given."""
    without_library: Literal["refuse", "real space"] = "refuse"
    """Where there is none: all atoms may still be built and refined in real space, with bonds and angles as the
    project knows them."""
    most_angle_rmsd_deg: float = Field(default=1.4, gt=0, le=5)
    """Largest deviation of bond angles that a weight may bring."""
    torsion_sigma_deg: float | None = Field(default=5.0, gt=0)
    """How tightly phi and psi are held while refining in reciprocal space; None leaves them free."""
    n_cycles: int = Field(default=10, ge=1, le=100)
    memory_bytes: int = Field(default=4_000_000_000, gt=0)
    """Most that one run of servalcat may take."""
    time_limit_seconds: float = Field(default=1800.0, gt=0)
    """Of one run of servalcat."""
