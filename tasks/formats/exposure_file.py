"""One file of a session's folder: opened as a movie or a micrograph, checked, and described as an exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.optics import Optics
from tasks.formats import FormatError
from tasks.formats.eer import EerRendering, count_raw_frames
from tasks.formats.gain_orientation import GivenGain, check_gain_agreement, check_gain_shape, compared_part
from tasks.formats.image_file import ImageFile, checked_frames
from tasks.formats.images import open_image
from tasks.records.exposure import Exposure
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams

FileFigure = float | int | str | bool | None

_TOLERANCE = 0.03
"""Relative difference that is a contradiction and no rounding."""


class FileParams(StageParams):
    """The parameters that a file's product depends on."""

    kind: Literal["movies", "micrographs"]
    optics: Optics | None
    """With the pixel size in the file; None where nobody tells it."""
    dose_per_frame: float | None
    total_dose: float | None
    pre_exposure: float
    expected_frames: int | None
    eer_upsampling: int
    eer_fractions: int | None
    eer_dose_per_fraction: float | None


class GainToCheck(Protocol):
    """The session's gain, in the orientation of its frames, to compare a movie with."""

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)"""

    def factor(self, part: tuple[slice, slice]) -> NDArray | None:
        """(y, x) part of what multiplies the counts; None where there are only defects."""


class FramesOfStore(Protocol):
    """Frames (frame, y, x) that are read when they are sliced."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any) -> NDArray: ...


@dataclass(frozen=True)
class ExposureContent:
    """A file that was read and found good."""

    frames: NDArray
    """(frame, y, x) in the smallest stored type that holds them."""
    exposure: Exposure
    figures: dict[str, FileFigure]


def has_eer_suffix(path: str) -> bool:
    """Whether the file is taken for an EER movie."""
    return path.lower().endswith(".eer")


def open_exposure(path: Path, params: FileParams) -> ImageFile:
    """Open a movie or a micrograph; EER movies are rendered as the parameters say."""
    rendering = None
    if has_eer_suffix(str(path)):
        n_fractions, per_fraction = params.eer_fractions, None
        if params.eer_dose_per_fraction is not None:
            dose = _dose_of_raw_frame(params, count_raw_frames(path))
            if dose is None:
                raise FormatError(
                    f"{path}: eer_dose_per_fraction is given without a dose; add dose_per_frame or total_dose to the "
                    "recipe"
                )
            per_fraction = max(1, round(params.eer_dose_per_fraction / dose)) if dose > 0 else 1
        rendering = EerRendering(params.eer_upsampling, n_fractions, per_fraction)
    return open_image(path, rendering)


def check_frame_count(image: ImageFile, params: FileParams, metadata: MicroscopeMetadata) -> None:
    """Raise FormatError where the file has another number of frames than it is to have, or is of the other kind."""
    path, found = image.path, image.n_raw_frames or image.n_frames
    check_stated_frames(path, found, params, metadata)
    if params.expected_frames is not None and found != params.expected_frames:
        raise FormatError(
            f"{path}: found {found} frames, expected {params.expected_frames}; copy the file again if it was cut off, "
            "or correct `expected_frames`"
        )
    if params.kind == "movies" and found == 1:
        raise FormatError(
            f"{path}: found 1 frame, expected a movie; set `kind: micrographs` if it is a sum, or give it as `gain` "
            "if it is a gain reference"
        )
    if params.kind == "micrographs" and image.n_frames > 1:
        raise FormatError(f"{path}: found {image.n_frames} frames, expected a micrograph; set `kind: movies`")


def check_stated_frames(path: Path, found: int, params: FileParams, metadata: MicroscopeMetadata) -> None:
    """Raise FormatError where a sidecar says that the movie has another number of frames, and no recipe does."""
    stated = metadata.n_frames
    if params.kind == "movies" and params.expected_frames is None and stated is not None and stated != found:
        raise FormatError(
            f"{path}: found {found} frames, expected {stated} by {' and '.join(metadata.sources) or 'its metadata'}; "
            "copy the file again if it was cut off, or set `expected_frames` if the microscope's file is wrong"
        )


def read_exposure(
    path: Path, exposure_id: str, content_hash: str, params: FileParams, metadata: MicroscopeMetadata,
    gain: GainToCheck | None, given: GivenGain,
) -> ExposureContent:  # fmt: skip
    """Read a file whole; raises FormatError with what is wrong with it and what to do."""
    if params.optics is None:
        raise FormatError(
            f"{path}: its pixel size is not known: the recipe gives none and found no XML or mdoc file that does; set "
            "`import_session.pixel_size_angstrom`, or put the microscope's file beside the movie"
        )
    image = open_exposure(path, params)
    check_frame_count(image, params, metadata)
    if gain is not None:
        check_gain_shape(exposure_id, image.shape, gain.shape, given)
    frames = checked_frames(image)
    exposure = _describe(image, params, exposure_id, content_hash)
    figures = _figures(image, exposure, frames, params, metadata)
    agreement = None if gain is None else compare_with_gain(exposure_id, path, frames, gain, given)
    if agreement is not None:
        figures["gain_agreement"] = round(agreement, 4)
    return ExposureContent(frames, exposure, figures)


