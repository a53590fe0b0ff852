"""Files for which nothing has to be done, told without reading them or their records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.formats.sidecar_state import FolderNames, sidecar_state
from tasks.intake.rules import ImportRules
from tasks.records.source_file import SourceFile
from tasks.stores.files.import_records import metadata_digest, stated_metadata
from tasks.stores.files.index import FileIndex, KnownFile
from tasks.stores.session_store import SessionStore


def settled_files(
    store: SessionStore, index: FileIndex, files: Sequence[SourceFile], rules: ImportRules, is_scan: bool
) -> dict[str, KnownFile]:
    """Path -> what the index has of the files that did not change, nor what their exposures depend on.

    With ``is_scan`` the files are all of a session; then its exposures and the folders are listed, once.
    """
    known = {file.path: one for file in files if (one := index.recall(file.path)) and one.is_unchanged(file)}
    owners = {one.exposure_id for one in known.values() if not one.same_as}
    stored = set(store.exposure_ids()) if is_scan else None
    names = FolderNames() if is_scan else None
    return {
        path: one
        for path, one in known.items()
        if one.exposure_id not in index.reopened
        and (stored is None or one.exposure_id in stored)
        and (one.same_as in owners if one.same_as else _is_current(path, one, rules, names))
    }


def _is_current(path: str, one: KnownFile, rules: ImportRules, names: FolderNames | None) -> bool:
    if one.state == "failed" or not _is_same_metadata(Path(path), one, rules, names):
        return False
    params = rules.params_of(path, stated_metadata(one.stated))
    if one.state != "done":
        return one.fingerprint == rules.fingerprint_failed(params, one.content_hash, one.metadata_digest)
    has_checked_gain = rules.gain is None or one.checked_gain == rules.gain.fingerprint
    return has_checked_gain and one.fingerprint == rules.fingerprint_done(params, one.content_hash)


def _is_same_metadata(path: Path, one: KnownFile, rules: ImportRules, names: FolderNames | None) -> bool:
    """Whether the microscope's own files say what they said, as far as can be told without reading many of them."""
    if sidecar_state(path, rules.mirror, names) != one.sidecars:
        return False
    may_be_new = not one.metadata_digest and (names is None or names.has_mdoc(path))
    return not may_be_new or not metadata_digest(rules.metadata(path)[0])
