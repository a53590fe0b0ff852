"""What a stage will need, said before it starts."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field


class Need(BaseModel):
    """Memory of one item, and disk and time of all items, of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    n_items: int = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    """At the peak of one item that takes all it can use, beside what a worker's process takes anyway."""
    least_memory_bytes: int = Field(default_factory=lambda known: known["memory_bytes"], ge=0)
    """The same when the item is cut into the smallest pieces; the result does not change. Left out where it is not cut.
    """
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
    most_particles: int = Field(default=0, ge=0)
    """Of one exposure."""
    box: int = Field(default=0, ge=0)
    """Side of the particle images, px."""
    particle_pixel_size_angstrom: float = Field(default=1.0, gt=0)

    @property
    def n_px(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def densest(self) -> int:
        """Particles of the exposure that has most of them."""
        return self.most_particles or math.ceil(1.5 * self.n_particles / max(1, self.n_exposures))

    def with_particles(self, diameter_angstrom: float, box: int, output_box: int) -> Outline:
        """With images from windows of ``box`` px; where no particles were counted, half of what fits side by side."""
        area = self.n_px * self.pixel_size_angstrom**2
        n_expected = math.ceil(0.5 * self.n_exposures * area / diameter_angstrom**2)
        sampled = self.pixel_size_angstrom * box / output_box
        images = {"box": output_box, "particle_pixel_size_angstrom": sampled}
        return self.model_copy(update=images | {"n_particles": self.n_particles or n_expected})

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
