"""A bundle in a folder: written apart, given its name when it is whole, and known by the check sums of its manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

DEPOSITION = "session/deposition"
"""Address of the record of a session's newest bundle."""
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
_BLOCK_BYTES = 4 * 1024 * 1024


class BundleError(ValueError):
    """A bundle that cannot be written where it is wanted, or is not what its manifest says."""


def next_folder(store_url: str) -> Path:
    """A folder beside a store that is not there yet: ``<store>-bundle-1``, ``-2`` …

    Raises
    ------
    BundleError
        Where the store lies in no folder.
    """
    if "://" in store_url:
        raise BundleError(f"{store_url}: lies in no folder, and a bundle is one; give a new `folder` for it")
    store = Path(store_url)
    names = (f"{store.stem}-bundle-{number}" for number in count(1))
    return next(folder for folder in map(store.with_name, names) if not folder.exists())


def require_new(target: Path) -> None:
    """Raise BundleError where there is something at ``target`` already; an empty folder counts as nothing."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target}: is there already, and a bundle is never changed; give another folder")


@contextmanager
def new_bundle(target: Path) -> Iterator[Path]:
    """A folder to write into; it becomes ``target`` when the block ends well, and is removed where it raises.

    Raises
    ------
    BundleError
        Where there is something at ``target`` already, or nothing can be written beside it.
    """
    require_new(target)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise BundleError(
            f"{target}: cannot be written ({error.strerror or error}); give a folder where you may write"
        ) from error
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        raise BundleError(
            f"{target}: cannot be written ({error.strerror or error}: {error.filename}); look at its space and"
            " permissions"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_manifest(folder: Path, about: Mapping[str, Any], links: Mapping[str, str]) -> None:
    """``manifest.json`` and ``SHA256SUMS`` of all files in a folder.

    Parameters
    ----------
    about
        What else the manifest says.
    links
        File that is a link -> BLAKE2b-256 of its content when it was imported; it is not read again.
    """
    files = []
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        name = path.relative_to(folder).as_posix()
        row: dict[str, Any] = {"name": name, "bytes": path.stat().st_size}
        if name in links:
            row |= {"blake2b_256": links[name], "link_to": str(path.readlink())}
        else:
            row |= digests(path)
        files.append(row)
    (folder / MANIFEST).write_text(json.dumps({**about, "files": files}, indent=1, ensure_ascii=False))
    sums = [*((row["sha256"], row["name"]) for row in files if "sha256" in row)]
    sums.append((digests(folder / MANIFEST)["sha256"], MANIFEST))
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for digest, name in sums))


def digests(path: Path) -> dict[str, str]:
    """SHA-256 and MD5 of a file, read once."""
    found = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            for digest in found.values():
                digest.update(block)
    return {name: digest.hexdigest() for name, digest in found.items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises
    ------
    BundleError
        Where there is none.
    """
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: is no bundle of `vitriflow deposit` ({error}); give its folder") from error


def require_whole(folder: Path, manifest: Mapping[str, Any]) -> int:
    """Number of files, after a look at each: size and SHA-256, of links the size alone.

    Raises
    ------
    BundleError
        With all files that are missing or others than the manifest says.
    """
    wrong = []
    for row in manifest["files"]:
        path = folder / row["name"]
        if not path.is_file():
            wrong.append(f"{row['name']} is missing")
        elif path.stat().st_size != row["bytes"]:
            wrong.append(f"{row['name']} has {path.stat().st_size} bytes, not {row['bytes']}")
        elif "sha256" in row and digests(path)["sha256"] != row["sha256"]:
            wrong.append(f"{row['name']} has another content")
    if wrong:
        raise BundleError(
            f"{folder}: {len(wrong)} of {len(manifest['files'])} files are not as they were deposited: "
            f"{'; '.join(wrong[:5])}{' …' if len(wrong) > 5 else ''}; deposit again into another folder"
        )
    return len(manifest["files"])
