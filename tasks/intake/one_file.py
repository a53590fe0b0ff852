"""One file on its worker: hashed, read, checked and stored, or a record that says why not."""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.exposure_file import (
    ExposureContent,
    FileParams,
    check_stated_frames,
    compare_with_gain,
    metadata_figures,
    read_exposure,
)
from tasks.formats.sidecar_state import sidecar_state
from tasks.intake.rules import ImportRules
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.secrets import redacted
from tasks.records.source_file import SourceFile
from tasks.stores.commit import Product, Reader, Record, State
from tasks.stores.files.identity import content_hash, id_by_path
from tasks.stores.files.import_records import STAGE, ImportRecords, metadata_digest
from tasks.stores.files.ledger import ImportedFile
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError, StoreWriteError

logger = logging.getLogger(__name__)


class Work(NamedTuple):
    """A file for a worker."""

    file: SourceFile
    content_hash: str
    """Where it is known and the file did not change since; else empty."""


def import_file(work: Work, session_url: str, rules: ImportRules, is_last: bool) -> ImportedFile:
    """Bring one file's exposure up to date.

    A file whose content is claimed by another one, which is not imported yet, is put off; with ``is_last`` it is
    imported all the same: whoever claimed it has died, or works elsewhere.
    """
    store = SessionStore.open(session_url)
    records = ImportRecords(store, rules.version)
    path = Path(work.file.path)
    try:
        file = SourceFile.of(path)
        content = work.content_hash if file == work.file and work.content_hash else content_hash(path)
        _check_unchanged(file)
    except (OSError, _ChangedFileError) as error:
        return unread_file(records, work.file, rules, _words(path, error))
    sidecars = sidecar_state(path, rules.mirror)
    metadata, complaint = rules.metadata(path)
    params = rules.params_of(file.path, metadata)
    identity = records.claim(file, content, params)
    if identity.record is None and not identity.is_own and not is_last:
        return ImportedFile(file, identity.exposure_id, None, content)
    item = _Item(records.product(identity.exposure_id), file, content, params, metadata, sidecars, complaint)
    others = dict(identity.demoted)
    exposure_id, record, is_fresh = identity.exposure_id, identity.record, True
    try:
        if record is not None and record.is_current(rules.fingerprint_done(params, content)):
            record, is_fresh = _amended(item, record, rules), False
        elif record is not None and _is_known_failure(item, record, rules):
            is_fresh = False
        else:
            found = _read(item, exposure_id, rules)
            if not is_last and records.owner(content) != exposure_id:  # somebody else's claim is the earlier one
                return ImportedFile(file, exposure_id, None, content)
            record = _stored(item, found, rules)
            exposure_id, record, others = _settled(records, item, exposure_id, record, others)
            is_fresh = exposure_id == identity.exposure_id
    except StoreWriteError:
        raise
    except Exception as error:  # the boundary of an item: its reason goes into the ledger
        change = _change(file)
        if change:  # whatever went wrong, went wrong for that
            return unread_file(records, file, rules, _words(path, _ChangedFileError(change)))
        if not isinstance(error, (FormatError, StoreError, OSError, _ChangedFileError)):
            logger.error("%s %s: %s", STAGE, path, redacted(traceback.format_exc()))
        if record is not None and record.is_wanted:  # what was made from its expired frames is still good
            logger.warning("%s %s: its frames cannot be had back: %s", STAGE, exposure_id, _words(path, error))
            return ImportedFile(file, exposure_id, record, content)
        state: State = "quarantined" if isinstance(error, FormatError) else "failed"
        inputs = rules.inputs_failed(content, metadata_digest(metadata))
        record = records.put(exposure_id, state, _words(path, error), params, inputs, file, details=item.details)
    others |= records.forgive(file, exposure_id, params)
    return ImportedFile(file, exposure_id, record, content, is_fresh, others)


def unread_file(records: ImportRecords, file: SourceFile, rules: ImportRules, reason: str) -> ImportedFile:
    """A file whose content is not known: its record is found by its path, and it is tried at every hand-over."""
    exposure_id = id_by_path(file.path)
    params = rules.params_without_metadata(file.path)
    return ImportedFile(file, exposure_id, records.put(exposure_id, "failed", reason, params, {}))


