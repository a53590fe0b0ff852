"""The store of one session: its products, its exposures and its ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zarr
from pydantic import ValidationError

from tasks.records.session import Session
from tasks.stores.commit import Product, Record, software_version
from tasks.stores.layout import LAYOUT_VERSION
from tasks.stores.record_memory import RecordMemory, current_memory
from tasks.stores.segments import Segments
from tasks.stores.storage.location import Location, StoreError, StoreWriteError
from tasks.stores.storage.ownership import Ownership, claim

_VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_GROUPS = ("session", "exposures", "particles", "classes", "maps", "models", "validations", "scratch")


class SessionStore:
    """One Zarr group per session; products are addressed as in the layout table.

    A version of a session is a store of its own that lies over its parent's: what it does not have is the parent's.
    """

    def __init__(
        self,
        location: Location,
        session: Session,
        parents: tuple[Location, ...] = (),
        memory: RecordMemory[Record] | None = None,
    ) -> None:
        self.location = location
        self._memory = memory
        self.session = session
        self.parents = parents
        """Of a version: the store that it was made from, then that one's parent, and so on."""

    def __getstate__(self) -> dict[str, object]:
        """What travels to a worker knows nothing of what was remembered here."""
        return {**self.__dict__, "_memory": None}

    @property
    def url(self) -> str:
        return self.location.url

    @classmethod
    def create(cls, url: str, name: str | None = None) -> SessionStore:
        """Create the store, or open it where it exists already.

        Without a ``name`` the session is called like the store, without its suffix.
        """
        location = Location.of(url)
        name = name or location.url.rsplit("/", 1)[-1].removesuffix(".zarr")
        existing = (location / "zarr.json").read_bytes()
        if existing is not None:
            return cls.open(url)
        its = _claimed(location)
        session = Session(
            name=name, created_at=datetime.now(UTC).isoformat(timespec="seconds"), software=software_version(),
            owner=its.owner, group=its.group,
        )  # fmt: skip
        _write_root(location, session, None)
        return cls(location, session)

    def branch(self, version: str) -> SessionStore:
        """Create the version of this name beside the store, or open it where it exists already.

        It holds everything its parent holds, now and later, until its own stages write something else.
        """
        if not _VERSION_NAME.fullmatch(version):
            raise ValueError(f"version {version!r}: expected letters, digits, '.', '_' and '-', at most 40 of them")
        location = self.version_location(version)
        if (location / "zarr.json").read_bytes() is not None:
            return SessionStore.open(location.url)
        # the parent knows first: whoever removes things from it has to ask its versions
        (self.location / "versions" / f"{version}.json").write_bytes(json.dumps({"name": version}).encode())
        name = f"{self.session.name[: 99 - len(version)]}-{version}"
        its = _claimed(location, self.location)
        session = self.session.model_copy(
            update={
                "name": name, "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "owner": its.owner, "group": its.group,
            }
        )  # fmt: skip
        _write_root(location, session, self.location.url.rsplit("/", 1)[-1])
        return SessionStore(location, session, (self.location, *self.parents))

    def version_location(self, version: str) -> Location:
        folder, name = self.location.url.rsplit("/", 1)
        return Location(f"{folder}/{name.removesuffix('.zarr')}@{version}.zarr")

    def versions(self) -> list[str]:
        """Names of the versions that were made from this store."""
        return [n.removesuffix(".json") for n in (self.location / "versions").list() if n.endswith(".json")]

    @staticmethod
    def exists(url: str) -> bool:
        """Whether there is a session at an address."""
        return (Location.of(url) / "zarr.json").read_bytes() is not None

    @classmethod
    def open(cls, url: str) -> SessionStore:
        """Open an existing store; raises StoreError where there is none, or one with a newer layout.

        Inside a block of `tasks.stores.record_memory.remembered_records` it remembers what that block knows.
        """
        location = Location.of(url)
        content = (location / "zarr.json").read_bytes()
        if content is None:
            raise StoreError(
                f"store {location.url}: found no session (no zarr.json); check the address or start a session there"
            )
        try:
            header: dict[str, Any] = json.loads(content)["attributes"]["vitriflow"]
            found = int(header["layout_version"])
            session = Session.model_validate(header["session"])
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise StoreError(
                f"store {location.url}: its zarr.json is not that of a Vitriflow session ({error})"
            ) from error
        if found > LAYOUT_VERSION:
            raise StoreError(
                f"store {location.url}: layout version {found} is newer than {LAYOUT_VERSION}, the one known here; "
                "update vitriflow to read it"
            )
        parent = header.get("parent")
        if parent is None:
            return cls(location, session, memory=current_memory())
        beside = cls.open(f"{location.url.rsplit('/', 1)[0]}/{parent}")
        return cls(location, session, (beside.location, *beside.parents), current_memory())

    def product(self, address: str) -> Product:
        """The product at an address of the layout, for instance ``exposures/<id>/correct_motion``."""
        # what belongs to the session as a whole is written by items of its stages, too, on their workers
        memory = self._memory if address.startswith("exposures/") else None
        return Product(self.location, address, self.parents, memory)

    def exposure_product(self, exposure_id: str, stage: str) -> Product:
        return self.product(f"exposures/{exposure_id}/{stage}")

    def exposure_ids(self) -> list[str]:
        """Every exposure that was seen, good or bad, in order of id."""
        return self.names("exposures")

    def names(self, group: str) -> list[str]:
        """Names of what lies in a group, for instance ``maps``; a version has its parents' too."""
        found = {name for location in (self.location, *self.parents) for name in (location / group).list()}
        return sorted(found - {"zarr.json"})

    def index(self, name: str) -> Segments:
        """The index ``ledger/<name>`` of this store, its parents' left out."""
        return Segments(self.location / "ledger" / name)

    def read_index(self, name: str) -> Iterator[dict[str, Any]]:
        """Segments of ``ledger/<name>``, the parents' first: a later entry replaces an earlier one."""
        for location in (*reversed(self.parents), self.location):
            yield from Segments(location / "ledger" / name).read()

    def fingerprints(self, addresses: list[str]) -> dict[str, str]:
        """Address -> fingerprint of products that are read; raises StoreError where one is not done."""
        found = {}
        for address in addresses:
            record = self.product(address).record()
            if record is None or record.state != "done":
                reason = "has not run" if record is None else f"{record.state}: {record.reason}"
                raise StoreError(f"{address}: {reason}")
            found[address] = record.fingerprint
        return found


