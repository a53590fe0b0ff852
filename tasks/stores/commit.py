"""Commit records: how a product becomes readable, and the memory of what is done.

A stage writes into an attempt of its own. When all is written, one small file, ``commit.json``, is put beside the
attempts in a single step and names the attempt. A reader opens what that record names and nothing else, so half a
product is never read; a stage that finds its own fingerprint in the record has nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import zarr
import zarr.abc.store
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.records.retention import Expiry
from tasks.records.secrets import redacted
from tasks.stores.layout import creation_options, spec_of
from tasks.stores.record_memory import RecordMemory
from tasks.stores.storage.location import Location, StoreError, StoreUnreachableError, writing
from tasks.stores.storage.s3 import StoreRefusedError, StoreSilentError

Figure = float | int | str | bool | None
State = Literal["done", "failed", "skipped", "quarantined"]


class Record(BaseModel):
    """The outcome of one stage for one item."""

    model_config = ConfigDict(frozen=True)

    state: State
    stage: str
    stage_version: int
    fingerprint: str
    params: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    """Address of each product that was read -> its fingerprint then."""
    attempt: str | None = None
    """Folder under ``attempts/`` to read; None unless done, and of a product that is its record and no more."""
    n_files: int = 0
    n_bytes: int = 0
    digest: str = ""
    """SHA-256 of the sorted names and sizes of the attempt's files."""
    reason: str | None = None
    """Why it is not done."""
    figures: dict[str, Figure] = {}
    """Small results: what a microscopist asks for first."""
    details: dict[str, Any] = {}
    """Structured results that are read without opening the product, for instance the `Exposure`."""
    cpu_seconds: float = 0.0
    written_at: str = ""
    software: str = ""
    expired: Expiry | None = None
    """Set where a retention policy removed the files of a done product; all the rest of the record stays."""

    def is_current(self, expected_fingerprint: str) -> bool:
        """Whether it is of a done product with this fingerprint; one that expired is, until it is wanted back."""
        return self.state == "done" and self.fingerprint == expected_fingerprint and not self.is_wanted

    @property
    def is_wanted(self) -> bool:
        """Whether the product expired and is to be made again."""
        return self.expired is not None and self.expired.is_wanted


def fingerprint(stage: str, stage_version: int, params: BaseModel, inputs: Mapping[str, str]) -> str:
    """Hex digest that changes when the stage, its version, a parameter or an input's fingerprint does."""
    text = json.dumps(
        [stage, stage_version, params.model_dump(mode="json"), dict(sorted(inputs.items()))], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def software_version() -> str:
    try:
        return f"vitriflow {version('vitriflow')}"
    except PackageNotFoundError:
        return "vitriflow (not installed)"


class ExpiredProductError(StoreError):
    """A product whose files a retention policy removed."""


def children_seconds() -> float:
    """CPU time of the programs that this process started, all of its threads, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_SOURCE_HINT = {"import_session": " from the folder that still has its files"}


class Attempt:
    """A product being written; becomes readable when its ``with`` block ends without an error."""

    def __init__(self, product: str, location: Location, product_url: str) -> None:
        self._product = product
        self._location = location
        self._product_url = product_url
        self._attributes: dict[str, Any] = {}
        self._has_arrays = False
        self.figures: dict[str, Figure] = {}
        self.details: dict[str, Any] = {}
        self.cpu_seconds = 0.0
        """Of this thread, spent on the product before the block."""
        self.record: Record | None = None
        """The commit record, once the block has ended."""

    @cached_property
    def _store(self) -> zarr.abc.store.Store:
        return self._location.zarr_store()

    def close(self) -> dict[str, int]:
        """Write the product's group; returns the bytes of every file of the attempt.

        Without arrays and attributes it has no file. Zarr's own way to make a group takes ten times as long.
        """
        if not self._has_arrays and not self._attributes:
            return {}
        group = {"attributes": self._attributes, "zarr_format": 3, "node_type": "group"}
        content = json.dumps(group).encode()
        with writing(self._product_url):
            (self._location / "zarr.json").fill_bytes(content)
            return self._location.file_sizes() if self._has_arrays else {"zarr.json": len(content)}

    def write(self, name: str, values: NDArray) -> None:
        """Write a whole array in one assignment; layout, codec and unit come from the layout table."""
        values = np.asarray(values)
        spec = spec_of(self._product, name)
        self._has_arrays = True
        with writing(self._product_url):
            array = zarr.create_array(
                self._store,
                name=name,
                shape=values.shape,
                dtype=values.dtype,
                fill_value=0,
                zarr_format=3,
                config={"write_empty_chunks": True},
                **creation_options(spec, name, values.shape, str(values.dtype)),
            )
            if values.size:
                array[...] = values

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add JSON attributes to the product's group."""
        self._attributes |= attributes


class Reader:
    """A committed product; arrays are read when they are sliced."""

    def __init__(self, record: Record, group: zarr.Group) -> None:
        self.record = record
        self._group = group

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self._group.attrs)

    @property
    def names(self) -> list[str]:
        return sorted(self._group.array_keys())

    def __contains__(self, name: str) -> bool:
        return name in self._group

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._array(name).shape)

    def item_bytes(self, name: str) -> int:
        """Size of one value of an array."""
        return int(self._array(name).dtype.itemsize)

    def __getitem__(self, name: str) -> NDArray:
        """The whole array."""
        return self.slice(name, ...)

    def slice(self, name: str, index: Any) -> NDArray:
        """Part of an array, for instance ``reader.slice("frames", slice(3, 5))``."""
        return np.asarray(self._array(name)[index])

    def _array(self, name: str) -> zarr.Array:
        try:
            array = self._group[name]
        except KeyError as error:
            raise StoreError(
                f"product of {self.record.stage}: found arrays {self.names}, expected {name!r}; run its stage again"
            ) from error
        assert isinstance(array, zarr.Array)
        return array


