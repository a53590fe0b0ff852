"""Parameters of `refine_part`; they lie here as its parts read them on the worker."""

from __future__ import annotations

from pydantic import Field

from tasks.refinement.params import RefinementParams


class RefinePartParams(RefinementParams):
    """Parameters of `refine_part`."""

    name: str = Field(default="part", pattern=r"^[\w-]+$")
    """Of what is made, ``maps/<name>`` and ``particles/<name>``."""
    mask: str = "verdicts/chosen/mask_1"
    """Address of the soft mask around the part, a product and its array, on the voxels of ``maps/refined``."""
    is_mask_mirrored: bool = False
    """Whether the mask lies in ``maps/flipped``, of the other hand than the particles' own map."""
    turn_range_deg: float = Field(default=12.0, gt=0, le=60)
    """How far the part is sought from how the whole is turned; half of it is the widest prior."""
    shift_range_angstrom: float = Field(default=6.0, gt=0)
    """How far the part is sought from its place in the whole; half of it is the widest prior."""
