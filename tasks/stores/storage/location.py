"""Where a store lives: one factory for folders and ``s3://`` addresses.

Secrets never stand in an address. S3 credentials and the endpoint come from the usual environment variables
(``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``AWS_PROFILE``), or the credentials from a
block of the Prefect server (`tasks.stores.storage.credentials`). A server that fails for a
while is waited for (`tasks.stores.storage.s3`).
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import zarr.abc.store
from zarr.storage import FsspecStore

from tasks.records.secrets import HIDDEN, SecretError, find_secrets, redacted, refuse_secrets
from tasks.stores.storage.credentials import block_name, credentials_of
from tasks.stores.storage.ownership import FolderStore, follow_folder, make_folders, refusal
from tasks.stores.storage.s3 import Patience, PatientS3, StoreRefusedError, StoreSilentError, patience_seconds


class StoreError(RuntimeError):
    """A store that cannot be opened, read or written, or whose content is not what its record says."""


class StoreWriteError(StoreError):
    """A store that cannot be written at all: no other item will fare better."""


class StoreUnreachableError(StoreWriteError):
    """A store that does not answer, or refuses who asks: no other item will fare better, be it read or written."""


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Errors of the system inside of the block as those of a store that cannot be written."""
    try:
        yield
    except OSError as error:
        raise _unwritable(url, error) from error


