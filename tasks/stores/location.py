"""Where a store lives: one factory for folders and ``s3://`` addresses.

Secrets never stand in an address. S3 credentials and the endpoint come from the usual environment variables
(``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``AWS_PROFILE``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import zarr.abc.store
from zarr.storage import FsspecStore, LocalStore


class StoreError(RuntimeError):
    """A store that cannot be opened, read or written, or whose content is not what its record says."""


class StoreWriteError(StoreError):
    """A store that cannot be written at all: no other item will fare better."""


@dataclass(frozen=True)
class Location:
    """An address inside a store, local or S3; ``/`` goes down."""

    url: str
    """Absolute folder path, or s3://bucket/prefix; no trailing slash."""

    @classmethod
    def of(cls, url: str | Path) -> Location:
        text = str(url)
        if text.startswith("s3://"):
            return cls(text.rstrip("/"))
        if "://" in text and not text.startswith("file://"):
            raise StoreError(
                f"store {text}: found scheme {text.split('://')[0]!r}, expected a folder or s3://bucket/prefix"
            )
        return cls(str(Path(text.removeprefix("file://")).expanduser().resolve()))

    @property
    def is_local(self) -> bool:
        return not self.url.startswith("s3://")

    def __truediv__(self, part: str) -> Location:
        return Location(f"{self.url}/{part}")

    def zarr_store(self) -> zarr.abc.store.Store:
        """Zarr store whose root is this location."""
        if self.is_local:
            return LocalStore(self.url)
        return FsspecStore.from_url(self.url, storage_options={"asynchronous": True, **_s3_options()})

    def read_bytes(self) -> bytes | None:
        """Content of the file here, None where there is none."""
        try:
            if self.is_local:
                return Path(self.url).read_bytes()
            return _s3().cat_file(self.url)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"store {self.url}: cannot be read ({_words(error)}); check the address and the credentials"
            ) from error

    def write_bytes(self, content: bytes) -> None:
        """Put a whole file here in one step: readers see the old content or the new, never a part."""
        try:
            if self.is_local:
                path = Path(self.url)
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
                try:
                    with open(partial, "wb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    partial.replace(path)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        partial.unlink()
            else:
                _s3().pipe_file(self.url, content)
        except OSError as error:
            raise StoreWriteError(
                f"store {self.url}: cannot be written ({_words(error)}); check free space, permissions and credentials"
            ) from error

    def list(self) -> list[str]:
        """Names of what lies directly below, without hidden and partial files; empty where nothing does."""
        if self.is_local:
            try:
                names = [path.name for path in Path(self.url).iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
        else:
            fs = _s3()
            fs.invalidate_cache()
            try:
                names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(self.url, detail=False)]
            except FileNotFoundError:
                return []
        return sorted(name for name in names if name and not name.startswith("."))

    def file_sizes(self) -> dict[str, int]:
        """Relative path -> bytes of every file below, partial ones left out."""
        if self.is_local:
            root = Path(self.url)
            return {
                str(p.relative_to(root)): p.stat().st_size
                for p in root.rglob("*")
                if p.is_file() and not p.name.endswith(".partial")
            }
        fs = _s3()
        fs.invalidate_cache()
        prefix = self.url.removeprefix("s3://") + "/"
        found: dict[str, dict[str, Any]] = fs.find(self.url, detail=True)
        return {path.removeprefix(prefix): int(info["size"]) for path, info in found.items()}

    def remove_file(self) -> None:
        """Delete the file here; absent is well."""
        if self.is_local:
            Path(self.url).unlink(missing_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                _s3().rm_file(self.url)

    def remove(self) -> None:
        """Delete everything below; absent is well."""
        if self.is_local:
            shutil.rmtree(self.url, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                _s3().rm(self.url, recursive=True)


def _s3_options() -> dict[str, Any]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return {"endpoint_url": endpoint} if endpoint else {}


def _s3() -> Any:
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    return _s3_of(os.getpid(), tuple(os.environ.get(name) for name in names))


@lru_cache(maxsize=4)
def _s3_of(_pid: int, _identity: tuple[str | None, ...]) -> Any:
    """One client a process and identity: a forked process or a changed key gets its own."""
    return fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True, **_s3_options())


def _words(error: OSError) -> str:
    return f"{type(error).__name__}: {error.strerror or error}"