def compare_with_gain(
    exposure_id: str, path: Path, frames: NDArray | FramesOfStore, gain: GainToCheck, given: GivenGain
) -> float | None:
    """Agreement of counts and gain, None where there are only defects; FormatError where they contradict each other.

    ``frames``, (frame, y, x), need be read in part only.
    """
    shape = (int(frames.shape[-2]), int(frames.shape[-1]))
    check_gain_shape(exposure_id, shape, gain.shape, given)
    part = compared_part(shape)
    factor = gain.factor(part)
    if factor is None:
        return None
    counts = frames[(slice(None), *part)]
    return check_gain_agreement(exposure_id, counts, factor, shape, given, has_eer_suffix(str(path)))


def _describe(image: ImageFile, params: FileParams, exposure_id: str, content_hash: str) -> Exposure:
    dose = _dose_of_raw_frame(params, image.n_raw_frames or image.n_frames)
    if dose is not None and image.n_raw_frames:
        dose *= image.raw_frames_per_frame
    assert params.optics is not None  # checked before
    optics = replace(params.optics, pixel_size_angstrom=params.optics.pixel_size_angstrom / params.eer_upsampling)
    return Exposure(
        id=exposure_id, name=image.path.name, source=str(image.path), content_hash=content_hash,
        kind="movie" if params.kind == "movies" else "micrograph", n_frames=image.n_frames, shape=image.shape,
        optics=optics, dose_per_frame=dose, pre_exposure=params.pre_exposure,
    )  # fmt: skip


def _figures(
    image: ImageFile, exposure: Exposure, frames: NDArray, params: FileParams, metadata: MicroscopeMetadata
) -> dict[str, FileFigure]:
    """Small results of the import."""
    dose = exposure.dose_per_frame
    figures: dict[str, FileFigure] = {
        "n_frames": image.n_frames,
        "n_y": image.shape[0],
        "n_x": image.shape[1],
        "mean_counts_per_frame": float(frames.mean(dtype=np.float64)),
        "dose_per_frame": dose,
        "total_dose": None if dose is None else dose * image.n_frames,
        "format": image.format,
        "pixel_size_in_file_angstrom": image.pixel_size_angstrom,
    }
    if image.n_raw_frames:
        figures["eer_frames_per_fraction"] = image.raw_frames_per_frame
        figures["eer_frames_left_out"] = image.n_raw_frames - image.raw_frames_per_frame * image.n_frames
    return figures | metadata_figures(params, metadata, image.n_raw_frames or image.n_frames)


def metadata_figures(params: FileParams, metadata: MicroscopeMetadata, n_raw_frames: int) -> dict[str, FileFigure]:
    """What the figures say of the microscope's own files: nothing where there are none or nobody disagrees."""
    found = contradictions(params, metadata, n_raw_frames)
    return {"contradicts_metadata": found} if found else {}


def contradictions(params: FileParams, metadata: MicroscopeMetadata, n_raw_frames: int) -> str:
    """Where the recipe, which wins, says something else than the microscope; empty where they agree within 3 %."""
    dose = _dose_of_raw_frame(params, n_raw_frames)
    optics = params.optics
    both = (
        ("pixel size", "Å", optics and optics.pixel_size_angstrom, metadata.pixel_size_angstrom),
        ("voltage", "kV", optics and optics.voltage_kv, metadata.voltage_kv),
        ("spherical aberration", "mm", optics and optics.spherical_aberration_mm, metadata.spherical_aberration_mm),
        ("total dose", "e⁻/Å²", dose and dose * n_raw_frames, metadata.total_dose),
        ("number of frames", "", params.expected_frames, metadata.n_frames),
    )
    return "; ".join(
        f"{name} {given:.4g} {unit}".strip() + f" given, {stated:.4g} stated by {' and '.join(metadata.sources)}"
        for name, unit, given, stated in both
        if given and stated and abs(given / stated - 1) > _TOLERANCE
    )


def _dose_of_raw_frame(params: FileParams, n_raw_frames: int) -> float | None:
    """e⁻/Å² in a frame as the file has them."""
    return params.dose_per_frame if params.total_dose is None else params.total_dose / n_raw_frames
