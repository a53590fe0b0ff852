"""What was placed in a model beside its chains, and what density is still not explained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Place = tuple[float, float, float]


class PlacedResidue(BaseModel):
    """A water, an ion or a ligand of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["water", "ion", "ligand"]
    chain: str
    number: int
    name: str
    """Of the monomer: HOH, MG, ATP."""
    place_angstrom: Place
    """(z, y, x) where it was placed; its middle for a ligand."""
    sigma: float
    """Height of the density there, in standard deviations of its noise; mean over the atoms of a ligand."""
    share: float
    """Of the density that it would have if it were fully there."""
    half_sigma: float | None
    """The same height in the half map where it is lower, in that one's noise; None without half maps."""
    neighbour: str
    """The nearest atom that can bind it."""
    distance_angstrom: float | None
    n_coordinated: int | None = None
    """Of an ion: atoms and peaks at the distance that it keeps."""
    probability: float | None = None
    """Of a ligand: that it stands as it is placed, within 2 Å."""
    correlation: float | None = None
    """Of a ligand: with the density around it that nothing else explains."""
    gain_nats: float | None = None
    """Of a ligand: by which it raises the logarithm of the likelihood of the map."""


class UnexplainedDensity(BaseModel):
    """A piece of density, or a peak, that is left over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place_angstrom: Place
    """(z, y, x) of its highest voxel."""
    peak_sigma: float
    volume_angstrom3: float
    """Above three standard deviations."""
    neighbour: str
    """Nearest residue."""
    distance_angstrom: float
    words: str
    """What it may be, or why nothing stands there."""


class RefusedLigand(BaseModel):
    """A ligand that was asked for, and where it was tried in vain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    told: str
    """What the user named."""
    reason: str


class Placement(BaseModel):
    """What one run of `place_ligands` found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution_angstrom: float
    placed: tuple[PlacedResidue, ...] = ()
    unexplained: tuple[UnexplainedDensity, ...] = ()
    refused: tuple[RefusedLigand, ...] = ()
    water_words: str = ""
    """Why there are no waters, or where they were looked for."""
