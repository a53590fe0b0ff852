"""From a folder of movies or micrographs to exposures: every file is read, checked and stored, or its reason is."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator, model_validator

from kernels.movies.gain import Flip
from kernels.movies.gain_evidence import BINNINGS
from kernels.optics import Optics
from tasks.formats.exposure_file import FileParams, has_eer_suffix
from tasks.formats.folder_scan import scan_folder
from tasks.formats.gain import GainMeaning
from tasks.formats.gain_orientation import GivenGain
from tasks.intake.gain import WantedGain, import_gain
from tasks.intake.one_file import Work, import_file, unread_file
from tasks.intake.outline import files_outline
from tasks.intake.rules import ImportRules
from tasks.intake.settled import settled_files
from tasks.records.forecast import Need, Outline
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams, StageReport
from tasks.records.source_file import SourceFile
from tasks.stores.commit import Record
from tasks.stores.files.import_records import STAGE, ImportRecords, stated_metadata, stated_values
from tasks.stores.files.index import FileIndex
from tasks.stores.files.ledger import FileLedger, ImportedFile, Line
from tasks.stores.files.rebuild import rebuild_where_lost
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreWriteError
from tasks.workers.connection import require_workers
from tasks.workers.items import run_items
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

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
    gain_binning: float = Field(default=1.0, json_schema_extra={"enum": [*sorted(BINNINGS)]})
    """Pixels of the gain along one pixel of the frames: 2 for the super-resolution gain of movies that were saved
    binned by 2, 0.5 for the gain of physical pixels and super-resolution movies. EER movies need none."""
    defects: str | None = None
    """Text of rectangles ``x y width height``, or a mask image, both in the orientation of the frames."""
    eer_upsampling: Literal[1, 2, 4] = 1
    eer_fractions: int | None = Field(default=None, ge=1)
    """Frames to make of an EER movie; 40 where neither this nor the next is given."""
    eer_dose_per_fraction: float | None = Field(default=None, gt=0)
    """e⁻/Å² in each frame to make of an EER movie, instead of `eer_fractions`; needs a dose, given or stated."""

    @field_validator("gain_binning")
    @classmethod
    def _binning_is_possible(cls, binning: float) -> float:
        if binning not in BINNINGS:
            raise ValueError(f"a gain cannot be binned by {binning:g}; expected one of {sorted(BINNINGS)}")
        return binning

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
    reference that cannot be read, or a folder without files, stops the stage. Memory of a worker: see `need`, whatever
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
    rules = _rules(params)
    client = require_workers("CPU")
    with stage_usage(client, "CPU", report):
        rules = rules.with_gain(import_gain(store, index, found, _wanted_gain(params), rules, is_scan=files is None))
        settled = settled_files(store, index, found, rules, is_scan=files is None)
        todo = [Work(file, index.known_hash(file)) for file in found if file.path not in settled]
        logger.info("%s: %d files of %s, %d to look into", STAGE, len(found), folder, len(todo))
        ledger = FileLedger(store, records, index, settled, rules.params_without_metadata)
        about = files_outline([work.file for work in todo], rules.params_without_metadata)
        with fitting(store, "CPU", need(about, params), report) if about else nullcontext():
            lines, odd = _entered(ledger, _import_files(store, todo, rules))
    lines += [Line(path, one.exposure_id, one.state, one.reason) for path, one in settled.items()]
    for line in sorted(lines):
        line.add_to(report)
    if odd:  # one line for all, with the first as an example
        logger.warning("%s: %d files %s", STAGE, len(odd), odd[0])
    logger.info(
        "%s: %d done, %d kept, %d failed, %d skipped; %.1f CPU-s",
        STAGE, len(report.done), len(report.kept), len(report.failed), len(report.skipped), report.cpu_seconds,
    )  # fmt: skip
    return report


def need(about: Outline, _params: ImportSessionParams) -> Need:
    """What an import needs: one movie as it is stored, the same compressed, and some frames.

    Frames of floating point are told as such, as a header does not say whether they are counts, which are stored small.
    """
    n_bytes, is_count = about.n_frames * about.n_px * about.bytes_per_px, about.bytes_per_px <= 2
    memory = int(1.1 * ((1.7 if is_count else 3.2) * n_bytes + 2 * about.n_px + 30_000_000))
    return Need(
        stage=STAGE,
        n_items=about.n_exposures,
        memory_bytes=memory,
        disk_bytes=about.n_exposures * (n_bytes if not is_count else about.n_frames * about.n_px // 2),
        cpu_seconds=about.n_exposures * (0.05 + 0.01e-6 * about.n_frames * about.n_px),
        told_from=about.frames_words,
        remedy="write shorter movies, or lower `import_session.eer_fractions` or `eer_upsampling`",
    )


def outline_of_folder(folder: str, params: ImportSessionParams) -> Outline | None:
    """Sizes of the files in a folder that nothing was imported from yet; None where no header can be read."""
    absolute = _with_absolute_references(params, Path(folder))
    return files_outline(_files_to_look_at(Path(folder), absolute, None), _rules(absolute).params_without_metadata)


def _entered(ledger: FileLedger, imports: Iterator[ImportedFile]) -> tuple[list[Line], list[str]]:
    """Lines of the ledger, and what is odd about done files; an import that is stopped enters what it has."""
    lines: list[Line] = []
    odd: list[str] = []
    batch: list[ImportedFile] = []
    try:
        for one in imports:
            batch.append(one)
            contradiction = _contradiction(one.record) if one.record is not None else ""
            odd += [contradiction] if contradiction else []
            if len(batch) == _FILES_AT_ONCE:
                lines += ledger.enter(batch)
                batch = []
    finally:
        lines += ledger.enter(batch)
    return lines + ledger.finish(), odd


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


def _rules(params: ImportSessionParams) -> ImportRules:
    return ImportRules(
        version=_VERSION,
        params_of=partial(_file_params, params),
        mirror=None if params.metadata_folder is None else Path(params.metadata_folder),
        given_gain=_wanted_gain(params).given,
    )


def _wanted_gain(params: ImportSessionParams) -> WantedGain:
    given = GivenGain(params.gain, params.gain_meaning, params.gain_rotation_deg, params.gain_flip, params.gain_binning)
    return WantedGain(given, params.defects, params.eer_upsampling)


def _file_params(params: ImportSessionParams, path: str, metadata: MicroscopeMetadata) -> FileParams:
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


def _import_files(store: SessionStore, todo: Iterable[Work], rules: ImportRules) -> Iterator[ImportedFile]:
    """Import on the workers; a file whose content another one is just being imported from waits for all others."""
    works = sorted(todo, key=lambda work: (work.file.path.count(os.sep), work.file.path))
    put_off: list[Work] = []
    for is_last in (False, True):
        if not works:
            return
        for work, result in run_items(import_file, works, store.url, rules, is_last, label="CPU", name=STAGE):
            if isinstance(result, StoreWriteError):
                raise result
            if isinstance(result, Exception):  # the worker died with the file: nobody else could record it
                yield unread_file(ImportRecords(store, rules.version), work.file, rules, str(result))
            elif result.record is None:
                put_off.append(Work(result.file, result.content_hash))
            else:
                yield result
        works = put_off


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
