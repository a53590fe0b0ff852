"""From a movie to a micrograph: align its frames, globally and locally, and sum them with and without dose weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field
from torch import Tensor

from kernels import fourier
from kernels.movies.defects import outlying_pixels, spikes
from kernels.movies.dose import dose_weights, restored
from kernels.movies.gain import apply_gain, repair_defects, replacements
from kernels.movies.motion import Motion, corrected_frame, estimate_motion, estimation_memory_bytes, reduced_shape
from tasks.records.exposure import Exposure
from tasks.records.forecast import Need, Outline
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Reader
from tasks.stores.products.exposure_store import SUMMED, exposure, is_summed
from tasks.stores.products.outline import movies_outline
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.allotment import spare_memory_bytes
from tasks.workers.device import device
from tasks.workers.stage import Stage, run_stage

logger = logging.getLogger(__name__)

_CACHED_BYTES = 300_000_000
"""Transforms of whole frames are kept up to this size, and computed twice beyond it."""

_SMALLEST_PATCH_ANGSTROM = 120.0

_ESTIMATED_GAIN = "session/estimated_gain"
"""Made by `diagnose_gain`, whose parameters say whether; used where no gain is given."""

_EARLY_DOSE = 4.0
"""e⁻/Å²; motion until then is early."""


_Patches = Annotated[int, Field(ge=1, le=100)]


class CorrectMotionParams(StageParams):
    """How frames are aligned and summed."""

    n_patches: tuple[_Patches, _Patches] = (5, 5)
    """Along y and x; fewer where they would be smaller than 120 Å, (1, 1) for global motion only."""
    n_control_space: int = Field(default=6, ge=1, le=12)
    """Control points of the local motion along y and along x."""
    n_control_time: int | None = Field(default=None, ge=1)
    """Control points of the local motion in time; half as many as frames when None, 12 at most."""
    resolution_angstrom: float = Field(default=5.0, gt=0)
    """Frames are compared up to here; within it, the data weight the frequencies."""
    is_dose_weighted: bool = True
    """Weights need the exposure's `dose_per_frame`; without it both micrographs are the plain sum."""
    outlier_sigma: float = Field(default=7.0, gt=3)
    """Pixels farther from their neighbours in the mean of all frames are replaced."""
    largest_shift_fraction: float = Field(default=0.25, gt=0, le=0.5)
    """Of the field's shorter side; a movie whose frames moved farther fails."""
    large_motion_angstrom: float = Field(default=80.0, gt=0)
    """A longer way of the whole field is flagged."""
    excluded_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Share of constant or NaN frames that are left out of the sum (one always may be); with more the movie fails."""


@task(name="correct_motion", cache_policy=NO_CACHE)
def correct_motion(session_url: str, exposure_ids: list[str], params: CorrectMotionParams) -> StageReport:
    """Corrected micrographs of movies; micrographs need none and are reported as skipped, without a record.

    Memory of an item: see `need`; 1.4 GB for 24 frames of 2048 × 2048 pixels of 1 Å.
    """
    store = SessionStore.open(session_url)
    micrographs = {exposure_id: SUMMED for exposure_id in exposure_ids if is_summed(store, exposure_id)}
    report = run_stage(session_url, _STAGE, [e for e in exposure_ids if e not in micrographs], params)
    report.skipped.update(micrographs)
    return report


def _inputs(store: SessionStore, exposure_id: str) -> list[str]:
    addresses = [f"exposures/{exposure_id}/import_session"]
    gain = store.product("session/gain").record()
    is_given = False
    if gain is not None and gain.state == "done":
        addresses.append("session/gain")
        is_given = bool(gain.details.get("is_gain_given", True)) and gain.details.get("shape", ()) is not None
    estimate = None if is_given else store.product(_ESTIMATED_GAIN).record()
    if estimate is None or estimate.state != "done":
        return addresses
    is_of_frames = tuple(estimate.details["shape"]) == exposure(store, exposure_id).shape
    return [*addresses, _ESTIMATED_GAIN] if is_of_frames else addresses


def _compute(store: SessionStore, exposure_id: str, params: CorrectMotionParams, attempt: Attempt) -> None:
    about = exposure(store, exposure_id)
    reader = store.exposure_product(exposure_id, "import_session").read()
    movie = _Movie.of(about, reader["frames"], _gain(store, about, _inputs(store, exposure_id)), params)
    motion = _motion(movie, about, params)
    plain, weighted = _sums(movie, motion, about, params)
    _write(attempt, movie, motion, about, params, plain, weighted)


def need(about: Outline, params: CorrectMotionParams) -> Need:
    """What motion correction needs: the frames as stored, some transforms of them, and the estimation's own."""
    reduced = reduced_shape(about.shape, about.pixel_size_angstrom, params.resolution_angstrom)
    transforms = about.n_frames * 8 * about.shape[0] * (about.shape[1] // 2 + 1)
    slack = 60_000_000 + min(200_000_000, 80 * about.n_px)
    least = (
        about.n_frames * about.n_px * about.bytes_per_px
        + estimation_memory_bytes(about.n_frames, reduced)
        + 14 * 4 * about.n_px
        + slack
    )
    megapixels = about.n_frames * about.n_px / 1e6, about.n_frames * reduced[0] * reduced[1] / 1e6
    return Need(
        stage=_STAGE.name,
        n_items=about.n_exposures,
        memory_bytes=least + min(_CACHED_BYTES, transforms),
        least_memory_bytes=least,
        disk_bytes=about.n_exposures * (8 * about.n_px + 100_000),
        cpu_seconds=about.n_exposures * (0.3 + 0.05 * megapixels[0] + 0.4 * megapixels[1]),
        told_from=about.frames_words,
        remedy="raise `correct_motion.resolution_angstrom`, or bin the movies or sum their frames",
    )


def _needs(store: SessionStore, exposure_ids: Sequence[str], params: CorrectMotionParams) -> Need:
    return need(movies_outline(store, exposure_ids), params)


_STAGE = Stage("correct_motion", 2, "CPU", _compute, _inputs, needs=_needs)


@dataclass(frozen=True)
class _Gain:
    gain: Tensor | None
    is_defect: Tensor | None


def _gain(store: SessionStore, about: Exposure, addresses: list[str]) -> _Gain:
    """The gain given, or else the one made from the movies; defects of both."""
    record = store.product("session/gain").record()
    if record is not None and record.state != "done":
        raise StoreError(
            f"exposure {about.id}: the session's gain is {record.state} ({record.reason}); import it again"
        )
    gain: Tensor | None = None
    is_defect: Tensor | None = None
    for address in addresses:
        if not address.startswith("session/"):
            continue
        reader: Reader = store.product(address).read()
        if "gain" in reader and gain is None:
            gain = _of_frames(reader, "gain", about)
        if "is_defect" in reader:
            bad = _of_frames(reader, "is_defect", about).bool()
            is_defect = bad if is_defect is None else is_defect | bad
    return _Gain(gain, is_defect)


def _of_frames(reader: Reader, name: str, about: Exposure) -> Tensor:
    if reader.shape(name) != about.shape:
        raise ValueError(
            f"exposure {about.id}: {name} of the session is {reader.shape(name)} but its frames are {about.shape}; "
            "set `gain_rotation_deg` or `gain_flip` of import_session, or import movies of one detector only"
        )
    return torch.from_numpy(reader[name]).to(device())


class _Movie:
    """The frames of one exposure: counts in memory, transforms of repaired frames on demand."""

    def __init__(self, frames: NDArray, gain: Tensor | None, is_defect: Tensor, is_used: list[bool]) -> None:
        self.frames = frames
        self.gain = gain
        self.is_defect = is_defect
        self.is_used = is_used
        self.n_spikes = 0
        self.means: dict[int, float] = {}
        self._replaced = replacements(is_defect)
        self._cache: dict[int, Tensor] = {}

    @classmethod
    def of(cls, about: Exposure, frames: NDArray, gain: _Gain, params: CorrectMotionParams) -> _Movie:
        if frames.shape != (about.n_frames, *about.shape):
            raise ValueError(
                f"exposure {about.id}: its frames are {frames.shape}, expected {(about.n_frames, *about.shape)} "
                "from its record; import it again"
            )
        is_used = [_is_image(frame) for frame in frames]
        n_bad = is_used.count(False)
        if n_bad > max(1, int(params.excluded_fraction * len(frames))) or n_bad == len(frames):
            listed = ", ".join(str(i) for i, good in enumerate(is_used) if not good)
            raise ValueError(
                f"exposure {about.id}: frames {listed} of {len(frames)} are constant or hold NaN, expected at most "
                f"{max(1, int(params.excluded_fraction * len(frames)))}; record the movie again, or raise "
                "`excluded_fraction`"
            )
        mean = torch.zeros(about.shape, device=device())
        for frame, good in zip(frames, is_used):
            if good:
                mean += _tensor(frame)
        mean /= is_used.count(True)
        is_defect = torch.zeros_like(mean, dtype=torch.bool)
        if gain.is_defect is not None:
            is_defect |= gain.is_defect
        if gain.gain is not None:
            is_defect |= gain.gain <= 0
            mean = apply_gain(mean, gain.gain)
        is_defect |= outlying_pixels(repair_defects(mean, is_defect), params.outlier_sigma)
        return cls(frames, gain.gain, is_defect, is_used)

    @property
    def shape(self) -> tuple[int, int]:
        return self.frames.shape[1], self.frames.shape[2]

    @property
    def used(self) -> list[int]:
        return [i for i, good in enumerate(self.is_used) if good]

    def transform(self, frame: int) -> Tensor:
        """(y, x_half) `rfft2` of a repaired frame, its mean (kept in ``means``) subtracted."""
        if frame in self._cache:
            return self._cache[frame]
        image = _tensor(self.frames[frame])
        if self.gain is not None:
            image *= self.gain
        pixels = image.view(-1)
        pixels[self._replaced[0]] = pixels[self._replaced[1]]
        hit = spikes(pixels)
        pixels[hit] = pixels.mean()
        self.n_spikes += len(hit)
        mean = float(image.mean())
        self.means[frame] = mean
        transform = torch.fft.rfft2(image - mean)
        if transform.nbytes * (len(self._cache) + 1) <= min(_CACHED_BYTES, spare_memory_bytes()):
            self._cache[frame] = transform
        return transform


def _is_image(frame: NDArray) -> bool:
    low, high = frame.min(), frame.max()
    return bool(low < high) and bool(np.isfinite(low) and np.isfinite(high))  # NaN spreads to min and max


def _tensor(frame: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).to(device()).float()


def _motion(movie: _Movie, about: Exposure, params: CorrectMotionParams) -> Motion:
    """Motion of all frames; those left out get what the spline and their neighbours say."""
    pixel_size = about.optics.pixel_size_angstrom
    reduced = reduced_shape(movie.shape, pixel_size, params.resolution_angstrom)
    scale = reduced[0] * reduced[1] / (movie.shape[0] * movie.shape[1])
    transforms = torch.empty(len(movie.used), reduced[0], reduced[1] // 2 + 1, dtype=torch.complex64, device=device())
    for row, frame in enumerate(movie.used):
        transforms[row] = fourier.crop_transform(movie.transform(frame), movie.shape, reduced) * scale
    motion = estimate_motion(
        transforms,
        reduced,
        movie.shape,
        pixel_size,
        frame_index=torch.tensor(movie.used, device=transforms.device),
        n_frames=len(movie.frames),
        n_patches=_patches(movie.shape, pixel_size, params),
        n_control=(
            params.n_control_time or min(12, max(4, len(movie.frames) // 2)),
            params.n_control_space,
            params.n_control_space,
        ),
        largest_shift_fraction=params.largest_shift_fraction,
    )
    farthest, reach = float(motion.global_shift_px.abs().max()), params.largest_shift_fraction * min(movie.shape)
    if farthest > reach:
        raise ValueError(
            f"exposure {about.id}: its frames seem to move by up to {farthest:.0f} px, expected less than {reach:.0f} "
            f"px in a field of {movie.shape}; check that they are one movie, or raise `largest_shift_fraction`"
        )
    return motion


def _patches(shape: tuple[int, int], pixel_size: float, params: CorrectMotionParams) -> tuple[int, int]:
    y, x = (
        max(1, min(wanted, int(n * pixel_size / _SMALLEST_PATCH_ANGSTROM)))
        for wanted, n in zip(params.n_patches, shape)
    )
    return (y, x) if min(y, x) > 1 else (1, 1)


def _sums(movie: _Movie, motion: Motion, about: Exposure, params: CorrectMotionParams) -> tuple[Tensor, Tensor | None]:
    """(y, x) sum of the corrected frames, plain and, where the dose is known, dose weighted; one frame at a time."""
    shape = movie.shape
    plain = torch.zeros(shape, device=device())
    frequency = fourier.frequency_length(shape, about.optics.pixel_size_angstrom, device=str(device()))
    weighted = torch.zeros(frequency.shape, dtype=torch.complex64, device=device())
    squares = torch.zeros_like(frequency)
    dose = _doses(about, len(movie.frames)) if params.is_dose_weighted else None
    for frame in movie.used:
        corrected = corrected_frame(movie.transform(frame), motion, frame)
        plain += corrected
        if dose is not None:
            weights = dose_weights(frequency, dose[frame : frame + 1], about.optics.voltage_kv)[0]
            weighted += torch.fft.rfft2(corrected) * weights
            squares += weights.square()
    total = sum(movie.means.values())
    if dose is None:
        return plain + total, None
    return plain + total, torch.fft.irfft2(restored(weighted, squares, len(movie.used)), s=shape) + total


def _doses(about: Exposure, n_frames: int) -> Tensor | None:
    """(frame,) e⁻/Å² received by the end of each frame."""
    if about.dose_per_frame is None:
        return None
    return about.pre_exposure + about.dose_per_frame * torch.arange(1, n_frames + 1, device=device())


def _write(
    attempt: Attempt,
    movie: _Movie,
    motion: Motion,
    about: Exposure,
    params: CorrectMotionParams,
    plain: Tensor,
    weighted: Tensor | None,
) -> None:
    pixel_size = about.optics.pixel_size_angstrom
    n_patches = _patches(movie.shape, pixel_size, params)
    axes = [(torch.arange(count) + 0.5) * n / count - 0.5 for n, count in zip(movie.shape, n_patches)]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)
    at_patches = motion.at(centres.to(plain.device)).cpu() * pixel_size
    for name, values in (
        ("micrograph", plain if weighted is None else weighted),
        ("unweighted_micrograph", plain),
        ("global_shift_angstrom", motion.global_shift_px * pixel_size),
        ("local_control_angstrom", motion.local_control_px * pixel_size),
        ("patch_center_px", centres),
        ("patch_shift_angstrom", at_patches.transpose(0, 1).contiguous()),
    ):
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"exposure {about.id}: {name} has values that are not finite; check its frames and the gain"
            )
        attempt.write(name, values.cpu().numpy())
    attempt.set_attributes({"reference_frame": motion.reference_frame, "frame_shape": list(movie.shape)})
    attempt.figures.update(_figures(movie, motion, about, params, at_patches, weighted is not None))


def _figures(
    movie: _Movie,
    motion: Motion,
    about: Exposure,
    params: CorrectMotionParams,
    at_patches: Tensor,
    is_dose_weighted: bool,
) -> dict[str, float | int | str | bool | None]:
    whole_field = at_patches.mean(1)
    steps = whole_field.diff(dim=0).norm(dim=-1)
    doses = _doses(about, len(movie.frames))
    n_early = len(steps) // 5 if doses is None else int((doses[1:].cpu() <= _EARLY_DOSE + about.pre_exposure).sum())
    local = (at_patches - whole_field[:, None]).norm(dim=-1)
    total = float(steps.sum())
    warnings = []
    if total > params.large_motion_angstrom:
        warnings.append(f"large motion: {total:.0f} Å")
    if total == 0 and len(movie.frames) > 1:
        warnings.append("nothing to align by was found: left in place")
    if len(movie.used) < len(movie.frames):
        left_out = [i for i, good in enumerate(movie.is_used) if not good]
        warnings.append(f"constant or NaN frames left out: {', '.join(map(str, left_out))}")
    return {
        "total_motion_angstrom": round(total, 2),
        "early_motion_angstrom": round(float(steps[:n_early].sum()), 2),
        "late_motion_angstrom": round(float(steps[n_early:].sum()), 2),
        "local_motion_angstrom": round(float(local.max()), 2),
        "n_frames_used": len(movie.used),
        "n_replaced_pixels": int(movie.is_defect.sum()),
        "n_spikes": movie.n_spikes,
        "is_dose_weighted": is_dose_weighted,
        "warning": "; ".join(warnings) or None,
    }
