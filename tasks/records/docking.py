"""What was docked into a map, where, and how sure that is; and what was not."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Vector = tuple[float, float, float]


class PlacedBody(BaseModel):
    """A structure, or a rigid part of one, that lies in the map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Name of the prediction, or of the model's file."""
    copy_number: int
    """From 1: which copy of it this is."""
    part: str
    """``whole``, or ``part 1 of 3``."""
    chains: tuple[str, ...]
    """Of the docked model, that the residues belong to."""
    first: str
    """Residue, as in the docked model."""
    last: str
    n_residues: int
    rotation: tuple[Vector, Vector, Vector]
    """Acts on (z, y, x): a place r of the source comes to lie at ``rotation @ r + shift_angstrom``."""
    shift_angstrom: Vector
    """(z, y, x)"""
    correlation: float
    """With the map inside of its mask."""
    contrast: float
    """By how much that exceeds the best wrong pose at the same place."""
    z_score: float
    """The same in standard deviations of the wrong poses from their mean."""
    share_inside: float
    """Of its residues, above the contour of the map."""
    probability: float
    """That it lies within 4 Å RMSD of where it belongs."""
    overlap: float
    """Largest share of its residues that stand where those of another body do."""
    over_mirrored: float | None = None
    """By how much the correlation exceeds the best one of the structure's mirror image, anywhere in the map; None in
    records of earlier versions."""
    is_from_symmetry: bool = False
    """Whether it is believed because of where other copies lie, too: they told where to look, or obey one symmetry."""


class NotPlaced(BaseModel):
    """What was asked for and does not lie in the map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    part: str
    n_copies: int | None
    """How many of those that were asked for are lacking; None where no number was."""
    n_residues: int
    reason: str


class FoundSymmetry(BaseModel):
    """The symmetry that copies of one structure have among each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    name: str
    """Of a point group, as C3; or helical."""
    axis: Vector
    """(z, y, x), of the highest order; the one of the helix."""
    centre_angstrom: Vector
    """A place on it (z, y, x)."""
    rise_angstrom: float | None = None
    twist_deg: float | None = None
    """Of a helix: from one copy to the next, positive for a right-handed turn about the rise."""
    n_copies: int
    """That agree with it."""
    error_angstrom: float
    """RMSD of the copies from where it puts them."""
    n_completed: int = 0
    """Copies that were placed because it asked for them."""

    @property
    def words(self) -> str:
        if self.rise_angstrom is None:
            return f"{self.name}, {self.n_copies} copies, {self.error_angstrom:.1f} Å"
        return (
            f"helical, rise {self.rise_angstrom:.1f} Å, twist {self.twist_deg:.1f}°, {self.n_copies} copies,"
            f" {self.error_angstrom:.1f} Å"
        )


class Docking(BaseModel):
    """What one run of `dock_model` found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    map: str
    resolution_angstrom: float
    placed: tuple[PlacedBody, ...] = ()
    not_placed: tuple[NotPlaced, ...] = ()
    symmetry: tuple[FoundSymmetry, ...] = ()
    n_untrusted: int = 0
    """Residues of the predictions that were left out for want of confidence."""
