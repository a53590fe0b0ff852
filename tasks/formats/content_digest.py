"""What files hold, in one number: another content under the same name is another input."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from tasks.formats import FormatError

_BLOCK_BYTES = 1 << 22


def content_digest(*files: str | Path, remedy: str) -> str:
    """SHA-256 of files, one after the other.

    Raises
    ------
    FormatError
        Where one is not there, with the remedy.
    """
    digest = sha256()
    for path in map(Path, files):
        if not path.is_file():
            raise FormatError(f"{path}: there is no such file; {remedy}")
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
