"""Defocus, astigmatism and fit resolution of micrographs, and what their spectra tell of drift and ice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator
from torch import Tensor

from kernels.micrographs.ctf_fit import CtfFit, fit_ctf
from kernels.micrographs.power_spectrum import (
    FINEST_RESOLUTION_ANGSTROM,
    SMALLEST_SIDE_PX,
    Blur,
    averaged_power_spectrum,
    directional_blur,
    ice_ring_ratio,
    polar_spectrum,
    spectrum_memory_bytes,
    square_spectrum,
)
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.forecast import Need, Outline
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.exposure_store import exposure, micrograph, micrograph_address
from tasks.stores.products.outline import exposures_outline
from tasks.stores.session_store import SessionStore
from tasks.workers.device import device
from tasks.workers.stage import Stage, run_stage

_BLUR_RANGE_ANGSTROM = (100.0, 8.0)
_PHASE_STEP_DEG = 15.0


class EstimateCtfParams(StageParams):
    """Which CTFs are searched, over which frequencies."""

    lowest_resolution_angstrom: float = Field(default=30.0, gt=0)
    """Lower frequencies are left out: the shape of the particles makes rings of its own there."""
    highest_resolution_angstrom: float = Field(default=3.5, ge=FINEST_RESOLUTION_ANGSTROM)
    """Rings are fitted up to here or to Nyquist; where there are none, the fitted envelope gives them no weight."""
    min_defocus_angstrom: float = Field(default=3000.0, ge=0)
    max_defocus_angstrom: float = Field(default=50000.0, gt=0)
    expected_astigmatism_angstrom: float = Field(default=1000.0, gt=0)
    """Astigmatism of several times this is found only where the rings are clear."""
    is_phase_plate: bool = False
    """Fit the phase shift as well."""
    min_agreement: float = Field(default=0.5, gt=0, lt=1)
    """Correlation of spectrum and model, over three rings, down to which the fit is trusted."""

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> EstimateCtfParams:
        self.require_rising("min_defocus_angstrom", "max_defocus_angstrom")
        self.require_rising("highest_resolution_angstrom", "lowest_resolution_angstrom")
        return self


@task(name="estimate_ctf", cache_policy=NO_CACHE)
def estimate_ctf(session_url: str, exposure_ids: list[str], params: EstimateCtfParams) -> StageReport:
    """The CTF of every exposure, from the plain sum of its frames.

    One defocus per exposure; a tilted or uneven specimen gives its mean. Measured per item: 0.3 CPU-seconds and
    106 MB for 1200 × 1280 pixels, 0.4 and 214 MB for 2048 × 2048, 0.9 and 381 MB for 4092 × 5760.
    """
    return run_stage(session_url, _STAGE, exposure_ids, params)


def _inputs(store: SessionStore, exposure_id: str) -> list[str]:
    return [micrograph_address(store, exposure_id)]


def _compute(store: SessionStore, exposure_id: str, params: EstimateCtfParams, attempt: Attempt) -> None:
    about = exposure(store, exposure_id)
    reader = micrograph(store, exposure_id)
    name = "unweighted_micrograph" if "unweighted_micrograph" in reader else "micrograph"
    image = torch.from_numpy(reader[name]).to(device(), torch.float32)
    low, high = _checked_range(image, about, params)
    pixel_size = about.optics.pixel_size_angstrom
    spectrum = averaged_power_spectrum(image, pixel_size)
    polar = polar_spectrum(spectrum)
    specimen = polar.between(1 / _BLUR_RANGE_ANGSTROM[0], 1 / max(_BLUR_RANGE_ANGSTROM[1], high))
    blur = directional_blur(specimen)
    try:
        fit = fit_ctf(
            polar.between(1 / low, 1 / high),
            about.optics,
            defocus_range_angstrom=(params.min_defocus_angstrom, params.max_defocus_angstrom),
            expected_astigmatism_angstrom=params.expected_astigmatism_angstrom,
            phase_shifts_rad=_phase_shifts() if params.is_phase_plate else None,
            blur=blur,
            agreement=params.min_agreement,
        )
    except ValueError as error:
        raise ValueError(f"exposure {exposure_id}: {error}") from error
    if not math.isfinite(float(fit.defocus.mean_angstrom)):
        raise ValueError(f"exposure {exposure_id}: its CTF fit did not converge; look at its power spectrum")
    attempt.write("power_spectrum", square_spectrum(spectrum).cpu().numpy())
    attempt.write("fit_curves", fit.curve.cpu().numpy())
    ctf = _exposure_ctf(fit)
    attempt.details["ctf"] = ctf.model_dump(mode="json")
    attempt.figures.update(_figures(ctf, fit, blur, ice_ring_ratio(polar)))


def need(about: Outline, params: EstimateCtfParams) -> Need:
    """What CTF estimation needs: the micrograph twice, and its tiles."""
    memory = spectrum_memory_bytes(about.n_px)
    return Need(
        stage=_STAGE.name,
        n_items=about.n_exposures,
        memory_bytes=memory,
        disk_bytes=about.n_exposures * 600_000,
        cpu_seconds=about.n_exposures * (4 if params.is_phase_plate else 1) * (0.2 + 0.05e-6 * about.n_px),
        told_from=about.frames_words,
        remedy="bin the movies",
    )


def _needs(store: SessionStore, exposure_ids: Sequence[str], params: EstimateCtfParams) -> Need:
    return need(exposures_outline(store, exposure_ids), params)


_STAGE = Stage("estimate_ctf", 1, "CPU", _compute, _inputs, needs=_needs)


def _checked_range(image: Tensor, about: Exposure, params: EstimateCtfParams) -> tuple[float, float]:
    """Lowest and highest resolution in Å that can be fitted; raises ValueError where the micrograph has none."""
    n_bad = int((~torch.isfinite(image)).sum())
    if n_bad:
        raise ValueError(
            f"exposure {about.id}: {n_bad} of {image.numel()} pixels of its micrograph are not finite; "
            "repair or remove its file"
        )
    if float(image.max()) == float(image.min()):
        raise ValueError(f"exposure {about.id}: its micrograph is constant ({float(image.max()):g}); remove its file")
    if min(image.shape) < SMALLEST_SIDE_PX:
        raise ValueError(
            f"exposure {about.id}: its micrograph is {tuple(image.shape)} px, a CTF fit needs {SMALLEST_SIDE_PX} px or "
            "more along each axis; leave it out"
        )
    pixel_size = about.optics.pixel_size_angstrom
    low, high = params.lowest_resolution_angstrom, max(params.highest_resolution_angstrom, 2.05 * pixel_size)
    if high > low / 2:
        raise ValueError(
            f"exposure {about.id}: with {pixel_size:g} Å pixels rings are seen from {low:g} to {high:.3g} Å only, "
            "a CTF fit needs a factor of two; check the pixel size, or fit less binned micrographs"
        )
    return low, high


def _phase_shifts() -> Tensor:
    return torch.arange(0.0, 180.0, _PHASE_STEP_DEG) * (math.pi / 180)


def _exposure_ctf(fit: CtfFit) -> ExposureCtf:
    return ExposureCtf(
        defocus_u_angstrom=round(float(fit.defocus.u_angstrom), 1),
        defocus_v_angstrom=round(float(fit.defocus.v_angstrom), 1),
        defocus_angle_deg=round(math.degrees(float(fit.defocus.angle_rad)), 2),
        phase_shift_deg=round(math.degrees(float(fit.defocus.phase_shift_rad)), 2),
        fit_correlation=round(fit.correlation, 4),
        fit_resolution_angstrom=round(fit.fit_resolution_angstrom, 2),
    )


def _figures(
    ctf: ExposureCtf, fit: CtfFit, blur: Blur, ice: float | None
) -> dict[str, float | int | str | bool | None]:
    return {
        **ctf.model_dump(),
        "astigmatism_angstrom": round(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom, 1),
        "defocus_deviation_angstrom": round(fit.deviation_angstrom, 1),
        "drift_angstrom": round(blur.extent_angstrom, 1),
        "drift_angle_deg": round(math.degrees(blur.angle_rad), 1),
        "ice_ring_ratio": None if ice is None else round(ice, 3),
    }
