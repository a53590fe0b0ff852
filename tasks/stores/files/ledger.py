"""Files of one content become one exposure; files that changed, moved or are there twice are said so in the ledger.

The index of files is written last: what it says of a file is true of records and ledger, however the import ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tasks.records.session import StageParams, StageReport
from tasks.records.source_file import SourceFile
from tasks.stores.commit import Record, State
from tasks.stores.files.identity import duplicate_id
from tasks.stores.files.import_records import STAGE, ImportRecords, holder, is_still_there, known_file
from tasks.stores.files.index import FileIndex, KnownFile
from tasks.stores.ledger import write_index
from tasks.stores.session_store import SessionStore


@dataclass(frozen=True)
class ImportedFile:
    """What the import found of one file."""

    file: SourceFile
    exposure_id: str
    record: Record | None
    """None where another file with this content is being imported, and it has to be looked at again."""
    content_hash: str = ""
    """Empty where it could not be read to an end."""
    is_fresh: bool = False
    """Whether it was read into the store just now."""
    others: Mapping[str, Record] = field(default_factory=dict)
    """Entries besides its own that changed with it."""


class Line(NamedTuple):
    """What became of a file."""

    path: str
    exposure_id: str
    state: State
    reason: str | None
    is_fresh: bool = False

    def add_to(self, report: StageReport) -> None:
        if self.state == "done":
            (report.done if self.is_fresh else report.kept).append(self.exposure_id)
        else:
            entries = report.skipped if self.state == "skipped" else report.failed
            entries[self.exposure_id] = self.reason or ""


class FileLedger:
    """The entries of the files that one import looks at."""

    def __init__(
        self,
        store: SessionStore,
        records: ImportRecords,
        index: FileIndex,
        unchanged: Mapping[str, KnownFile],
        params_of: Callable[[str], StageParams],
    ) -> None:
        """
        Parameters
        ----------
        unchanged
            By path, the files that are looked at together with these, and need nothing done.
        params_of
            Parameters of the file at a path, for the records of those that are set aside.
        """
        self._store = store
        self._records = records
        self._index = index
        self._unchanged = {path: one.exposure_id for path, one in unchanged.items() if not one.same_as}
        self._params_of = params_of
        self._replacing: list[ImportedFile] = []

    def enter(self, imported: Sequence[ImportedFile]) -> list[Line]:
        """Bring the entries of a few files to the store; files that replace another exposure wait for `finish`."""
        shared = self._share_out(imported)
        self._write_index({key: record for one in shared for key, record in one.others.items()})
        is_replacing = [self._replaced_by(one) != "" for one in shared]
        self._replacing += [one for one, is_it in zip(shared, is_replacing) if is_it]
        return self._remember([one for one, is_it in zip(shared, is_replacing) if not is_it])

    def finish(self) -> list[Line]:
        """Enter the files that replace another exposure, once all of its other files are known."""
        changed: dict[str, Record] = {}
        for one in self._replacing:
            changed |= self._set_replaced_aside(one, self._replaced_by(one))
        self._write_index(changed)
        return self._remember(self._replacing)

    def _remember(self, imported: Sequence[ImportedFile]) -> list[Line]:
        self._write_index({one.exposure_id: one.record for one in imported if one.record is not None})
        lines = []
        for one in imported:
            assert one.record is not None, one.file.path
            if one.content_hash:
                known = known_file(one.exposure_id, one.record)
                self._index.remember(one.file.path, known._replace(size=one.file.size, mtime_ns=one.file.mtime_ns))
            lines.append(Line(one.file.path, one.exposure_id, one.record.state, one.record.reason, one.is_fresh))
        self._index.save()
        self._index.close(one.exposure_id for one in imported if one.record and not one.record.is_wanted)
        return lines

    def _write_index(self, outcomes: Mapping[str, Record]) -> None:
        if outcomes:
            write_index(self._store, STAGE, outcomes)

    def _share_out(self, imported: Sequence[ImportedFile]) -> list[ImportedFile]:
        """Give every exposure one file: the one it has, or another with its content where that one is gone."""
        contents = {one.file.path: one.content_hash for one in imported if one.content_hash}
        groups: dict[str, list[ImportedFile]] = {}
        for one in imported:
            groups.setdefault(one.exposure_id if one.content_hash else one.file.path, []).append(one)
        return [one for group in groups.values() for one in self._share(group, contents)]

    def _share(self, group: list[ImportedFile], contents: Mapping[str, str]) -> list[ImportedFile]:
        first = group[0]
        if not first.content_hash:
            return group
        exposure_id = first.exposure_id
        record = first.record if len(group) == 1 else self._records.record(exposure_id)
        kept = holder(record)
        is_known = kept is not None and (
            any(one.file.path == kept.path for one in group) or self._unchanged.get(kept.path) == exposure_id
        )
        if kept is None or not (is_known or is_still_there(kept, first.content_hash, contents)):
            kept = min(group, key=lambda one: (one.file.path.count(os.sep), one.file.path)).file
            record = self._records.move(exposure_id, kept)
        result = []
        for one in group:
            if one.file.path != kept.path:
                result.append(self._set_duplicate_aside(one, kept))
                continue
            if one.file != kept:  # copied again: the same content with another time
                record = self._records.move(exposure_id, one.file)
            result.append(replace(one, record=record, is_fresh=any(other.is_fresh for other in group)))
        return result

    def _set_duplicate_aside(self, one: ImportedFile, kept: SourceFile) -> ImportedFile:
        own = duplicate_id(one.file.path, one.content_hash)
        reason = f"same content as {kept.path} ({one.exposure_id})"
        record = self._records.record(own)
        if record is None or (record.state, record.reason) != ("skipped", reason):
            record = self._records.put(
                own, "skipped", reason, self._params_of(one.file.path), {"file": one.content_hash}, one.file,
                same_as=one.exposure_id,
            )  # fmt: skip
        return replace(one, exposure_id=own, record=record, is_fresh=False)

    def _replaced_by(self, one: ImportedFile) -> str:
        """The entry that the path had until now; empty where it has the same one."""
        known = self._index.recall(one.file.path)
        is_other = known is not None and one.content_hash and known.exposure_id != one.exposure_id
        return known.exposure_id if known is not None and is_other else ""

    def _set_replaced_aside(self, one: ImportedFile, before: str) -> dict[str, Record]:
        known = self._index.recall(one.file.path)
        record = self._records.record(before)
        now = holder(record)
        if known is None or record is None or (now is not None and now.path != one.file.path):
            return {}  # that exposure has another file by now
        is_same = known.content_hash == one.content_hash
        what = "is the file of" if is_same else "has other content now, which is"
        reason = f"{one.file.path} {what} exposure {one.exposure_id}"
        if (record.state, record.reason) == ("skipped", reason):
            return {}
        params = self._params_of(one.file.path)
        same_as = one.exposure_id if is_same else ""
        return {
            before: self._records.put(before, "skipped", reason, params, {"file": known.content_hash}, same_as=same_as)
        }
