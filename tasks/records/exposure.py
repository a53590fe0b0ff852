"""One exposure: a movie, or a micrograph that was summed before it came here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kernels.optics import Optics


class Exposure(BaseModel):
    """What an exposure is, as its import found it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Stem of the file name and the first eight hexadecimal digits of the content's hash."""
    name: str
    """File name without folder."""
    source: str
    """Where the file was when it was read."""
    content_hash: str
    kind: Literal["movie", "micrograph"]
    n_frames: int = Field(ge=1)
    shape: tuple[int, int]
    """(y, x) in pixels, after gain orientation and EER up-sampling."""
    optics: Optics
    optics_group: int = Field(default=1, ge=1)
    dose_per_frame: float | None = Field(default=None, ge=0)
    """e⁻/Å² per frame; None when unknown (micrographs)."""
    pre_exposure: float = Field(default=0.0, ge=0)
    """e⁻/Å² received before the first frame."""

    @model_validator(mode="after")
    def _a_micrograph_has_one_frame(self) -> Exposure:
        if self.kind == "micrograph" and self.n_frames != 1:
            raise ValueError(f"exposure {self.id}: a micrograph has 1 frame, found {self.n_frames}")
        return self


class ExposureCtf(BaseModel):
    """What `estimate_ctf` found for one exposure; the figures of its commit record."""

    model_config = ConfigDict(frozen=True)

    defocus_u_angstrom: float
    defocus_v_angstrom: float
    defocus_angle_deg: float
    phase_shift_deg: float = 0.0
    fit_correlation: float
    fit_resolution_angstrom: float
