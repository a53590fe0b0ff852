"""What a result was renewed from: the part of its history that its fingerprint does not hold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Renewal(BaseModel):
    """The product that a computation started from; stands in the details of a commit record as ``renewed_from``.

    A fingerprint depends on parameters and inputs alone, so two results with one fingerprint may have come by
    different ways: this says by which.
    """

    model_config = ConfigDict(frozen=True)

    product: str
    """Address of the product that was there before."""
    fingerprint: str
    n_particles: int
    """Particles it was made from."""
    generation: int = 1
    """Renewals since the last result from nothing, this one counted."""
