"""The image files of a folder as they are now."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from tasks.formats import FormatError
from tasks.formats.images import SUFFIXES
from tasks.records.source_file import SourceFile

logger = logging.getLogger(__name__)


def scan_folder(folder: Path, pattern: str | None, left_out: Iterable[str]) -> list[SourceFile]:
    """Files with an image's suffix, or those of the pattern, by path; hidden and partial ones are not there yet.

    ``left_out`` are files that are no exposures, such as the gain reference. Raises FormatError where the folder
    cannot be read or has no such file.
    """
    if not folder.is_dir():
        raise FormatError(f"{folder}: is not a folder that can be read; give the folder of the session's files")
    if pattern is None:
        paths = [
            Path(parent) / name
            for parent, _, names in os.walk(folder, onerror=_warn_of_folder)
            for name in names
            if name.lower().endswith(SUFFIXES)
        ]
    else:
        paths = [path for path in folder.glob(pattern) if not path.is_dir()]
    references = {Path(path).resolve() for path in left_out}
    names = {path.name for path in references}
    files = [
        SourceFile.seen(path)
        for path in sorted(paths)
        if not path.name.startswith(".")
        and not path.name.endswith(".partial")
        and not (references and (path.name in names or path.is_symlink()) and path.resolve() in references)
    ]
    if not files:
        looked_for = pattern or ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise FormatError(
            f"{folder}: found no file like {looked_for}; check the folder, or give the files' `pattern` (with ** for "
            "subfolders)"
        )
    return files


def _warn_of_folder(error: OSError) -> None:
    logger.warning("the folder %s cannot be read (%s); check permissions", error.filename, error.strerror)
