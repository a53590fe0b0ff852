"""The index of files and the claims of contents, made anew from the import's records."""

from __future__ import annotations

import logging
from datetime import datetime

from tasks.records.session import StageParams
from tasks.records.source_file import SourceFile
from tasks.stores.commit import Record
from tasks.stores.files.content_claims import are_lost, claim
from tasks.stores.files.import_records import ImportRecords, holder, known_file
from tasks.stores.files.index import FileIndex
from tasks.stores.session_store import SessionStore

logger = logging.getLogger(__name__)


def rebuild_where_lost(store: SessionStore, records: ImportRecords, index: FileIndex) -> None:
    """Bring index and claims back where one of them is gone; a store that has both is not read."""
    is_index_lost, are_claims_lost = index.is_lost(), are_lost(store)
    exposure_ids = store.exposure_ids() if is_index_lost or are_claims_lost else []
    if not exposure_ids:
        return
    logger.info("%s: found no index of its files; it is made from %d records", store.url, len(exposure_ids))
    latest: dict[str, tuple[str, Record]] = {}
    for exposure_id in exposure_ids:
        record = records.record(exposure_id)
        if record is None:
            continue
        file, content = holder(record), record.inputs.get("file")
        if are_claims_lost and content and not record.details.get("same_as"):
            claim(store, content, file.path if file else exposure_id, exposure_id, _written_at_ns(record))
        if file is None:
            continue
        known = latest.get(file.path)
        if known is not None:
            (older, _), (newer, newer_record) = sorted([known, (exposure_id, record)], key=lambda pair: _age(pair[1]))
            _set_aside(records, older, newer, file)
            exposure_id, record = newer, newer_record
        latest[file.path] = exposure_id, record
    for path, (exposure_id, record) in latest.items():
        index.remember(path, known_file(exposure_id, record))
    index.save()


def _age(record: Record) -> tuple[bool, str]:
    """Sorts the record of what lies at its path now behind others of that path."""
    file = holder(record)
    return file is not None and SourceFile.seen(file.path) == file, record.written_at


def _set_aside(records: ImportRecords, older: str, newer: str, file: SourceFile) -> None:
    """Two records of one path: the import ended before it could say that the older is no more."""
    record = records.record(older)
    assert record is not None
    records.put(
        older, "skipped", f"{file.path} has other content now, which is exposure {newer}", StageParams(), record.inputs
    )


def _written_at_ns(record: Record) -> int:
    return int(datetime.fromisoformat(record.written_at).timestamp() * 1e9) if record.written_at else 0
