"""Rounds of a model beside each other, as a record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ComparedRound(BaseModel):
    """One model of several."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    map: str
    """Name of the map that it was fitted to."""
    fsc_free: float | None
    """Mean FSC with the free half map inside of the mask around all models, weighted by coefficients; None without
    half maps, and for a model that is compared with no other."""


class RoundsComparison(BaseModel):
    """How well several models agree with one half map inside of one mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    map: str
    """Name of the map that they are compared in."""
    halves: str | None
    """Name of the map with its halves, the second of which is free; None where nothing was measured."""
    resolution_angstrom: float | None
    """The last one that counts."""
    rounds: tuple[ComparedRound, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.rounds)

    @property
    def words(self) -> str:
        """What decides between the models, in a sentence."""
        if self.halves is None or self.resolution_angstrom is None:
            return "Without a half map that is free, the mean probability of residues to be right decides."
        elsewhere = sorted({one.map for one in self.rounds} - {self.map})
        fitted = f", those that were fitted to maps/{' or maps/'.join(elsewhere)} too" if elsewhere else ""
        return (
            f"The FSC with half 2 of maps/{self.halves} up to {self.resolution_angstrom:.2f} Å decides, inside of one"
            f" mask around all of them{fitted}."
        )