def _claimed(location: Location, like: Location | None = None) -> Ownership:
    """Whose a new store is; its folder is made with the group and mode of the settings, or those of ``like``."""
    try:
        return claim(
            Path(location.url) if location.is_local else None,
            Path(like.url) if like is not None and like.is_local else None,
        )
    except OSError as error:
        raise StoreWriteError(
            f"store {location.url}: cannot be created ({type(error).__name__}: {error.strerror or error}); "
            "check the address, permissions and free space"
        ) from error


def _write_root(location: Location, session: Session, parent: str | None) -> None:
    """Write an empty store; the root comes last and carries the record: without it a store was never finished."""
    header: dict[str, Any] = {"layout_version": LAYOUT_VERSION, "session": session.model_dump(mode="json")}
    if parent is not None:
        header["parent"] = parent
    try:
        store = location.zarr_store()
        for group in _GROUPS:
            zarr.open_group(store, path=group, mode="a", zarr_format=3)
        metadata = {"zarr_format": 3, "node_type": "group", "attributes": {"vitriflow": header}}
        (location / "zarr.json").write_bytes(json.dumps(metadata, indent=1).encode())
    except OSError as error:
        raise StoreWriteError(
            f"store {location.url}: cannot be created ({type(error).__name__}: {error.strerror or error}); "
            "check the address, permissions and free space"
        ) from error
