"""Sets of known structures, read once in a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tasks.training.structures import TrainingStructure, read_structures


@lru_cache(maxsize=1)
def structures_below(folder: Path) -> tuple[TrainingStructure, ...]:
    """All of a folder, as `read_structures` tells them."""
    return tuple(read_structures([folder]))
