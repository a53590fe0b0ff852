"""One file of a session's folder: opened as a movie or a micrograph, checked, and described as an exposure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.optics import Optics
from tasks.formats import FormatError
from tasks.formats.eer import EerRendering, count_raw_frames
from tasks.formats.image_file import ImageFile
from tasks.formats.images import open_image
from tasks.records.exposure import Exposure
from tasks.records.session import StageParams

FileFigure = float | int | str | bool | None


class FileParams(StageParams):
    """The parameters that a file's product depends on."""

    kind: Literal["movies", "micrographs"]
    optics: Optics
    """With the pixel size in the file."""
    dose_per_frame: float | None
    total_dose: float | None
    pre_exposure: float
    expected_frames: int | None
    eer_upsampling: int
    eer_fractions: int | None
    eer_dose_per_fraction: float | None


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
            assert dose is not None  # checked with the parameters
            per_fraction = max(1, round(params.eer_dose_per_fraction / dose)) if dose > 0 else 1
        rendering = EerRendering(params.eer_upsampling, n_fractions, per_fraction)
    return open_image(path, rendering)


def check_frame_count(image: ImageFile, params: FileParams) -> None:
    """Raise FormatError where the file has another number of frames than it is to have, or is of the other kind."""
    path, found = image.path, image.n_raw_frames or image.n_frames
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


def describe_exposure(image: ImageFile, params: FileParams, exposure_id: str, content_hash: str) -> Exposure:
    """What is known of the exposure without its pixels."""
    dose = _dose_of_raw_frame(params, image.n_raw_frames or image.n_frames)
    if dose is not None and image.n_raw_frames:
        dose *= image.raw_frames_per_frame
    optics = replace(params.optics, pixel_size_angstrom=params.optics.pixel_size_angstrom / params.eer_upsampling)
    return Exposure(
        id=exposure_id, name=image.path.name, source=str(image.path), content_hash=content_hash,
        kind="movie" if params.kind == "movies" else "micrograph", n_frames=image.n_frames, shape=image.shape,
        optics=optics, dose_per_frame=dose, pre_exposure=params.pre_exposure,
    )  # fmt: skip


def exposure_figures(image: ImageFile, exposure: Exposure, frames: NDArray) -> dict[str, FileFigure]:
    """Small results of the import of ``frames`` (frame, y, x)."""
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
    return figures


def _dose_of_raw_frame(params: FileParams, n_raw_frames: int) -> float | None:
    """e⁻/Å² in a frame as the file has them."""
    return params.dose_per_frame if params.total_dose is None else params.total_dose / n_raw_frames