class Product:
    """One address of a session's store: its record, and reading and writing it.

    In a version of a session, what the version does not have is read from its parents; writing never touches them.
    """

    def __init__(
        self,
        root: Location,
        address: str,
        parents: Sequence[Location] = (),
        memory: RecordMemory[Record] | None = None,
    ) -> None:
        self.address = address
        self._memory = memory
        self._location = Location(f"{root.url}/{address}")
        self._parents = tuple(Location(f"{parent.url}/{address}") for parent in parents)

    @cached_property
    def _record_location(self) -> Location:
        return self._location / "commit.json"

    def record(self) -> Record | None:
        """The commit record, None where the stage has not run here."""
        known = None if self._memory is None else self._memory.recall(self._location.url)
        return self._read_record() if known is None else known

    def record_if_done(self) -> Record | None:
        """The record of a product that is done, None otherwise."""
        record = self.record()
        return record if record is not None and record.state == "done" else None

    def done_record(self, what: str, remedy: str = "run its stage first") -> Record:
        """The record of a product that is done.

        Raises
        ------
        StoreError
            Where it is not, with ``what`` and the reason.
        """
        record = self.record()
        if record is None or record.state != "done":
            raise StoreError(f"{what}: {record.reason if record else f'not there; {remedy}'}")
        return record

    def remember(self, record: Record) -> None:
        """Take note of a record that a worker has just written."""
        if self._memory is not None:
            self._memory.remember(self._location.url, record)

    def _read_record(self) -> Record | None:
        for location in (self._location, *self._parents):
            content = (location / "commit.json").read_bytes()
            if content is None:
                continue
            try:
                record = Record.model_validate_json(content)
            except ValidationError as error:
                raise StoreError(
                    f"product {location.url}: its commit record cannot be read ({error.error_count()} errors); "
                    "remove commit.json to have the stage run again"
                ) from error
            self.remember(record)
            return record
        return None

    @property
    def is_inherited(self) -> bool:
        """Whether the record is that of a parent."""
        return bool(self._parents) and self._record_location.read_bytes() is None and self.record() is not None

    def is_current(self, expected_fingerprint: str) -> bool:
        """Whether a done product with this fingerprint is there."""
        record = self.record()
        return record is not None and record.is_current(expected_fingerprint)

    def read(self) -> Reader:
        """Open what the commit record names; raises StoreError where nothing is done."""
        record = self.record()
        if record is not None and record.expired is not None:
            raise ExpiredProductError(
                f"product {self._location.url}: its {record.n_files} files with {record.n_bytes} bytes were removed on "
                f"{record.expired.at[:10]} by the retention policy ({record.expired.rule}); to have it back, run "
                f"`vitriflow restore` for it, then process the session again{_SOURCE_HINT.get(record.stage, '')}"
            )
        if record is not None and record.state == "done" and record.attempt is None:
            return Reader(record, zarr.group({}))
        if record is None or record.attempt is None:
            found = "nothing" if record is None else f"state {record.state!r} ({record.reason})"
            raise StoreError(
                f"product {self._location.url}: found {found}, expected a committed product; run its stage first"
            )
        for location in self._places_of(record.attempt):
            try:
                return Reader(record, zarr.open_group(location.zarr_store(), mode="r", zarr_format=3))
            except FileNotFoundError:
                continue
        raise StoreError(
            f"product {self._location.url}: the attempt {record.attempt} that its record names is gone; "
            "run its stage again"
        )

    def _places_of(self, attempt: str) -> list[Location]:
        """Where an attempt may lie: a version's own record may name the attempt of a parent."""
        return [location / "attempts" / attempt for location in (self._location, *self._parents)]

    def verify(self) -> None:
        """Check that the files of the committed attempt are those that were committed; raises StoreError."""
        record = self.record()
        if record is None or record.attempt is None:
            return
        listings = (place.file_sizes() for place in self._places_of(record.attempt))
        found = _digest(next((sizes for sizes in listings if sizes), {}))
        if found[2] != record.digest:
            raise StoreError(
                f"product {self._location.url}: found {found[0]} files with {found[1]} bytes, its record says "
                f"{record.n_files} with {record.n_bytes}; run its stage again"
            )

    @contextmanager
    def write(
        self,
        stage: str,
        stage_version: int,
        params: BaseModel,
        inputs: Mapping[str, str],
    ) -> Iterator[Attempt]:
        """Write an attempt; it is committed when the block ends well, and removed when it raises.

        Raises
        ------
        StoreWriteError
            Where the attempt cannot be written, or a store stops answering; other errors of the block pass as they are.
        """
        name = uuid.uuid4().hex
        location = self._location / "attempts" / name
        try:
            started = time.thread_time() + children_seconds()
            attempt = Attempt(self.address, location, self._location.url)
            yield attempt
            n_files, n_bytes, digest = _digest(attempt.close())
            spent = time.thread_time() + children_seconds() - started
        except (StoreSilentError, StoreRefusedError) as error:  # while what the block needs was read
            location.remove()
            raise StoreUnreachableError(f"store of {self._location.url}: cannot be read: {error}") from error
        except BaseException:
            location.remove()
            raise
        attempt.record = self._put(
            Record(
                state="done", stage=stage, stage_version=stage_version,
                fingerprint=fingerprint(stage, stage_version, params, inputs),
                params=params.model_dump(mode="json"), inputs=dict(inputs), attempt=name if n_files else None,
                n_files=n_files, n_bytes=n_bytes, digest=digest, figures=attempt.figures,
                details=attempt.details, cpu_seconds=round(attempt.cpu_seconds + spent, 3),
            )
        )  # fmt: skip

    def put_outcome(
        self, state: State, reason: str, stage: str, stage_version: int, params: BaseModel, inputs: Mapping[str, str],
        figures: Mapping[str, Figure] | None = None, details: Mapping[str, Any] | None = None,
    ) -> Record:  # fmt: skip
        """Record that this item failed, was skipped or quarantined; no product is named."""
        return self._put(
            Record(
                state=state, reason=redacted(reason), stage=stage, stage_version=stage_version,
                fingerprint=fingerprint(stage, stage_version, params, inputs),
                params=params.model_dump(mode="json"), inputs=dict(inputs), figures=dict(figures or {}),
                details=dict(details or {}),
            )
        )  # fmt: skip

    def amend(self, details: Mapping[str, Any], figures: Mapping[str, Figure] | None = None) -> Record:
        """Add details and figures to the record; its state, its attempt and its fingerprint stay."""
        record = self._read_record()
        if record is None:
            raise StoreError(f"product {self._location.url}: has no record to add to; run its stage first")
        changed = {"details": {**record.details, **details}, "figures": {**record.figures, **(figures or {})}}
        return self._put(record.model_copy(update=changed))

    def put_expiry(self, expiry: Expiry) -> None:
        """Leave the record of a done product, which from now on names no files and says where they went."""
        record = self._read_record()
        if record is None or record.state != "done":
            raise StoreError(f"product {self._location.url}: is not done, so it cannot expire; look at its record")
        changed = record.model_copy(update={"attempt": None, "expired": expiry})
        self._record_location.write_bytes(changed.model_dump_json(indent=1).encode())
        self.remember(changed)

    def _put(self, record: Record) -> Record:
        stamped = record.model_copy(
            update={
                "written_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "software": software_version(),
            }
        )
        self._record_location.write_bytes(stamped.model_dump_json(indent=1).encode())
        self.remember(stamped)
        return stamped

    def attempts(self) -> list[str]:
        """Names of all attempts, committed or not."""
        return (self._location / "attempts").list()

    def sweep(self) -> int:
        """Remove the attempts that the record does not name; returns how many. Never while a stage runs."""
        record = self.record()
        stale = [a for a in self.attempts() if record is None or a != record.attempt]
        for attempt in stale:
            (self._location / "attempts" / attempt).remove()
        return len(stale)


def _digest(sizes: Mapping[str, int]) -> tuple[int, int, str]:
    listing = "\n".join(f"{name} {size}" for name, size in sorted(sizes.items()))
    return len(sizes), sum(sizes.values()), hashlib.sha256(listing.encode()).hexdigest()
