"""The commit records of the import: one exposure a content, one entry a file, and the identity of both.

Records are the truth. Everything here may be done twice or be cut off between two writes, and the next import of the
same files brings it to the same end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams
from tasks.records.source_file import SourceFile
from tasks.stores.commit import Product, Record, State
from tasks.stores.files.content_claims import Claim, claim, claims_of
from tasks.stores.files.identity import content_hash, id_by_content, id_by_path
from tasks.stores.files.index import KnownFile
from tasks.stores.session_store import SessionStore

STAGE = "import_session"
_STATED = ("pixel_size_angstrom", "voltage_kv", "spherical_aberration_mm", "total_dose")


class Identity(NamedTuple):
    """The exposure of a content."""

    exposure_id: str
    record: Record | None
    """None where nobody has imported it to an end."""
    is_own: bool
    """Whether this file was the first to claim it."""
    demoted: dict[str, Record]
    """Other exposures that had the same content, and are skipped from now on."""


class ImportRecords:
    """Reading and writing the records of one version of the import."""

    def __init__(self, store: SessionStore, version: int) -> None:
        self._store = store
        self._version = version

    def product(self, exposure_id: str) -> Product:
        return self._store.exposure_product(exposure_id, STAGE)

    def record(self, exposure_id: str) -> Record | None:
        return self.product(exposure_id).record()

    def put(
        self, exposure_id: str, state: State, reason: str, params: StageParams, inputs: Mapping[str, str],
        file: SourceFile | None = None, same_as: str = "", details: Mapping[str, object] | None = None,
    ) -> Record:  # fmt: skip
        """Record that a file is no exposure, and why; ``same_as`` is the exposure that has its content.

        ``file`` is left out where the exposure has no file any more.
        """
        about = dict(details or {})
        if file is not None:
            about["file"] = file.model_dump()
        if same_as:
            about["same_as"] = same_as
        return self.product(exposure_id).put_outcome(state, reason, STAGE, self._version, params, inputs, details=about)

    def claim(self, file: SourceFile, content: str, params: StageParams) -> Identity:
        """The exposure of a content that was just read from a file: a new one only where nobody has claimed it yet."""
        claims = claim(self._store, content, file.path, id_by_content(file.path, content))
        return self._settle(claims, content, params, {})._replace(is_own=claims[0].is_of(file.path))

    def owner(self, content: str) -> str:
        """The exposure that claimed a content first, as far as can be seen by now."""
        return claims_of(self._store, content)[0].exposure_id

    def settle(self, content: str, params: StageParams, known: Mapping[str, Record]) -> Identity:
        """The exposure of a content once its product is there; of two that were imported at once, one is demoted.

        ``known`` are records that were written just now.
        """
        return self._settle(claims_of(self._store, content), content, params, known)

    def _settle(
        self, claims: Sequence[Claim], content: str, params: StageParams, known: Mapping[str, Record]
    ) -> Identity:
        ids = list(dict.fromkeys(one.exposure_id for one in claims))
        records = {exposure_id: known.get(exposure_id) or self.record(exposure_id) for exposure_id in ids}
        done = [i for i in ids if (record := records[i]) is not None and record.state == "done"]
        first = done[0] if done else ids[0]
        demoted = {
            other: self.put(
                other, "skipped", f"same content as {first}, which was imported at the same time",
                params, {"file": content}, same_as=first,
            )
            for other in done[1:]
        }  # fmt: skip
        return Identity(first, records[first], False, demoted)

    def forgive(self, file: SourceFile, exposure_id: str, params: StageParams) -> dict[str, Record]:
        """Close the entry of a file that could not be read before and is an exposure now."""
        earlier = id_by_path(file.path)
        record = None if earlier == exposure_id else self.record(earlier)
        if record is None or record.state != "failed":
            return {}
        reason = f"{file.path} could be read later, and is exposure {exposure_id}"
        return {earlier: self.put(earlier, "skipped", reason, params, {})}

    def move(self, exposure_id: str, file: SourceFile) -> Record:
        """The exposure's file lies elsewhere now, or has another time of change; its product stays as it is."""
        product = self.product(exposure_id)
        record = product.record()
        assert record is not None, exposure_id
        about: dict[str, object] = {"file": file.model_dump()}
        if record.state == "done":
            about["exposure"] = {**record.details["exposure"], "source": file.path, "name": Path(file.path).name}
        return product.amend(about)


def holder(record: Record | None) -> SourceFile | None:
    """The file that a record is about, as it was when it was read; None where the record does not say."""
    found = record.details.get("file") if record is not None else None
    return SourceFile.model_validate(found) if found else None


def known_file(exposure_id: str, record: Record) -> KnownFile:
    """What the index has of the file that a record is about."""
    file = holder(record)
    assert file is not None, exposure_id
    details = record.details
    metadata = MicroscopeMetadata.model_validate(details.get("metadata") or {})
    return KnownFile(
        file.size, file.mtime_ns, record.inputs.get("file", ""), exposure_id, details.get("same_as", ""),
        record.state, record.reason, record.fingerprint, details.get("checked_gain"),
        stated_values(metadata), metadata_digest(metadata), details.get("sidecars", ""),
    )  # fmt: skip


def stated_values(metadata: MicroscopeMetadata) -> tuple[float | None, ...]:
    """What a product may depend on, in the order of `stated_metadata`."""
    return tuple(getattr(metadata, name) for name in _STATED)


def stated_metadata(values: Sequence[float | None]) -> MicroscopeMetadata:
    """As much of the metadata as parameters are made from."""
    return MicroscopeMetadata.model_validate(dict(zip(_STATED, values)))


def metadata_digest(metadata: MicroscopeMetadata) -> str:
    """Changes with anything that the microscope says; empty where no file says anything."""
    if not metadata.sources:
        return ""
    return hashlib.blake2b(metadata.model_dump_json().encode(), digest_size=8).hexdigest()


def is_still_there(file: SourceFile, content: str, known: Mapping[str, str]) -> bool:
    """Whether a file still has this content; it is read only where its time of change is another one.

    ``known`` are paths whose content was read just now.
    """
    now = SourceFile.seen(file.path)
    if file.path in known:
        return known[file.path] == content
    if now == file:
        return True
    try:
        return now.size == file.size and content_hash(Path(file.path)) == content
    except OSError:
        return False