@dataclass(frozen=True)
class _Item:
    """A file whose content is known."""

    product: Product
    file: SourceFile
    content_hash: str
    params: FileParams
    metadata: MicroscopeMetadata
    sidecars: str
    complaint: str
    """What is wrong with its sidecar; empty where nothing is."""

    @property
    def path(self) -> Path:
        return Path(self.file.path)

    @property
    def details(self) -> dict[str, Any]:
        """What the record keeps of the microscope's own files."""
        return {
            "metadata": self.metadata.model_dump(mode="json"),
            "sidecars": self.sidecars,
            "metadata_complaint": self.complaint,
        }

    @property
    def acquired_at(self) -> str:
        """ISO 8601: as the microscope's clock had it, else the file's time of change."""
        changed_at = datetime.fromtimestamp(self.file.mtime_ns / 1e9, UTC)
        return self.metadata.acquired_at or changed_at.isoformat(timespec="milliseconds")


def _is_known_failure(item: _Item, record: Record, rules: ImportRules) -> bool:
    """Whether the file was not taken before, and nothing that could change it has changed since."""
    expected = rules.fingerprint_failed(item.params, item.content_hash, metadata_digest(item.metadata))
    is_same_sidecar = record.details.get("sidecars", "") == item.sidecars
    return record.state == "quarantined" and record.fingerprint == expected and is_same_sidecar


def _amended(item: _Item, record: Record, rules: ImportRules) -> Record:
    """The record of a product that stays, with a gain and metadata that are new to it."""
    changes: dict[str, Any] = {}
    figures = dict(record.figures)
    gain = rules.gain
    if gain is not None and record.expired is None and record.details.get("checked_gain") != gain.fingerprint:
        exposure_id = record.details["exposure"]["id"]
        compare_with_gain(exposure_id, item.path, _StoredFrames(item.product.read()), gain, rules.given_gain)
        changes["checked_gain"] = gain.fingerprint
    if {name: record.details.get(name) for name in item.details} != item.details:
        n_raw_frames = int(figures.get("n_frames") or 0) * int(figures.get("eer_frames_per_fraction") or 1)
        n_raw_frames += int(figures.get("eer_frames_left_out") or 0)
        check_stated_frames(item.path, n_raw_frames, item.params, item.metadata)
        changes |= item.details
        figures["acquired_at"] = item.acquired_at
        figures |= metadata_figures(item.params, item.metadata, n_raw_frames)
    return item.product.amend(changes, figures) if changes else record


@dataclass(frozen=True)
class _StoredFrames:
    """Frames of a product, (frame, y, x), read when they are sliced."""

    reader: Reader

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reader.shape("frames")

    def __getitem__(self, index: Any) -> NDArray:
        return self.reader.slice("frames", index)


@dataclass(frozen=True)
class _Found:
    """What a file holds, and what it cost to read."""

    content: ExposureContent
    cpu_seconds: float


def _read(item: _Item, exposure_id: str, rules: ImportRules) -> _Found:
    """The file read whole; raises where it is not well, or changed meanwhile."""
    if item.complaint and item.params.optics is None:
        raise FormatError(item.complaint)
    started = time.thread_time()
    content = read_exposure(
        item.path, exposure_id, item.content_hash, item.params, item.metadata, rules.gain, rules.given_gain
    )
    _check_unchanged(item.file)
    return _Found(content, time.thread_time() - started)


def _stored(item: _Item, found: _Found, rules: ImportRules) -> Record:
    """The record of the file's product, written now."""
    content = found.content
    with item.product.write(STAGE, rules.version, item.params, {"file": item.content_hash}) as attempt:
        attempt.cpu_seconds = found.cpu_seconds
        if content.exposure.kind == "movie":
            attempt.write("frames", content.frames)
        else:
            attempt.write("micrograph", content.frames[0].astype(np.float32))
        attempt.figures = content.figures | {"acquired_at": item.acquired_at}
        attempt.details = {
            "exposure": content.exposure.model_dump(mode="json"),
            "file": item.file.model_dump(),
            "checked_gain": None if rules.gain is None else rules.gain.fingerprint,
            **item.details,
        }
    assert attempt.record is not None
    return attempt.record


def _settled(
    records: ImportRecords, item: _Item, exposure_id: str, record: Record, others: dict[str, Record]
) -> tuple[str, Record, dict[str, Record]]:
    """The exposure that the content belongs to now that its product is there; of two at once, one is demoted."""
    identity = records.settle(item.content_hash, item.params, {exposure_id: record})
    assert identity.record is not None  # at least that of this file
    return identity.exposure_id, identity.record, others | identity.demoted


class _ChangedFileError(Exception):
    """A file became another one while it was read."""


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
    if isinstance(error, (FormatError, StoreError)):
        return str(error)
    if isinstance(error, _ChangedFileError):
        return f"{path}: {error}; hand it over again when it is complete"
    if isinstance(error, OSError):
        said = f"{type(error).__name__}: {error.strerror or error}"
        return f"{path}: cannot be read ({said}); check permissions, links and the file system, and import again"
    return f"{path}: {type(error).__name__}: {error}"
