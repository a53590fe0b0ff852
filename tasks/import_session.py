"""From a folder of movies or micrographs to exposures: every file is read, checked and stored, or its reason is."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels.movies.gain import Flip
from kernels.optics import Optics
from tasks.formats import FormatError
from tasks.formats.exposure_file import (
    FileParams,
    check_frame_count,
    describe_exposure,
    exposure_figures,
    has_eer_suffix,
    open_exposure,
)
from tasks.formats.gain import GainMeaning
from tasks.formats.gain_orientation import (
    GainParams,
    GivenGain,
    check_gain_agreement,
    check_gain_shape,
    compared_part,
    read_oriented_gain,
)
from tasks.formats.image_file import checked_frames
from tasks.formats.images import SUFFIXES
from tasks.records.exposure import Exposure
from tasks.records.session import StageParams, StageReport
from tasks.stores import session_gain
from tasks.stores.commit import Attempt, Figure, Product, Record, fingerprint
from tasks.stores.file_identity import content_hash, id_by_content, id_by_path
from tasks.stores.file_index import FileIndex, SourceFile
from tasks.stores.ledger import write_index
from tasks.stores.location import StoreWriteError
from tasks.stores.session_gain import SessionGain, write_gain
from tasks.stores.session_store import SessionStore
from tasks.workers import require_workers, run_items, stage_usage

logger = logging.getLogger(__name__)

_STAGE = "import_session"
_VERSION = 1
_DEFAULT_EER_FRACTIONS = 40
_PIXEL_SIZE_TOLERANCE = 0.03


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


def _file_params(path: str, params: ImportSessionParams) -> FileParams:
    """What matters for this file; EER's parameters only for EER, so that changing them leaves other files alone."""
    is_eer = has_eer_suffix(path)
    is_by_dose = params.eer_dose_per_fraction is not None
    return FileParams(
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


# the gain, once a session


def _import_gain(
    store: SessionStore, index: FileIndex, files: list[SourceFile], params: ImportSessionParams
) -> SessionGain | None:
    """Bring ``session/gain`` up to date; None where there is none to compare frames with."""
    product = store.product(session_gain.ADDRESS)
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
    is_for_eer = any(has_eer_suffix(file.path) for file in files)
    gain_params = GainParams(
        meaning=params.gain_meaning, rotation_deg=params.gain_rotation_deg, flip=params.gain_flip,
        upsampling=params.eer_upsampling if is_for_eer else 1, is_for_eer=is_for_eer,
        frame_shape=shape if is_for_eer or params.gain is None else None,
    )  # fmt: skip
    if not product.is_current(fingerprint(_STAGE, _VERSION, gain_params, inputs)):
        for _, result in run_items(
            _make_gain, [session_gain.ADDRESS], store.url, gain_params, params.gain, params.defects, inputs,
            label="CPU", name="import_gain",
        ):  # fmt: skip
            if isinstance(result, StoreWriteError):
                raise result
            if result is not None:
                raise FormatError(str(result))
    return session_gain.session_gain(store)


def _frame_shape(files: list[SourceFile], params: ImportSessionParams) -> tuple[int, int] | None:
    """Shape of the first file that opens."""
    for file in files:
        try:
            return open_exposure(Path(file.path), _file_params(file.path, params)).shape
        except (FormatError, OSError):
            continue
    return None


def _hash_reference(index: FileIndex, path: Path, name: str) -> str:
    try:
        status = path.stat()
        file = index.recall(SourceFile(str(path.absolute()), status.st_size, status.st_mtime_ns))
        if not file.content_hash:
            file = replace(file, content_hash=content_hash(path))
            index.remember(file)
    except OSError as error:
        raise FormatError(
            f"{path}: the file given as `{name}` cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    return file.content_hash


def _make_gain(
    address: str, session_url: str, params: GainParams, gain_path: str | None, defects_path: str | None,
    inputs: dict[str, str],
) -> str | None:  # fmt: skip
    """Write the session's gain and defects, in the orientation of the frames; returns what is wrong with them."""
    product = SessionStore.open(session_url).product(address)
    try:
        with product.write(_STAGE, _VERSION, params, inputs) as attempt:
            write_gain(attempt, *read_oriented_gain(params, gain_path, defects_path))
    except FormatError as error:
        return str(error)
    return None


# the files, one item each


def _settled_records(
    store: SessionStore, files: list[SourceFile], params: ImportSessionParams, gain: SessionGain | None
) -> dict[str, Record]:
    """Records that are of this content, these parameters and this gain, where no second try would help."""
    records = {file.exposure_id: _product(store, file).record() for file in files}
    return {
        file.exposure_id: record
        for file in files
        if (record := records[file.exposure_id]) is not None
        and _is_current(record, file, _file_params(file.path, params), gain)
    }


def _is_current(record: Record, file: SourceFile, params: FileParams, gain: SessionGain | None) -> bool:
    if record.state == "done":
        is_checked = gain is None or record.details.get("checked_gain") == gain.fingerprint
        return is_checked and record.is_current(fingerprint(_STAGE, _VERSION, params, _inputs(file)))
    return record.state != "failed" and record.fingerprint == fingerprint(_STAGE, _VERSION, params, _inputs(file, gain))


def _inputs(file: SourceFile, gain: SessionGain | None = None) -> dict[str, str]:
    """What a fingerprint is made of besides parameters; the gain only where it may be the reason of a failure."""
    return {"file": file.content_hash} | ({session_gain.ADDRESS: gain.fingerprint} if gain is not None else {})


def _import_files(
    store: SessionStore, files: list[SourceFile], params: ImportSessionParams, gain: SessionGain | None
) -> Iterator[tuple[SourceFile, bool]]:
    """Import on the workers; yields each file with its id, and whether it was read into the store now."""
    if not files:
        return
    for file, result in run_items(_import_file, files, store.url, params, gain, label="CPU", name=_STAGE):
        if isinstance(result, StoreWriteError):
            raise result
        if isinstance(result, Exception):  # the worker died with the file: nobody else could record it
            lost = replace(file, exposure_id=id_by_path(file.path))
            _product(store, lost).put_outcome(
                "failed", str(result), _STAGE, _VERSION, _file_params(file.path, params), _inputs(lost, gain)
            )
            yield lost, True
        else:
            yield result


def _import_file(
    file: SourceFile, session_url: str, params: ImportSessionParams, gain: SessionGain | None
) -> tuple[SourceFile, bool]:
    """One file on its worker: its product, or a record that says why there is none."""
    store = SessionStore.open(session_url)
    file_params = _file_params(file.path, params)
    try:
        if not file.content_hash:
            file = replace(file, content_hash=content_hash(Path(file.path)))
            file = replace(file, exposure_id=id_by_content(file.path, file.content_hash))
        product = _product(store, file)
        record = product.record()
        if record is not None and _is_current(record, file, file_params, gain):
            return file, False
        is_there = record is not None and record.expired is None
        if is_there and product.is_current(fingerprint(_STAGE, _VERSION, file_params, _inputs(file))):
            # only the gain is new
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
        file = replace(file, exposure_id=id_by_path(file.path))
    earlier = _product(store, file).record()
    if earlier is not None and earlier.is_wanted:  # what was made from its expired frames is still good
        logger.warning("%s %s: its frames cannot be had back: %s", _STAGE, file.exposure_id, reason)
        return file, False
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


def _read(
    store: SessionStore, file: SourceFile, session: ImportSessionParams, gain: SessionGain | None
) -> tuple[NDArray, Exposure, dict[str, Figure]]:
    """(frame, y, x) checked frames of one file, and what is known of it."""
    params = _file_params(file.path, session)
    image = open_exposure(Path(file.path), params)
    check_frame_count(image, params)
    if gain is not None:
        check_gain_shape(file.exposure_id, image.shape, gain.shape, session.gain_rotation_deg)
    frames = checked_frames(image)
    agreement = None
    if gain is not None:
        agreement = _check_gain(store, file, session, gain, image.shape, lambda part: frames[part])
    exposure = describe_exposure(image, params, file.exposure_id, file.content_hash)
    figures = exposure_figures(image, exposure, frames)
    if agreement is not None:
        figures["gain_agreement"] = round(agreement, 4)
    return frames, exposure, figures


def _write(
    attempt: Attempt, frames: NDArray, exposure: Exposure, figures: dict[str, Figure], gain: SessionGain | None
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


def _check_gain(
    store: SessionStore, file: SourceFile, params: ImportSessionParams, gain: SessionGain, shape: tuple[int, int],
    frames: Callable[[tuple[slice, ...]], NDArray],
) -> float | None:  # fmt: skip
    """Agreement of counts and gain, None where there are only defects; FormatError where they contradict each other."""
    check_gain_shape(file.exposure_id, shape, gain.shape, params.gain_rotation_deg)
    part = compared_part(shape)
    factor = session_gain.gain_part(store, part)
    if factor is None:
        return None
    given = GivenGain(params.gain, params.gain_meaning, params.gain_rotation_deg, params.gain_flip)
    counts = frames((slice(None), *part))
    return check_gain_agreement(file.exposure_id, counts, factor, shape, given, has_eer_suffix(file.path))


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
            own = id_by_content(file.path, file.content_hash)
            own = own if own != first.exposure_id else f"{own}-{id_by_path(file.path)[-4:]}"
            result.append(index.set_aside(file, own, first.exposure_id))
            _skip_duplicate(_product(store, result[-1]), result[-1], first, _file_params(file.path, params))
    return result


def _skip_duplicate(product: Product, file: SourceFile, first: SourceFile, params: FileParams) -> None:
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
