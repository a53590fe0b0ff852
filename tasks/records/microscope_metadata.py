"""What the microscope's own files say of one exposure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MicroscopeMetadata(BaseModel):
    """Read from sidecar files (EPU XML, SerialEM ``.mdoc``) or from the movie itself; None where nothing says it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...] = ()
    """Files that it was read from, by name; empty where there are none."""
    pixel_size_angstrom: float | None = None
    """Of the pixels in the movie file, EER: of the detector's physical pixels."""
    voltage_kv: float | None = None
    spherical_aberration_mm: float | None = None
    total_dose: float | None = None
    """e⁻/Å² of the whole exposure at the specimen."""
    exposure_time_s: float | None = None
    n_frames: int | None = None
    """Frames that the file is to have, EER: of the detector."""
    acquired_at: str | None = None
    """ISO 8601, as the microscope's clock had it."""
    nominal_defocus_angstrom: float | None = None
    """Positive is underfocus."""
    magnification: float | None = None
    stage_position_angstrom: tuple[float, float, float] | None = None
    """(z, y, x)."""
    stage_tilt_deg: float | None = None
    beam_shift: tuple[float, float] | None = None
    """(y, x) in the microscope's own unit; only differences within a session mean something."""
    image_shift: tuple[float, float] | None = None
    """(y, x), likewise."""
    hole_position: str | None = None
    """Name of the acquisition area in the template of shots, for instance the number after ``Data_`` of EPU."""
    gain_file: str | None = None
    """Name of the gain reference that the file refers to."""
    defect_file: str | None = None
    """Name of the list of the camera's defects that the file refers to."""
    energy_filter_slit_ev: float | None = None
    """Width of the slit; None also where none was inserted."""
    is_phase_plate_used: bool | None = None
    software: str | None = None
    """That wrote the sidecar."""
    microscope: str | None = None
    detector: str | None = None