@dataclass(frozen=True, slots=True)
class FileStatus:
    """Size and age of a file."""

    n_bytes: int
    modified_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Location:
    """An address inside a store, local or S3; ``/`` goes down."""

    url: str
    """Absolute folder path, or s3://bucket/prefix; no trailing slash."""

    @classmethod
    def of(cls, url: str | Path) -> Location:
        text = str(url)
        if any(find_secrets(text)):  # the words cost more than the look
            refuse_secrets(text, f"store {redacted(text)}")
        if text.startswith("s3://"):
            if re.search("[:@]", text.removeprefix("s3://").split("/")[0]):
                raise SecretError(
                    f"store s3://{HIDDEN}: found a login in the address, expected s3://bucket/prefix; set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or VITRIFLOW_S3_BLOCK, in its place"
                )
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
            return FolderStore(self.url)
        return FsspecStore(_s3(is_asynchronous=True), path=self.url.removeprefix("s3://"))

    def read_bytes(self) -> bytes | None:
        """Content of the file here, None where there is none."""
        try:
            if self.is_local:
                with open(self.url, "rb", buffering=0) as file:
                    return file.readall()
            return _s3().cat_file(self.url, max_concurrency=1)  # whole, without asking for its size first
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.url, error) from error

    def write_bytes(self, content: bytes) -> None:
        """Put a whole file here in one step: readers see the old content or the new, never a part.

        It outlives a loss of power.
        """
        with writing(self.url):
            if self.is_local:
                path = Path(self.url)
                make_folders(path.parent)
                partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
                try:
                    with open(partial, "wb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    follow_folder(partial, path.parent)
                    partial.replace(path)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
            else:
                _s3().pipe_file(self.url, content)

    def fill_bytes(self, content: bytes) -> None:
        """Write a file that nobody looks for before a later commit record vouches for it."""
        with writing(self.url):
            if self.is_local:
                path = Path(self.url)
                make_folders(path.parent)
                path.write_bytes(content)
                follow_folder(path, path.parent)
            else:
                _s3().pipe_file(self.url, content)

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
            except OSError as error:
                raise _unreadable(self.url, error) from error
        return sorted(name for name in names if name and not name.startswith("."))

    def file_sizes(self) -> dict[str, int]:
        """Relative path -> bytes of every file below, partial ones left out."""
        if self.is_local:
            found_files = _files_below(self.url, "")
            return {name: status.n_bytes for name, status in found_files if not name.endswith(".partial")}
        fs = _s3()
        fs.invalidate_cache()
        prefix = self.url.removeprefix("s3://") + "/"
        try:
            found: dict[str, dict[str, Any]] = fs.find(self.url, detail=True)
        except OSError as error:
            raise _unreadable(self.url, error) from error
        return {path.removeprefix(prefix): int(info["size"]) for path, info in found.items()}

    def remove_file(self) -> None:
        """Delete the file here; absent is well."""
        if self.is_local:
            Path(self.url).unlink(missing_ok=True)
        else:
            self._remove_on_s3(is_recursive=False)

    def files(self) -> dict[str, FileStatus]:
        """Relative path -> status of every file below, partial ones included; one listing on S3."""
        if self.is_local:
            return dict(_files_below(self.url, ""))
        fs = _s3()
        fs.invalidate_cache()
        prefix = self.url.removeprefix("s3://") + "/"
        try:
            found: dict[str, dict[str, Any]] = fs.find(self.url, detail=True)
        except OSError as error:
            raise _unreadable(self.url, error) from error
        return {
            path.removeprefix(prefix): FileStatus(int(info["size"]), info["LastModified"].timestamp())
            for path, info in found.items()
            if path.startswith(prefix)
        }

    def partial_files(self) -> dict[str, FileStatus]:
        """Name -> status of hidden files directly in this folder that a killed process did not finish."""
        partial = Path(self.url).glob(".*.partial") if self.is_local else ()
        found = {path.name: _status(path) for path in partial}
        return {name: status for name, status in found.items() if status is not None}

    def modified_at(self) -> float:
        """Seconds since 1970 at which this folder changed; now where that is not known."""
        try:
            return Path(self.url).stat().st_mtime if self.is_local else time.time()
        except FileNotFoundError:
            return time.time()

    def remove(self) -> None:
        """Delete everything below; absent is well."""
        if self.is_local:
            shutil.rmtree(self.url, ignore_errors=True)
        else:
            self._remove_on_s3(is_recursive=True)

    def _remove_on_s3(self, is_recursive: bool) -> None:
        try:
            if is_recursive:
                _s3().rm(self.url, recursive=True)
            else:
                _s3().rm_file(self.url)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unwritable(self.url, error) from error


def _status(path: Path) -> FileStatus | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileStatus(found.st_size, found.st_mtime)


def _files_below(folder: str, prefix: str) -> Iterator[tuple[str, FileStatus]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files_below(entry.path, f"{prefix}{entry.name}/")
                else:
                    status = entry.stat(follow_symlinks=False)
                    yield prefix + entry.name, FileStatus(status.st_size, status.st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        return


_IDENTITY = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "VITRIFLOW_S3_BLOCK",
)


def _s3(is_asynchronous: bool = False) -> PatientS3:
    identity = tuple(os.environ.get(name) for name in _IDENTITY)
    clients = _clients(os.getpid(), os.environ.get("AWS_ENDPOINT_URL"), identity, patience_seconds())
    return clients[1] if is_asynchronous else clients[0]


@lru_cache(maxsize=4)
def _clients(
    _pid: int, endpoint: str | None, _identity: tuple[str | None, ...], patience: float
) -> tuple[PatientS3, PatientS3]:
    """One pair a process and identity, to be called plainly and by zarr: a fork or a changed key gets its own."""
    shared = Patience(endpoint or "AWS", patience)
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if endpoint:
        options["endpoint_url"] = endpoint
    block = block_name()
    if block is not None:
        options |= credentials_of(block)
    return PatientS3(shared, **options), PatientS3(shared, asynchronous=True, **options)


def _unreadable(url: str, error: OSError) -> StoreError:
    if isinstance(error, (StoreSilentError, StoreRefusedError)):
        return StoreUnreachableError(f"store {url}: cannot be read: {error}")
    if isinstance(error, PermissionError):
        return StoreError(f"store {url}: may not be read here: {refusal(Path(url))}")
    return StoreError(f"store {url}: cannot be read ({_words(error)}); check the address")


def _unwritable(url: str, error: OSError) -> StoreWriteError:
    if isinstance(error, (StoreSilentError, StoreRefusedError)):
        return StoreUnreachableError(f"store {url}: cannot be written: {error}")
    return StoreWriteError(
        f"store {url}: cannot be written ({_words(error)}); check free space, permissions and credentials"
    )


def _words(error: OSError) -> str:
    return redacted(f"{type(error).__name__}: {error.strerror or error}")
