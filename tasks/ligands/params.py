"""Parameters of `place_ligands`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from kernels.models.solvent_sites import COORDINATION
from tasks.records.session import StageParams


class PlaceLigandsParams(StageParams):
    """Parameters of `place_ligands`."""

    model: str = "chosen"
    """Name of the model in the store."""
    map: Literal["sharpened", "imported", "flipped", "joined"] = "sharpened"
    """Map that it lies in, ``maps/<name>``."""
    half_maps: Literal["refined", "imported"] | None = "refined"
    """Map whose halves are looked at; those of `map` when it has its own, none where neither has."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Of the map; the one in its record when not given."""
    ligands: tuple[str, ...] = ()
    """What is in the sample: code of the monomer library, restraint CIF, SDF or MOL file, or SMILES."""
    ions: tuple[str, ...] = ()
    """Ions that may be placed, as MG or ZN; without them strong peaks are listed."""
    has_waters: bool = True
    """Waters are placed where the map is good enough for them."""
    worst_water_angstrom: float = Field(default=3.0, gt=0)
    """Waters are not looked for where the resolution is worse."""
    least_probability: float = Field(default=0.5, ge=0, le=1)
    """That a ligand stands as it is placed; otherwise it is not placed."""
    most_copies: int = Field(default=12, ge=1)
    """Of each ligand."""
    is_refined: bool = True
    """Refine the model with what was placed, where there is a monomer library."""
    monomer_library: str | None = None
    """Folder of a CCP4-style monomer library; looked for when not given."""
    n_cycles: int = Field(default=8, ge=1, le=100)
    """Of that refinement."""
    memory_bytes: int = Field(default=4_000_000_000, gt=0)
    """Most that one run of servalcat may take."""
    time_limit_seconds: float = Field(default=1800.0, gt=0)
    """Of one run of servalcat."""

    @field_validator("ions")
    @classmethod
    def _known(cls, ions: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(ion.strip().upper() for ion in ions)
        unknown = [ion for ion in names if ion not in COORDINATION]
        if unknown:
            raise ValueError(f"ions {', '.join(unknown)}: not known; expected some of {', '.join(COORDINATION)}")
        return names
