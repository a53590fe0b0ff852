"""What a file is known by: its content, and the exposure's id that is made of it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_BLOCK_BYTES = 4 * 1024 * 1024


def content_hash(path: Path) -> str:
    """BLAKE2b of the file, read in blocks."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def id_by_content(path: str, content: str) -> str:
    """Stem of the file name and the first eight digits of the content's hash."""
    return f"{_stem(path)}-{content[:8]}"


def id_by_path(path: str) -> str:
    """For a file that could not be read."""
    return f"{_stem(path)}-{hashlib.blake2b(path.encode(errors='replace'), digest_size=4).hexdigest()}"


def duplicate_id(path: str, content: str) -> str:
    """For a file whose content is another file's exposure."""
    return f"{id_by_content(path, content)}-{id_by_path(path)[-4:]}"


def _stem(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem).lstrip("._-")[:80] or "exposure"
