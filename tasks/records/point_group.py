"""Name of a point group, refused where a recipe or a form is read when there is no such group."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from kernels.rotations import symmetry_group


def _known(name: str) -> str:
    symmetry_group(name)
    return name.strip().upper()


PointGroup = Annotated[str, AfterValidator(_known)]
"""``C4``, ``D2``, ``T``, ``O``, ``I`` as `kernels.rotations.symmetry_group` knows them, in capitals."""
