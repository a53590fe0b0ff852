"""From a folder of movies or micrographs to exposures: every file is read, checked and stored, or its reason is."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels.movies.gain import Flip, agreements, orient
from kernels.optics import Optics
from tasks.formats import FormatError
from tasks.formats.eer import EerRendering, count_raw_frames
from tasks.formats.gain import GainMeaning, fit_gain_to_eer, is_divisor_for, read_defects, read_gain
from tasks.formats.image_file import ImageFile, checked_frames
from tasks.formats.images import SUFFIXES, open_image
from tasks.records.exposure import Exposure
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Figure, Product, Record, fingerprint
from tasks.stores.file_index import FileIndex, SourceFile
from tasks.stores.ledger import write_index
from tasks.stores.location import StoreWriteError
from tasks.stores.session_store import SessionStore
from tasks.workers import require_workers, run_items, stage_usage

logger = logging.getLogger(__name__)

_STAGE = "import_session"
_VERSION = 1
_GAIN = "session/gain"
_HASH_BLOCK_BYTES = 4 * 1024 * 1024
_DEFAULT_EER_FRACTIONS = 40

_COMPARED_PX = 512
"""Side of the part of frames and gain that is compared."""
_CLEAR_AGREEMENT = 0.05
"""Correlation from which counts speak for a gain: 25 times the noise of the compared part."""
_PIXEL_SIZE_TOLERANCE = 0.03
_CLEARLY_BETTER = 2.0
"""Times the agreement of the orientation given; columns of a detector agree with their mirror image in part."""
_FLIPS: tuple[Flip, ...] = ("none", "vertical")
"""With four rotations they make all eight orientations."""

Shape = tuple[int, int]


class ImportSessionParams(StageParams):
    """What the microscope does not write into its files."""

    kind: Literal["movies", "micrographs"] = "movies"
    pattern: str | None = None
    """Glob below the folder, for instance ``**/*_fractions.tiff``; None takes every file with a known suffix."""
    voltage_kv: float = Field(default=300.0, ge=20, le=1500)
    spherical_aberration_mm: float = Field(default=2.7, ge=0, le=20)
    amplitude_contrast: float = Field(default=0.1, ge=0, le=1)
    pixel_size_angstrom: float = Field(gt=0.05, le=100)
    """Of the pixels in the file. For EER that of the detector's physical pixel, also when ``eer_upsampling`` makes
    several of it: the exposures then have this divided by the up-sampling."""
    dose_per_frame: float | None = Field(default=None, ge=0)
    """e⁻/Å² in a frame of the file; for EER in a frame of the detector, of which a fraction has several."""
    total_dose: float | None = Field(default=None, ge=0)
    """e⁻/Å² of the whole exposure, instead of `dose_per_frame`."""
    pre_exposure: float = Field(default=0.0, ge=0)
    """e⁻/Å² received before the first frame."""
    expected_frames: int | None = Field(default=None, ge=1)
    """Frames that every file has to have (EER: of the detector); None accepts any number."""
    gain: str | None = None
    """MRC, TIFF or ``.gain`` file; a relative path may start at the session's folder."""
    gain_meaning: GainMeaning = "auto"
    """Whether counts are to be multiplied with it or divided by it; see `tasks.formats.gain.read_gain`."""
    gain_rotation_deg: Literal[0, 90, 180, 270] = 0
    """Clockwise with row 0 on top, RELION's --gain_rot times 90."""
    gain_flip: Flip = "none"
    """After the rotation; RELION's --gain_flip 1 is vertical (upside down), 2 horizontal. Rows keep the order of the
    file for every format, while RELION turns TIFF movies upside down: where it needs no flip for TIFF movies with an
    MRC gain, ``vertical`` is right here."""
    defects: str | None = None
    """Text of rectangles ``x y width height``, or a mask image, both in the orientation of the frames."""
    eer_upsampling: Literal[1, 2, 4] = 1
    eer_fractions: int | None = Field(default=None, ge=1)
    """Frames to make of an EER movie; 40 where neither this nor the next is given."""
    eer_dose_per_fraction: float | None = Field(default=None, gt=0)
    """e⁻/Å² in each frame to make of an EER movie, instead of `eer_fractions`; needs a dose."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ImportSessionParams:
        if self.dose_per_frame is not None and self.total_dose is not None:
            raise ValueError("both dose_per_frame and total_dose are given; leave one out")
        if self.eer_fractions is not None and self.eer_dose_per_fraction is not None:
            raise ValueError("both eer_fractions and eer_dose_per_fraction are given; leave one out")
        if self.eer_dose_per_fraction is not None and self.dose_per_frame is None and self.total_dose is None:
            raise ValueError("eer_dose_per_fraction is given without a dose; add dose_per_frame or total_dose")
        if self.kind == "micrographs" and (self.gain is not None or self.defects is not None):
            raise ValueError("a gain or defects are given for micrographs; they belong to movies, leave them out")
        return self


class _FileParams(StageParams):
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


@dataclass(frozen=True)
class _SessionGain:
    """What ``session/gain`` holds."""

    shape: Shape
    fingerprint: str


class _GainParams(StageParams):
    """The parameters that the session's gain depends on."""

    meaning: GainMeaning
    rotation_deg: int
    flip: Flip
    upsampling: int
    is_for_eer: bool
    frame_shape: tuple[int, int] | None
    """(y, x) of the frames of the first file, where gain or defects cannot do without."""


@task(name="import_session", cache_policy=NO_CACHE)
def import_session(session_url: str, folder: str, params: ImportSessionParams) -> StageReport:
    """Import what is new in ``folder``; `StageReport.available` names the exposures that the next stage can take.

    A file is known by its content: the exposure's id is its stem and the first eight digits of its hash. Files that
    did not change since an earlier run (path, size and time of change) are not read again. Gain and defects go to
    ``session/gain`` once and are not applied here. A file that is not well gets a record with the reason and stops no
    other; a gain reference that cannot be read, or a folder without files, stops the stage. Memory of a worker: one
    movie as it is stored, the same compressed, and one frame (1.8 times the movie for LZW-packed counts of 2 e⁻ a
    pixel), whatever the length of the session.
    """
    store = SessionStore.open(session_url)
    params = _with_absolute_references(params, Path(folder))
    index = FileIndex(store)
    files = [index.recall(file) for file in _scan(Path(folder), params)]
    logger.info("%s: %d files in %s, %d new", _STAGE, len(files), folder, sum(not f.exposure_id for f in files))
    report = StageReport(stage=_STAGE)
    fresh: set[str] = set()
    client = require_workers("CPU")
    with stage_usage(client, "CPU", report):
        gain = _import_gain(store, index, files, params)
        present = {f.exposure_id for f in files if f.exposure_id}
        settled = _settled_records(store, [f for f in files if f.content_hash], params, gain)
        todo = [f for f in files if f.same_as not in present and f.exposure_id not in settled]
        try:
            for file, is_fresh in _import_files(store, todo, params, gain):
                index.remember(file)
                fresh |= {file.exposure_id} if is_fresh else set()
        finally:
            index.save()
    files = _set_duplicates_aside(store, index, [index.recall(f) for f in files], fresh, params)
    replaced = _set_replaced_aside(store, index, files, params)
    index.save()
    _report(store, report, files, fresh, replaced, settled)
    logger.info(
        "%s: %d done, %d kept, %d failed, %d skipped; %.1f CPU-s",
        _STAGE, len(report.done), len(report.kept), len(report.failed), len(report.skipped), report.cpu_seconds,
    )  # fmt: skip
    return report


def _with_absolute_references(params: ImportSessionParams, folder: Path) -> ImportSessionParams:
    """Gain and defects as every worker finds them; a relative path that is nowhere else is looked for in the folder."""

    def absolute(path: str | None) -> str | None:
        if path is None:
            return None
        places = [Path(path), folder / path]
        return str(next((place for place in places if place.exists()), places[0]).absolute())

    return params.model_copy(update={"gain": absolute(params.gain), "defects": absolute(params.defects)})


def _scan(folder: Path, params: ImportSessionParams) -> list[SourceFile]:
    """Files with an image's suffix, or those of the pattern, by path; hidden and partial ones are not there yet."""
    if not folder.is_dir():
        raise FormatError(f"{folder}: is not a folder that can be read; give the folder of the session's files")
    if params.pattern is None:
        paths = [
            Path(parent) / name
            for parent, _, names in os.walk(folder, onerror=_warn_of_folder)
            for name in names
            if name.lower().endswith(SUFFIXES)
        ]
    else:
        paths = [path for path in folder.glob(params.pattern) if not path.is_dir()]
    references = {Path(p).resolve() for p in (params.gain, params.defects) if p is not None}
    files = []
    for path in sorted(paths):
        if path.name.startswith(".") or path.name.endswith(".partial") or path.resolve() in references:
            continue
        try:
            status = path.stat()
            files.append(SourceFile(str(path.absolute()), status.st_size, status.st_mtime_ns))
        except OSError:  # its worker says why
            files.append(SourceFile(str(path.absolute()), -1, 0))
    if not files:
        looked_for = params.pattern or ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise FormatError(
            f"{folder}: found no file like {looked_for}; check the folder, or give the files' `pattern` (with ** for "
            "subfolders)"
        )
    return files


def _warn_of_folder(error: OSError) -> None:
    logger.warning("%s: the folder %s cannot be read (%s); check permissions", _STAGE, error.filename, error.strerror)


def _file_params(path: str, params: ImportSessionParams) -> _FileParams:
    """What matters for this file; EER's parameters only for EER, so that changing them leaves other files alone."""
    is_eer = _is_eer(path)
    is_by_dose = params.eer_dose_per_fraction is not None
    return _FileParams(
        kind=params.kind,
        optics=Optics(
            params.voltage_kv, params.spherical_aberration_mm, params.amplitude_contrast, params.pixel_size_angstrom
        ),
        dose_per_frame=params.dose_per_frame,
        total_dose=params.total_dose,
        pre_exposure=params.pre_exposure,
        expected_frames=params.expected_frames,
        eer_upsampling=params.eer_upsampling if is_eer else 1,
        eer_fractions=(params.eer_fractions or _DEFAULT_EER_FRACTIONS) if is_eer and not is_by_dose else None,
        eer_dose_per_fraction=params.eer_dose_per_fraction if is_eer else None,
    )


def _is_eer(path: str) -> bool:
    return path.lower().endswith(".eer")


# the gain, once a session


def _import_gain(
    store: SessionStore, index: FileIndex, files: list[SourceFile], params: ImportSessionParams
) -> _SessionGain | None:
    """Bring ``session/gain`` up to date; None where there is none to compare frames with."""
    product = store.product(_GAIN)
    if params.gain is None and params.defects is None:
        record = product.record()
        if record is not None and record.details.get("shape"):  # there was one: now there is none
            with product.write(_STAGE, _VERSION, params, {}) as attempt:
                attempt.details = {"shape": None}
        return None
    shape = _frame_shape(files, params)
    if shape is None:  # every file will be told apart for itself
        return None
    inputs = {
        name: _hash_reference(index, Path(path), name)
        for name, path in (("gain", params.gain), ("defects", params.defects))
        if path is not None
    }
    is_for_eer = any(_is_eer(file.path) for file in files)
    gain_params = _GainParams(
        meaning=params.gain_meaning, rotation_deg=params.gain_rotation_deg, flip=params.gain_flip,
        upsampling=params.eer_upsampling if is_for_eer else 1, is_for_eer=is_for_eer,
        frame_shape=shape if is_for_eer or params.gain is None else None,
    )  # fmt: skip
    if not product.is_current(fingerprint(_STAGE, _VERSION, gain_params, inputs)):
        for _, result in run_items(
            _make_gain, [_GAIN], store.url, gain_params, params.gain, params.defects, inputs,
            label="CPU", name="import_gain",
        ):  # fmt: skip
            if isinstance(result, StoreWriteError):
                raise result
            if result is not None:
                raise FormatError(str(result))
    record = product.record()
    assert record is not None
    n_y, n_x = record.details["shape"]
    return _SessionGain((int(n_y), int(n_x)), record.fingerprint)


def _frame_shape(files: list[SourceFile], params: ImportSessionParams) -> Shape | None:
    """Shape of the first file that opens."""
    for file in files:
        try:
            return _open(Path(file.path), _file_params(file.path, params)).shape
        except (FormatError, OSError):
            continue
    return None


def _hash_reference(index: FileIndex, path: Path, name: str) -> str:
    try:
        status = path.stat()
        file = index.recall(SourceFile(str(path.absolute()), status.st_size, status.st_mtime_ns))
        if not file.content_hash:
            file = replace(file, content_hash=_content_hash(path))
            index.remember(file)
    except OSError as error:
        raise FormatError(
            f"{path}: the file given as `{name}` cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    return file.content_hash


def _make_gain(
    address: str, session_url: str, params: _GainParams, gain_path: str | None, defects_path: str | None,
    inputs: dict[str, str],
) -> str | None:  # fmt: skip
    """Write the session's gain and defects, in the orientation of the frames; returns what is wrong with them."""
    product = SessionStore.open(session_url).product(address)
    try:
        with product.write(_STAGE, _VERSION, params, inputs) as attempt:
            _write_gain(attempt, params, gain_path, defects_path)
    except FormatError as error:
        return str(error)
    return None


def _write_gain(attempt: Attempt, params: _GainParams, gain_path: str | None, defects_path: str | None) -> None:
    is_defect = np.zeros(params.frame_shape or (0, 0), np.uint8)
    if gain_path is not None:
        read = read_gain(Path(gain_path), params.meaning, params.is_for_eer)
        gain = orient(torch.from_numpy(read), params.rotation_deg, params.flip).contiguous().numpy()
        if params.frame_shape is not None:
            gain = fit_gain_to_eer(gain, params.frame_shape, params.upsampling)
        attempt.write("gain", gain)
        is_defect = (gain <= 0).astype(np.uint8)
    shape = (int(is_defect.shape[0]), int(is_defect.shape[1]))
    if defects_path is not None:
        is_defect |= read_defects(Path(defects_path), shape, params.upsampling)
    attempt.write("is_defect", is_defect)
    attempt.figures = {"n_defects": int(is_defect.sum())}
    attempt.details = {"shape": shape, "is_gain_given": gain_path is not None}


# the files, one item each


def _settled_records(
    store: SessionStore, files: list[SourceFile], params: ImportSessionParams, gain: _SessionGain | None
) -> dict[str, Record]:
    """Records that are of this content, these parameters and this gain, where no second try would help."""
    records = {file.exposure_id: _product(store, file).record() for file in files}
    return {
        file.exposure_id: record
        for file in files
        if (record := records[file.exposure_id]) is not None
        and _is_current(record, file, _file_params(file.path, params), gain)
    }


def _is_current(record: Record, file: SourceFile, params: _FileParams, gain: _SessionGain | None) -> bool:
    if record.state == "done":
        is_checked = gain is None or record.details.get("checked_gain") == gain.fingerprint
        return is_checked and record.fingerprint == fingerprint(_STAGE, _VERSION, params, _inputs(file))
    return record.state != "failed" and record.fingerprint == fingerprint(_STAGE, _VERSION, params, _inputs(file, gain))


def _inputs(file: SourceFile, gain: _SessionGain | None = None) -> dict[str, str]:
    """What a fingerprint is made of besides parameters; the gain only where it may be the reason of a failure."""
    return {"file": file.content_hash} | ({_GAIN: gain.fingerprint} if gain is not None else {})


def _import_files(
    store: SessionStore, files: list[SourceFile], params: ImportSessionParams, gain: _SessionGain | None
) -> Iterator[tuple[SourceFile, bool]]:
    """Import on the workers; yields each file with its id, and whether it was read into the store now."""
    if not files:
        return
    for file, result in run_items(_import_file, files, store.url, params, gain, label="CPU", name=_STAGE):
        if isinstance(result, StoreWriteError):
            raise result
        if isinstance(result, Exception):  # the worker died with the file: nobody else could record it
            lost = replace(file, exposure_id=_id_by_path(file))
            _product(store, lost).put_outcome(
                "failed", str(result), _STAGE, _VERSION, _file_params(file.path, params), _inputs(lost, gain)
            )
            yield lost, True
        else:
            yield result


def _import_file(
    file: SourceFile, session_url: str, params: ImportSessionParams, gain: _SessionGain | None
) -> tuple[SourceFile, bool]:
    """One file on its worker: its product, or a record that says why there is none."""
    store = SessionStore.open(session_url)
    file_params = _file_params(file.path, params)
    try:
        if not file.content_hash:
            file = replace(file, content_hash=_content_hash(Path(file.path)))
            file = replace(file, exposure_id=_id_by_content(file))
        product = _product(store, file)
        record = product.record()
        if record is not None and _is_current(record, file, file_params, gain):
            return file, False
        if product.is_current(fingerprint(_STAGE, _VERSION, file_params, _inputs(file))):  # only the gain is new
            assert gain is not None
            reader = product.read()
            shape = reader.shape("frames")[1:]
            _check_gain(store, file, params, gain, (shape[0], shape[1]), lambda part: reader.slice("frames", part))
            product.amend({"checked_gain": gain.fingerprint})
            return file, False
        with product.write(_STAGE, _VERSION, file_params, _inputs(file)) as attempt:
            try:
                frames, exposure, figures = _read(store, file, params, gain)
            except OSError as error:  # of the file: inside the block it would be taken for one of the store
                raise _UnreadableFileError(error) from error
            _write(attempt, frames, exposure, figures, gain)
        return file, True
    except StoreWriteError:
        raise
    except FormatError as error:
        state, reason = "quarantined", str(error)
    except (OSError, _UnreadableFileError) as error:
        reason = f"{file.path}: cannot be read ({_words(error)})"
        state, reason = "failed", f"{reason}; check permissions, links and the file system, and import again"
    except Exception as error:  # the boundary of an item: its reason goes into the ledger
        logger.error("%s %s: %s", _STAGE, file.path, traceback.format_exc())
        state, reason = "failed", f"{file.path}: {type(error).__name__}: {error}"
    if not file.content_hash:
        file = replace(file, exposure_id=_id_by_path(file))
    _product(store, file).put_outcome(
        "quarantined" if state == "quarantined" else "failed",
        reason, _STAGE, _VERSION, file_params, _inputs(file, gain),
    )  # fmt: skip
    return file, True


class _UnreadableFileError(Exception):
    """A file of the folder failed while it was read."""


def _words(error: Exception) -> str:
    cause = error.args[0] if isinstance(error, _UnreadableFileError) else error
    return f"{type(cause).__name__}: {cause.strerror or cause}" if isinstance(cause, OSError) else str(cause)


def _product(store: SessionStore, file: SourceFile) -> Product:
    return store.exposure_product(file.exposure_id, _STAGE)


def _content_hash(path: Path) -> str:
    """BLAKE2b of the file, read in blocks."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _id_by_content(file: SourceFile) -> str:
    return f"{_stem(file)}-{file.content_hash[:8]}"


def _id_by_path(file: SourceFile) -> str:
    """For a file that could not be read."""
    return f"{_stem(file)}-{hashlib.blake2b(file.path.encode(errors='replace'), digest_size=4).hexdigest()}"


def _stem(file: SourceFile) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(file.path).stem).lstrip("._-")[:80] or "exposure"


def _open(path: Path, params: _FileParams) -> ImageFile:
    rendering = None
    if _is_eer(str(path)):
        n_fractions, per_fraction = params.eer_fractions, None
        if params.eer_dose_per_fraction is not None:
            dose = _dose_of_raw_frame(params, count_raw_frames(path))
            assert dose is not None  # checked with the parameters
            per_fraction = max(1, round(params.eer_dose_per_fraction / dose)) if dose > 0 else 1
        rendering = EerRendering(params.eer_upsampling, n_fractions, per_fraction)
    return open_image(path, rendering)


def _dose_of_raw_frame(params: _FileParams, n_raw_frames: int) -> float | None:
    """e⁻/Å² in a frame as the file has them."""
    return params.dose_per_frame if params.total_dose is None else params.total_dose / n_raw_frames


def _read(
    store: SessionStore, file: SourceFile, session: ImportSessionParams, gain: _SessionGain | None
) -> tuple[NDArray, Exposure, dict[str, Figure]]:
    """(frame, y, x) checked frames of one file, and what is known of it."""
    path, params = Path(file.path), _file_params(file.path, session)
    image = _open(path, params)
    n_raw_frames = image.n_raw_frames or image.n_frames
    _check_frame_count(path, image, params)
    if gain is not None and image.shape != gain.shape:
        raise FormatError(_gain_advice(file, image.shape, gain.shape, session.gain_rotation_deg))
    frames = checked_frames(image)
    agreement = None
    if gain is not None:
        agreement = _check_gain(store, file, session, gain, image.shape, lambda part: frames[part])
    dose = _dose_of_raw_frame(params, n_raw_frames)
    if dose is not None and image.n_raw_frames:
        dose *= image.raw_frames_per_frame
    optics = replace(params.optics, pixel_size_angstrom=params.optics.pixel_size_angstrom / params.eer_upsampling)
    exposure = Exposure(
        id=file.exposure_id, name=path.name, source=file.path, content_hash=file.content_hash,
        kind="movie" if params.kind == "movies" else "micrograph", n_frames=image.n_frames, shape=image.shape,
        optics=optics, dose_per_frame=dose, pre_exposure=params.pre_exposure,
    )  # fmt: skip
    figures: dict[str, Figure] = {
        "n_frames": image.n_frames,
        "n_y": image.shape[0],
        "n_x": image.shape[1],
        "mean_counts_per_frame": float(frames.mean(dtype=np.float64)),
        "dose_per_frame": dose,
        "total_dose": None if dose is None else dose * image.n_frames,
        "format": image.format,
        "pixel_size_in_file_angstrom": image.pixel_size_angstrom,
    }
    if agreement is not None:
        figures["gain_agreement"] = round(agreement, 4)
    if image.n_raw_frames:
        figures["eer_frames_per_fraction"] = image.raw_frames_per_frame
        figures["eer_frames_left_out"] = image.n_raw_frames - image.raw_frames_per_frame * image.n_frames
    return frames, exposure, figures


def _write(
    attempt: Attempt, frames: NDArray, exposure: Exposure, figures: dict[str, Figure], gain: _SessionGain | None
) -> None:
    if exposure.kind == "movie":
        attempt.write("frames", frames)
    else:
        attempt.write("micrograph", frames[0].astype(np.float32))
    attempt.figures = figures
    attempt.details = {
        "exposure": exposure.model_dump(mode="json"),
        "checked_gain": None if gain is None else gain.fingerprint,
    }


def _check_frame_count(path: Path, image: ImageFile, params: _FileParams) -> None:
    found = image.n_raw_frames or image.n_frames
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


def _gain_advice(file: SourceFile, shape: Shape, gain_shape: Shape, rotation_deg: int) -> str:
    message = f"exposure {file.exposure_id}: the gain reference is {gain_shape} but its frames are {shape}"
    if shape == gain_shape[::-1]:
        angle = (rotation_deg + 90) % 360
        return (
            f"{message}; set `gain_rotation_deg: {angle}` (or {(angle + 180) % 360}, or a flip with it) in the recipe"
        )
    return f"{message}; give the gain reference of this detector and mode, not binned otherwise than the frames"


def _check_gain(
    store: SessionStore, file: SourceFile, params: ImportSessionParams, gain: _SessionGain, shape: Shape,
    frames: Callable[[tuple[slice, ...]], NDArray],
) -> float | None:  # fmt: skip
    """Agreement of the counts with the gain as given; FormatError where they speak for another orientation or meaning.

    Compared in the middle of the detector. Counts that were corrected before, or are too few, speak for none. None
    where there are only defects.
    """
    if shape != gain.shape:
        raise FormatError(_gain_advice(file, shape, gain.shape, params.gain_rotation_deg))
    reader = store.product(_GAIN).read()
    if "gain" not in reader:
        return None
    middle = tuple(slice(margin, n - margin) for n in shape for margin in [max(0, (n - _COMPARED_PX) // 2)])
    factor = torch.from_numpy(reader.slice("gain", middle))
    mean = torch.from_numpy(frames((slice(None), *middle)).mean(axis=0, dtype=np.float32))
    found = agreements(mean, factor)
    given = found[0, "none"]
    clear = max(_CLEAR_AGREEMENT, 8 / mean.numel() ** 0.5)
    if given < -clear:
        is_divisor = is_divisor_for(Path(params.gain or ""), params.gain_meaning, _is_eer(file.path))
        other = "multiply" if is_divisor else "divide"
        raise FormatError(
            f"exposure {file.exposure_id}: its counts are high where the gain makes them higher (correlation "
            f"{-given:.2f}); set `gain_meaning: {other}` in the recipe"
        )
    is_square = shape[0] == shape[1]
    best, (rotation, flip) = max((value, other) for other, value in found.items() if is_square or other[0] % 180 == 0)
    if best > clear and best > _CLEARLY_BETTER * given:
        angle, mirror = _settings_for(params, rotation, flip)
        raise FormatError(
            f"exposure {file.exposure_id}: its counts agree with the gain in another orientation (correlation "
            f"{best:.2f}), not in the one given ({given:.2f}); set `gain_rotation_deg: {angle}` and "
            f"`gain_flip: {mirror}` in the recipe"
        )
    return given


def _settings_for(params: ImportSessionParams, rotation_deg: int, flip: Flip) -> tuple[int, Flip]:
    """Rotation and flip of the file that equal those of ``params`` followed by the given ones."""
    corners = torch.arange(4).reshape(2, 2)
    wanted = orient(orient(corners, params.gain_rotation_deg, params.gain_flip), rotation_deg, flip)
    return next(
        (angle, mirror)
        for mirror in _FLIPS
        for angle in (0, 90, 180, 270)
        if torch.equal(orient(corners, angle, mirror), wanted)
    )


# the ledger: one entry a file


def _set_duplicates_aside(
    store: SessionStore, index: FileIndex, files: list[SourceFile], fresh: set[str], params: ImportSessionParams
) -> list[SourceFile]:
    """Files with the same content become one exposure; the others get skipped entries of their own."""
    groups: dict[str, list[SourceFile]] = {}
    for file in files:
        groups.setdefault(file.content_hash or file.path, []).append(file)
    result = []
    for group in groups.values():
        if len(group) == 1:
            result += group
            continue
        # what an earlier run imported stays the exposure; else the file that lies less deep
        first, *others = sorted(
            group, key=lambda f: (bool(f.same_as), f.exposure_id in fresh, f.path.count(os.sep), f.path)
        )
        result.append(first)
        for file in others:
            own = _id_by_content(file)
            own = own if own != first.exposure_id else f"{own}-{_id_by_path(file)[-4:]}"
            result.append(index.set_aside(file, own, first.exposure_id))
            _skip_duplicate(_product(store, result[-1]), result[-1], first, _file_params(file.path, params))
    return result


def _skip_duplicate(product: Product, file: SourceFile, first: SourceFile, params: _FileParams) -> None:
    reason = f"same content as {first.path} ({first.exposure_id})"
    record = product.record()
    expected = fingerprint(_STAGE, _VERSION, params, _inputs(file))
    if record is None or (record.state, record.reason, record.fingerprint) != ("skipped", reason, expected):
        product.put_outcome("skipped", reason, _STAGE, _VERSION, params, _inputs(file))
        product.sweep()


def _set_replaced_aside(
    store: SessionStore, index: FileIndex, files: list[SourceFile], params: ImportSessionParams
) -> list[str]:
    """Exposures whose file has other content now are skipped from here on; returns their ids."""
    present = {file.exposure_id for file in files}
    replaced = []
    for exposure_id, file in index.replaced.items():
        if exposure_id not in present:
            store.exposure_product(exposure_id, _STAGE).put_outcome(
                "skipped", f"{file.path} has other content now, which is exposure {file.exposure_id}",
                _STAGE, _VERSION, _file_params(file.path, params), _inputs(file),
            )  # fmt: skip
            replaced.append(exposure_id)
    return replaced


def _report(
    store: SessionStore, report: StageReport, files: list[SourceFile], fresh: set[str], replaced: list[str],
    settled: dict[str, Record],
) -> None:  # fmt: skip
    """Sort the files into the report, and bring the stage's index of the ledger up to date."""
    outcomes: dict[str, Record] = {}
    for exposure_id in [*(file.exposure_id for file in files), *replaced]:
        record = settled.get(exposure_id) or store.exposure_product(exposure_id, _STAGE).record()
        if record is not None:
            outcomes[exposure_id] = record
    for file in sorted(files, key=lambda f: f.path):
        record = outcomes.get(file.exposure_id)
        if record is None:
            report.failed[file.exposure_id] = "its record is gone; import again"
        elif record.state == "done":
            (report.done if file.exposure_id in fresh else report.kept).append(file.exposure_id)
        elif record.state == "skipped":
            report.skipped[file.exposure_id] = record.reason or ""
        else:
            report.failed[file.exposure_id] = record.reason or ""
    write_index(store, _STAGE, outcomes)
    _warn_of_pixel_size([outcomes[f.exposure_id] for f in files if f.exposure_id in outcomes])


def _warn_of_pixel_size(records: list[Record]) -> None:
    """One line where files state another pixel size than was given; many programs write 1 Å for unknown."""
    odd = []
    for record in records:
        stated = record.figures.get("pixel_size_in_file_angstrom")
        if record.state == "done" and isinstance(stated, float) and stated != 1.0:
            given = float(record.details["exposure"]["optics"]["pixel_size_angstrom"])
            if abs(stated / given - 1) > _PIXEL_SIZE_TOLERANCE:
                odd.append((stated, given))
    if odd:
        logger.warning(
            "%s: %d files state a pixel size of %.4g Å, %.4g Å was given; check `pixel_size_angstrom`",
            _STAGE, len(odd), *odd[0],
        )  # fmt: skip
