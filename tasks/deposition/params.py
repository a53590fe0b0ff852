"""Parameters of `deposit_structure`; they lie here as its parts read them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.records.session import StageParams

ImageSet = Literal["movies", "micrographs", "particles"]


class DepositStructureParams(StageParams):
    """What is deposited."""

    has_pdb: bool = True
    """Whether a model is deposited beside its map."""
    has_empiar: bool = True
    """Whether images are."""
    model: str | None = None
    """Name of the model in the store; None for the one that the session ended with."""
    map: str | None = None
    """Name of the map; None for that of the model."""
    image_sets: tuple[ImageSet, ...] = Field(default=("movies", "particles"), min_length=1)
    """For EMPIAR."""
    are_movies_linked: bool = True
    """Links to where the movies lie, in place of copies of them."""
    dictionary: str | None = None
    """PDBx/mmCIF dictionary, newer than that of cctbx."""
