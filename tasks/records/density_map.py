"""Density maps and what is known of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DensityMap(BaseModel):
    """What a map product is; its voxels are the arrays of that product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["initial", "refined", "sharpened", "imported"]
    pixel_size_angstrom: float = Field(gt=0)
    symmetry: str
    resolution_angstrom: float | None = None
    """Where the half-map FSC, corrected for the mask, crosses 0.143; None where there are no halves."""
    b_factor_angstrom2: float | None = None
    n_particles: int = 0
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where element (0, 0, 0) lies, (z, y, x), in the frame of the models that belong to the map."""
