"""What a stage will need, said before it starts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Need(BaseModel):
    """Memory of one item, and disk and time of all items, of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    n_items: int = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    """At the peak of one item that takes all it can use, beside what a worker's process takes anyway."""
    least_memory_bytes: int = Field(ge=0)
    """The same when the item is cut into the smallest pieces; the result does not change."""
    disk_bytes: int = Field(ge=0)
    """Written to the store by all items together, at the time when most of it is there; scratch included."""
    cpu_seconds: float = Field(ge=0)
    """Of all items, as such work took on one core when the stage was measured."""
    told_from: str
    """Sizes that the figures follow from."""
    remedy: str
    """What an operator may do where the memory of a worker does not hold an item."""


class Outline(BaseModel):
    """Sizes of a session that its stages' needs follow from; 0 where something is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_exposures: int = Field(ge=0)
    n_frames: int = Field(default=1, ge=1)
    """Of the longest movie."""
    shape: tuple[int, int] = (0, 0)
    """(y, x) of the largest frames, px."""
    bytes_per_px: int = Field(default=1, ge=1)
    """Of a frame as it is stored."""
    pixel_size_angstrom: float = Field(default=1.0, gt=0)
    """The smallest one."""
    n_particles: int = Field(default=0, ge=0)
    box: int = Field(default=0, ge=0)
    """Side of the particle images, px."""
    particle_pixel_size_angstrom: float = Field(default=1.0, gt=0)

    @property
    def n_px(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def field_angstrom(self) -> float:
        """Side of the particle images."""
        return self.box * self.particle_pixel_size_angstrom

    @property
    def frames_words(self) -> str:
        frames = f"{self.n_frames} frames of " if self.n_frames > 1 else ""
        return f"{frames}{self.shape[0]} × {self.shape[1]} px of {self.pixel_size_angstrom:.3g} Å"

    @property
    def particles_words(self) -> str:
        return f"{self.n_particles} particles of {self.box} px of {self.particle_pixel_size_angstrom:.3g} Å"
