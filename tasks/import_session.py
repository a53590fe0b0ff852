"""From a folder of movies or micrographs to exposures: every file is read, checked and stored, or its reason is."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels.movies.gain import Flip
from kernels.optics import Optics
from tasks.formats import FormatError
from tasks.formats.exposure_file import (
    FileParams,
    check_stated_frames,
    compare_with_gain,
    has_eer_suffix,
    metadata_figures,
    open_exposure,
    read_exposure,
)
from tasks.formats.folder_scan import scan_folder
from tasks.formats.gain import GainMeaning
from tasks.formats.gain_orientation import GainParams, GivenGain, read_oriented_gain
from tasks.formats.microscope_metadata import read_metadata
from tasks.formats.sidecar_state import FolderNames, sidecar_state
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams, StageReport
from tasks.records.source_file import SourceFile
from tasks.stores import session_gain
from tasks.stores.commit import Reader, Record, fingerprint
from tasks.stores.file_identity import content_hash, id_by_path
from tasks.stores.file_index import FileIndex, KnownFile
from tasks.stores.file_ledger import FileLedger, ImportedFile, Line
from tasks.stores.file_rebuild import rebuild_where_lost
from tasks.stores.import_records import (
    STAGE,
    ImportRecords,
    metadata_digest,
    stated_metadata,
    stated_values,
)
from tasks.stores.location import StoreError, StoreWriteError
from tasks.stores.session_gain import SessionGain, write_gain
from tasks.stores.session_store import SessionStore
from tasks.workers import require_workers, run_items, stage_usage

logger = logging.getLogger(__name__)

_VERSION = 1
_DEFAULT_EER_FRACTIONS = 40
_USUAL_VOLTAGE_KV = 300.0
_USUAL_SPHERICAL_ABERRATION_MM = 2.7
_PIXEL_SIZE_TOLERANCE = 0.03
_FILES_AT_ONCE = 200
"""Files whose entries are written together: as many are looked at again after an import that was cut off."""


class ImportSessionParams(StageParams):
    """What the microscope does not write into its files, or what is to be believed instead."""

    kind: Literal["movies", "micrographs"] = "movies"
    pattern: str | None = None
    """Glob below the folder, for instance ``**/*_fractions.tiff``; None takes every file with a known suffix."""
    metadata_folder: str | None = None
    """Folder of EPU's session with its XML files, where the movies lie in a tree of their own (``Images-Disc…``)."""
    voltage_kv: float | None = Field(default=None, ge=20, le=1500)
    """None: what the microscope's files say, 300 kV where they do not."""
    spherical_aberration_mm: float | None = Field(default=None, ge=0, le=20)
    """None: what the microscope's files say, 2.7 mm where they do not."""
    amplitude_contrast: float = Field(default=0.1, ge=0, le=1)
    pixel_size_angstrom: float | None = Field(default=None, gt=0.05, le=100)
    """Of the pixels in the file. For EER that of the detector's physical pixel, also when ``eer_upsampling`` makes
    several of it: the exposures then have this divided by the up-sampling. None: what the microscope's files say."""
    dose_per_frame: float | None = Field(default=None, ge=0)
    """e⁻/Å² in a frame of the file; for EER in a frame of the detector, of which a fraction has several."""
    total_dose: float | None = Field(default=None, ge=0)
    """e⁻/Å² of the whole exposure, instead of `dose_per_frame`. Without both: what the microscope's files say."""
    pre_exposure: float = Field(default=0.0, ge=0)
    """e⁻/Å² received before the first frame."""
    expected_frames: int | None = Field(default=None, ge=1)
    """Frames that every file has to have (EER: of the detector). None: what the microscope's files say, else any."""
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
    """e⁻/Å² in each frame to make of an EER movie, instead of `eer_fractions`; needs a dose, given or stated."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ImportSessionParams:
        if self.dose_per_frame is not None and self.total_dose is not None:
            raise ValueError("both dose_per_frame and total_dose are given; leave one out")
        if self.eer_fractions is not None and self.eer_dose_per_fraction is not None:
            raise ValueError("both eer_fractions and eer_dose_per_fraction are given; leave one out")
        if self.kind == "micrographs" and (self.gain is not None or self.defects is not None):
            raise ValueError("a gain or defects are given for micrographs; they belong to movies, leave them out")
        return self


@task(name="import_session", cache_policy=NO_CACHE)
def import_session(
    session_url: str, folder: str, params: ImportSessionParams, files: list[str] | None = None
) -> StageReport:
    """Import what is new in ``folder``; `StageReport.available` names the exposures that the next stage can take.

    With ``files``, exactly these are looked at, whatever else lies in the folder, at a cost that depends on their
    number and not on that of the session; the report is of them. A relative one starts at the folder.

    A file is known by its content: the exposure's id is the stem of the first file that had it and the first eight
    digits of its hash, wherever the file is moved or copied to. Files that did not change since an earlier run (path,
    size and time of change) are not read again. Gain and defects go to ``session/gain`` once and are not applied here.
    A file that is not well, or that changes while it is read, gets a record with the reason and stops no other; a gain
    reference that cannot be read, or a folder without files, stops the stage. Memory of a worker: one movie as it is
    stored, the same compressed, and one frame (1.8 times the movie for LZW-packed counts of 2 e⁻ a pixel), whatever
    the length of the session.
    """
    store = SessionStore.open(session_url)
    params = _with_absolute_references(params, Path(folder))
    found = _files_to_look_at(Path(folder), params, files)
    report = StageReport(stage=STAGE)
    if not found:
        return report
    records, index = ImportRecords(store, _VERSION), FileIndex(store)
    rebuild_where_lost(store, records, index)
    index.look_up(file.path for file in found)
    lines: list[Line] = []
    client = require_workers("CPU")
    with stage_usage(client, "CPU", report):
        gain = _import_gain(store, index, found, params, is_scan=files is None)
        settled = _settled(store, index, found, params, gain, is_scan=files is None)
        todo = [_Work(file, _known_hash(index, file)) for file in found if file.path not in settled]
        logger.info("%s: %d files in %s, %d to look into", STAGE, len(found), folder, len(todo))
        owners = {path: one.exposure_id for path, one in settled.items() if not one.same_as}
        ledger = FileLedger(
            store, records, index, owners, lambda path: _file_params(path, params, MicroscopeMetadata())
        )
        odd: list[Record] = []
        for batch in _batches(_import_files(store, todo, params, gain)):
            lines += ledger.enter(batch)
            odd += [one.record for one in batch if one.record is not None and _contradiction(one.record)]
        lines += ledger.finish()
    lines += [Line(path, one.exposure_id, one.state, one.reason) for path, one in settled.items()]
    for line in sorted(lines):
        line.add_to(report)
    _warn_of(odd)
    logger.info(
        "%s: %d done, %d kept, %d failed, %d skipped; %.1f CPU-s",
        STAGE, len(report.done), len(report.kept), len(report.failed), len(report.skipped), report.cpu_seconds,
    )  # fmt: skip
    return report


class _Work(NamedTuple):
    """A file for a worker."""

    file: SourceFile
    content_hash: str
    """Where it is known and the file did not change since; else empty."""


def _with_absolute_references(params: ImportSessionParams, folder: Path) -> ImportSessionParams:
    """Gain and defects as every worker finds them; a relative path that is nowhere else is looked for in the folder."""

    def absolute(path: str | None) -> str | None:
        if path is None:
            return None
        places = [Path(path), folder / path]
        return str(next((place for place in places if place.exists()), places[0]).absolute())

    names = ("gain", "defects", "metadata_folder")
    return params.model_copy(update={name: absolute(getattr(params, name)) for name in names})


def _files_to_look_at(folder: Path, params: ImportSessionParams, files: list[str] | None) -> list[SourceFile]:
    if files is None:
        return scan_folder(folder, params.pattern, [path for path in (params.gain, params.defects) if path is not None])
    return [SourceFile.seen(path) for path in sorted({os.path.normpath((folder / path).absolute()) for path in files})]


def _file_params(path: str, params: ImportSessionParams, metadata: MicroscopeMetadata) -> FileParams:
    """What matters for this file; EER's parameters only for EER, so that changing them leaves other files alone."""
    return _file_params_of(has_eer_suffix(path), params, stated_values(metadata))


@lru_cache(maxsize=256)
def _file_params_of(is_eer: bool, params: ImportSessionParams, stated: tuple[float | None, ...]) -> FileParams:
    metadata = stated_metadata(stated)
    pixel_size = params.pixel_size_angstrom or metadata.pixel_size_angstrom
    voltage = params.voltage_kv or metadata.voltage_kv or _USUAL_VOLTAGE_KV
    given_cs = params.spherical_aberration_mm
    stated_cs = metadata.spherical_aberration_mm
    cs = next((one for one in (given_cs, stated_cs) if one is not None), _USUAL_SPHERICAL_ABERRATION_MM)
    is_dose_given = params.dose_per_frame is not None or params.total_dose is not None
    is_by_dose = params.eer_dose_per_fraction is not None
    return FileParams(
        kind=params.kind,
        optics=None if pixel_size is None else Optics(voltage, cs, params.amplitude_contrast, pixel_size),
        dose_per_frame=params.dose_per_frame,
        total_dose=params.total_dose if is_dose_given else metadata.total_dose,
        pre_exposure=params.pre_exposure,
        expected_frames=params.expected_frames,
        eer_upsampling=params.eer_upsampling if is_eer else 1,
        eer_fractions=(params.eer_fractions or _DEFAULT_EER_FRACTIONS) if is_eer and not is_by_dose else None,
        eer_dose_per_fraction=params.eer_dose_per_fraction if is_eer else None,
    )


# the gain, once a session


def _import_gain(
    store: SessionStore, index: FileIndex, files: list[SourceFile], params: ImportSessionParams, is_scan: bool
) -> SessionGain | None:
    """Bring ``session/gain`` up to date; None where there is none to compare frames with."""
    product = store.product(session_gain.ADDRESS)
    record = product.record()
    if params.gain is None and params.defects is None:
        if record is not None and record.details.get("shape"):  # there was one: now there is none
            with product.write(STAGE, _VERSION, params, {}) as attempt:
                attempt.details = {"shape": None}
        return None
    inputs = {
        name: _hash_reference(index, Path(path), name)
        for name, path in (("gain", params.gain), ("defects", params.defects))
        if path is not None
    }
    is_for_eer = any(has_eer_suffix(file.path) for file in files)
    if record is not None and record.inputs == inputs and not is_scan:  # a few files do not speak for the session
        is_for_eer = is_for_eer or bool(record.params.get("is_for_eer"))
    gain_params = GainParams(
        meaning=params.gain_meaning, rotation_deg=params.gain_rotation_deg, flip=params.gain_flip,
        upsampling=params.eer_upsampling if is_for_eer else 1, is_for_eer=is_for_eer, frame_shape=None,
    )  # fmt: skip
    if is_for_eer or params.gain is None:
        shape = record.params.get("frame_shape") if record is not None else None
        known = gain_params.model_copy(update={"frame_shape": shape and (int(shape[0]), int(shape[1]))})
        if shape and product.is_current(fingerprint(STAGE, _VERSION, known, inputs)):
            return session_gain.session_gain(store)
        gain_params = gain_params.model_copy(update={"frame_shape": _frame_shape(files, params)})
        if gain_params.frame_shape is None:  # every file will be told apart for itself
            return None
    if not product.is_current(fingerprint(STAGE, _VERSION, gain_params, inputs)):
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
            return open_exposure(Path(file.path), _file_params(file.path, params, MicroscopeMetadata())).shape
        except (FormatError, OSError):
            continue
    return None


def _hash_reference(index: FileIndex, path: Path, name: str) -> str:
    try:
        file = SourceFile.of(path)
        known = index.recall(file.path)
        if known is not None and known.is_unchanged(file):
            return known.content_hash
        found = content_hash(path)
    except OSError as error:
        raise FormatError(
            f"{path}: the file given as `{name}` cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    index.remember(file.path, KnownFile.of_reference(file, found))
    return found


def _make_gain(
    address: str, session_url: str, params: GainParams, gain_path: str | None, defects_path: str | None,
    inputs: dict[str, str],
) -> str | None:  # fmt: skip
    """Write the session's gain and defects, in the orientation of the frames; returns what is wrong with them."""
    product = SessionStore.open(session_url).product(address)
    try:
        with product.write(STAGE, _VERSION, params, inputs) as attempt:
            write_gain(attempt, *read_oriented_gain(params, gain_path, defects_path))
    except FormatError as error:
        return str(error)
    return None


# which files have to be read


def _settled(
    store: SessionStore, index: FileIndex, files: list[SourceFile], params: ImportSessionParams,
    gain: SessionGain | None, is_scan: bool,
) -> dict[str, KnownFile]:  # fmt: skip
    """Path -> what is known of the files for which nothing has to be done, told from the index alone."""
    known = {file.path: one for file in files if (one := index.recall(file.path)) and one.is_unchanged(file)}
    owners = {one.exposure_id for one in known.values() if not one.same_as}
    reopened = index.reopened()
    stored = set(store.exposure_ids()) if is_scan else None
    names = FolderNames() if is_scan else None

    def is_settled(path: str, one: KnownFile) -> bool:
        if one.exposure_id in reopened or (stored is not None and one.exposure_id not in stored):
            return False
        if one.same_as:
            return one.same_as in owners
        if one.state == "failed" or not _is_same_metadata(Path(path), one, params, names):
            return False
        has_checked_gain = one.state != "done" or gain is None or one.checked_gain == gain.fingerprint
        file_params = _file_params(path, params, stated_metadata(one.stated))
        may_fail = one.state != "done"
        inputs = _inputs(one.content_hash, gain if may_fail else None, one.metadata_digest if may_fail else "")
        return has_checked_gain and one.fingerprint == fingerprint(STAGE, _VERSION, file_params, inputs)

    return {path: one for path, one in known.items() if is_settled(path, one)}


def _is_same_metadata(path: Path, one: KnownFile, params: ImportSessionParams, names: FolderNames | None) -> bool:
    """Whether the microscope's own files say what they said, as far as can be told without reading many of them."""
    mirror = _mirror(params)
    if sidecar_state(path, mirror, names) != one.sidecars:
        return False
    may_be_new = not one.metadata_digest and (names is None or names.has_mdoc(path))
    return not may_be_new or not metadata_digest(_read_metadata(path, params)[0])


def _known_hash(index: FileIndex, file: SourceFile) -> str:
    known = index.recall(file.path)
    return known.content_hash if known is not None and known.is_unchanged(file) else ""


def _mirror(params: ImportSessionParams) -> Path | None:
    return None if params.metadata_folder is None else Path(params.metadata_folder)


def _inputs(content: str, gain: SessionGain | None = None, digest: str = "") -> dict[str, str]:
    """What a fingerprint is made of besides parameters; gain and metadata where they may be the reason of a failure."""
    inputs = {"file": content}
    if gain is not None:
        inputs[session_gain.ADDRESS] = gain.fingerprint
    if digest:
        inputs["metadata"] = digest
    return inputs


# the files, one item each


def _batches(imported: Iterator[ImportedFile]) -> Iterator[list[ImportedFile]]:
    waiting: list[ImportedFile] = []
    for one in imported:
        waiting.append(one)
        if len(waiting) == _FILES_AT_ONCE:
            yield waiting
            waiting = []
    yield waiting


def _import_files(
    store: SessionStore, todo: list[_Work], params: ImportSessionParams, gain: SessionGain | None
) -> Iterator[ImportedFile]:
    """Import on the workers; a file whose content another one is just being imported from waits for the others."""
    put_off: list[_Work] = []
    for is_last in (False, True):
        works = put_off if is_last else sorted(todo, key=lambda w: (w.file.path.count(os.sep), w.file.path))
        if not works:
            continue
        for work, result in run_items(_import_file, works, store.url, params, gain, is_last, label="CPU", name=STAGE):
            if isinstance(result, StoreWriteError):
                raise result
            if isinstance(result, Exception):  # the worker died with the file: nobody else could record it
                yield _unread(ImportRecords(store, _VERSION), work.file, params, str(result))
            elif result.record is None:
                put_off.append(_Work(result.file, result.content_hash))
            else:
                yield result


def _import_file(
    work: _Work, session_url: str, params: ImportSessionParams, gain: SessionGain | None, is_last: bool
) -> ImportedFile:
    """One file on its worker: its product, or a record that says why there is none."""
    store = SessionStore.open(session_url)
    records = ImportRecords(store, _VERSION)
    path = Path(work.file.path)
    try:
        file = SourceFile.of(path)
        content = work.content_hash if file == work.file and work.content_hash else content_hash(path)
        _check_unchanged(file)
    except (OSError, _ChangedFileError) as error:
        return _unread(records, work.file, params, _words(path, error))
    sidecars = sidecar_state(path, _mirror(params))
    metadata, complaint = _read_metadata(path, params)
    file_params = _file_params(file.path, params, metadata)
    exposure_id, record, is_own, demoted = records.claim(file, content, file_params)
    if record is None and not is_own and not is_last:
        return ImportedFile(file, exposure_id, None, content)
    reading = _Reading(store, file, content, exposure_id, file_params, metadata, sidecars, complaint)
    is_fresh = True
    try:
        if record is not None and not record.is_wanted and _is_done(record, file_params, content):
            record, is_fresh = _amended(reading, record, params, gain), False
        elif record is not None and _is_settled_failure(record, reading, gain):
            is_fresh = False
        else:
            record = _stored(reading, params, gain)
            exposure_id, record, _, also = records.settle(file, content, file_params)
            demoted |= also
            is_fresh = exposure_id == reading.exposure_id
    except StoreWriteError:
        raise
    except Exception as error:  # the boundary of an item: its reason goes into the ledger
        if SourceFile.seen(path) != file:
            return _unread(records, file, params, _words(path, _ChangedFileError(_change(file))))
        if not isinstance(error, (FormatError, StoreError, _UnreadableFileError)):
            logger.error("%s %s: %s", STAGE, path, traceback.format_exc())
        if record is not None and record.is_wanted:  # what was made from its expired frames is still good
            logger.warning("%s %s: its frames cannot be had back: %s", STAGE, exposure_id, _words(path, error))
            return ImportedFile(file, exposure_id, record, content)
        record = records.put(
            exposure_id, "quarantined" if isinstance(error, FormatError) else "failed", _words(path, error),
            file_params, _inputs(content, gain, metadata_digest(metadata)), file, details=reading.details,
        )  # fmt: skip
    others = demoted | records.forgive(file, exposure_id, file_params)
    return ImportedFile(file, exposure_id, record, content, is_fresh, others=others)


@dataclass(frozen=True)
class _Reading:
    """A file on its worker, known by its content."""

    store: SessionStore
    file: SourceFile
    content_hash: str
    exposure_id: str
    params: FileParams
    metadata: MicroscopeMetadata
    sidecars: str
    complaint: str
    """What is wrong with its sidecar; empty where nothing is."""

    @property
    def details(self) -> dict[str, Any]:
        """What the record keeps of the microscope's own files."""
        found: dict[str, Any] = {"sidecars": self.sidecars} if self.sidecars else {}
        if self.metadata.sources or self.metadata.acquired_at:
            found["metadata"] = self.metadata.model_dump(mode="json", exclude_none=True)
        if self.complaint:
            found["metadata_complaint"] = self.complaint
        return found


def _is_done(record: Record, params: FileParams, content: str) -> bool:
    return record.is_current(fingerprint(STAGE, _VERSION, params, _inputs(content)))


def _is_settled_failure(record: Record, reading: _Reading, gain: SessionGain | None) -> bool:
    """Whether the file was not taken before, and nothing that could change it has changed since."""
    inputs = _inputs(reading.content_hash, gain, metadata_digest(reading.metadata))
    is_same = record.fingerprint == fingerprint(STAGE, _VERSION, reading.params, inputs)
    return record.state == "quarantined" and is_same and record.details.get("sidecars", "") == reading.sidecars


def _amended(reading: _Reading, record: Record, params: ImportSessionParams, gain: SessionGain | None) -> Record:
    """The record of a product that stays, with a gain and metadata that are new to it."""
    product = reading.store.exposure_product(reading.exposure_id, STAGE)
    figures = record.figures
    changes: dict[str, Any] = {}
    if gain is not None and record.expired is None and record.details.get("checked_gain") != gain.fingerprint:
        frames = _StoredFrames(product.read())
        compare_with_gain(reading.exposure_id, Path(reading.file.path), frames, gain, _given_gain(params))
        changes["checked_gain"] = gain.fingerprint
    if {name: record.details.get(name) for name in reading.details} != reading.details:
        n_frames = int(figures.get("n_frames") or 0)
        n_raw_frames = n_frames * int(figures.get("eer_frames_per_fraction") or 1)
        n_raw_frames += int(figures.get("eer_frames_left_out") or 0)
        check_stated_frames(Path(reading.file.path), n_raw_frames, reading.params, reading.metadata)
        changes |= reading.details
        figures = metadata_figures(reading.params, reading.metadata, n_raw_frames)
    return product.amend(changes, figures) if changes else record


@dataclass(frozen=True)
class _StoredFrames:
    """Frames of a product, (frame, y, x), read when they are sliced."""

    reader: Reader

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reader.shape("frames")

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.reader.slice("frames", index)


def _stored(reading: _Reading, params: ImportSessionParams, gain: SessionGain | None) -> Record:
    """The record of the file's product, read and written now."""
    path = Path(reading.file.path)
    if reading.complaint and reading.params.optics is None:
        raise FormatError(reading.complaint)
    product = reading.store.exposure_product(reading.exposure_id, STAGE)
    with product.write(STAGE, _VERSION, reading.params, _inputs(reading.content_hash)) as attempt:
        try:
            found = read_exposure(
                path, reading.exposure_id, reading.content_hash, reading.params, reading.metadata, gain,
                _given_gain(params),
            )  # fmt: skip
        except OSError as error:  # of the file: of the block it would be taken for one of the store
            raise _UnreadableFileError(error) from error
        _check_unchanged(reading.file)
        if found.exposure.kind == "movie":
            attempt.write("frames", found.frames)
        else:
            attempt.write("micrograph", found.frames[0].astype(np.float32))
        attempt.figures = found.figures | {"acquired_at": _acquired_at(reading)}
        attempt.details = {
            "exposure": found.exposure.model_dump(mode="json"),
            "file": reading.file.model_dump(),
            "checked_gain": None if gain is None else gain.fingerprint,
            **reading.details,
        }
    assert attempt.record is not None
    return attempt.record


def _given_gain(params: ImportSessionParams) -> GivenGain:
    return GivenGain(params.gain, params.gain_meaning, params.gain_rotation_deg, params.gain_flip)


def _acquired_at(reading: _Reading) -> str:
    """ISO 8601: as the microscope's clock had it, else the file's time of change."""
    written = datetime.fromtimestamp(reading.file.mtime_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return reading.metadata.acquired_at or written


def _read_metadata(path: Path, params: ImportSessionParams) -> tuple[MicroscopeMetadata, str]:
    """What the microscope says, and what is wrong with its files."""
    try:
        return read_metadata(path, _mirror(params)), ""
    except FormatError as error:
        return MicroscopeMetadata(), str(error)


def _unread(records: ImportRecords, file: SourceFile, params: ImportSessionParams, reason: str) -> ImportedFile:
    """A file whose content is not known: its record is found by its path, and it is tried at every hand-over."""
    exposure_id = id_by_path(file.path)
    file_params = _file_params(file.path, params, MicroscopeMetadata())
    return ImportedFile(file, exposure_id, records.put(exposure_id, "failed", reason, file_params, {}))


class _ChangedFileError(Exception):
    """A file became another one while it was read."""


class _UnreadableFileError(Exception):
    """A file of the folder failed while it was read."""


def _check_unchanged(file: SourceFile) -> None:
    change = _change(file)
    if change:
        raise _ChangedFileError(change)


def _change(file: SourceFile) -> str:
    """What became of a file since; empty where nothing did."""
    now = SourceFile.seen(file.path)
    if now == file:
        return ""
    if now.size < 0:
        return "it vanished while it was read"
    return f"it changed while it was read, from {file.size} to {now.size} bytes"


def _words(path: Path, error: Exception) -> str:
    """The reason of a failure."""
    cause = error.args[0] if isinstance(error, _UnreadableFileError) else error
    if isinstance(cause, (FormatError, StoreError)):
        return str(cause)
    if isinstance(cause, _ChangedFileError):
        return f"{path}: {cause}; hand it over again when it is complete"
    if isinstance(cause, OSError):
        said = f"{type(cause).__name__}: {cause.strerror or cause}"
        return f"{path}: cannot be read ({said}); check permissions, links and the file system, and import again"
    return f"{path}: {type(cause).__name__}: {cause}"


# what a microscopist is to look at


def _contradiction(record: Record) -> str:
    """Where recipe, file and sidecar do not say the same of a done exposure; many programs write 1 Å for unknown."""
    if record.state != "done":
        return ""
    stated, found = record.figures.get("pixel_size_in_file_angstrom"), record.figures.get("contradicts_metadata")
    if isinstance(stated, float) and stated != 1.0:
        given = float(record.details["exposure"]["optics"]["pixel_size_angstrom"])
        if abs(stated / given - 1) > _PIXEL_SIZE_TOLERANCE:
            return f"state a pixel size of {stated:.4g} Å, {given:.4g} Å was given; check `pixel_size_angstrom`"
    return f"are given other values than the microscope states: {found}" if found else ""


def _warn_of(odd: list[Record]) -> None:
    """One line for all files with something odd, with the first as an example."""
    if odd:
        logger.warning("%s: %d files %s", STAGE, len(odd), _contradiction(odd[0]))
