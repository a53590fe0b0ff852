"""Sets of particles: which images, and what is known of each of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

COLUMNS: dict[str, tuple[str, tuple[int, ...], str]] = {
    # name: dtype, shape per particle, unit
    "exposure": ("int32", (), "index into exposure_ids"),
    "stack_index": ("int32", (), "row of the exposure's particle stack"),
    "coordinate_px": ("float32", (2,), "px of the micrograph, (y, x)"),
    "pick_score": ("float32", (), ""),
    "defocus_u_angstrom": ("float32", (), "Å"),
    "defocus_v_angstrom": ("float32", (), "Å"),
    "defocus_angle_rad": ("float32", (), "rad"),
    "phase_shift_rad": ("float32", (), "rad"),
    "optics_group": ("int32", (), ""),
    "rotation": ("float32", (3, 3), "map -> image, (z, y, x)"),
    "shift_angstrom": ("float32", (2,), "Å, (y, x) of the particle from element n // 2"),
    "half_set": ("int8", (), "1 or 2, 0 while not assigned"),
    "class_2d": ("int32", (), "-1 while not assigned"),
    "log_likelihood": ("float32", (), "of the best pose"),
}
"""Columns of a particle table; a set has the first five of them and whatever later stages added."""


@dataclass(frozen=True)
class ParticleSet:
    """A table of particles, one numpy column a property, named and typed as in `COLUMNS`.

    The images stay in the stacks of ``exposures/<id>/extract_particles``; the set says which of them belong.
    """

    exposure_ids: tuple[str, ...]
    columns: dict[str, NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a particle set have different lengths: {lengths}")
        for name, column in self.columns.items():
            if name not in COLUMNS:
                raise ValueError(f"particle column {name!r} is unknown; expected one of {', '.join(COLUMNS)}")
            dtype, shape, _ = COLUMNS[name]
            if column.shape[1:] != shape:
                raise ValueError(f"particle column {name!r} is {column.shape[1:]} per particle, expected {shape}")
            self.columns[name] = np.ascontiguousarray(column, dtype=dtype)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> NDArray:
        if name not in self.columns:
            raise KeyError(f"this particle set has no column {name!r}; it has {', '.join(self.columns)}")
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def select(self, index: NDArray) -> ParticleSet:
        """The particles of a boolean mask or an index array, in its order."""
        return replace(self, columns={name: column[index] for name, column in self.columns.items()})

    def with_columns(self, **columns: NDArray) -> ParticleSet:
        """A set with columns added or replaced."""
        return replace(self, columns={**self.columns, **columns})


def concatenate(sets: list[ParticleSet]) -> ParticleSet:
    """One set of all particles; exposure numbers are made to match, columns must be the same in each."""
    ids = tuple(dict.fromkeys(exposure for part in sets for exposure in part.exposure_ids))
    position = {exposure: i for i, exposure in enumerate(ids)}
    names = list(sets[0].columns) if sets else []
    columns: dict[str, NDArray] = {}
    for name in names:
        if name == "exposure":
            parts = [np.array([position[e] for e in s.exposure_ids], dtype="int32")[s["exposure"]] for s in sets]
        else:
            parts = [s[name] for s in sets]
        columns[name] = np.concatenate(parts)
    return ParticleSet(ids, columns)
