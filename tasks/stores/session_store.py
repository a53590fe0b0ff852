"""The store of one session: its products, its exposures and its ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import zarr
from pydantic import ValidationError

from tasks.records.session import Session
from tasks.stores.commit import Product, software_version
from tasks.stores.layout import LAYOUT_VERSION
from tasks.stores.location import Location, StoreError, StoreWriteError

_GROUPS = ("session", "exposures", "particles", "classes", "maps", "scratch")


class SessionStore:
    """One Zarr group per session; products are addressed as in the layout table."""

    def __init__(self, location: Location, session: Session) -> None:
        self.location = location
        self.session = session

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
        session = Session(
            name=name, created_at=datetime.now(UTC).isoformat(timespec="seconds"), software=software_version()
        )
        try:
            store = location.zarr_store()
            for group in _GROUPS:
                zarr.open_group(store, path=group, mode="a", zarr_format=3)
            # the root comes last and carries the record: a store without it was never finished
            attributes = {"vitriflow": {"layout_version": LAYOUT_VERSION, "session": session.model_dump(mode="json")}}
            metadata = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            (location / "zarr.json").write_bytes(json.dumps(metadata, indent=1).encode())
        except OSError as error:
            raise StoreWriteError(
                f"store {location.url}: cannot be created ({type(error).__name__}: {error.strerror or error}); "
                "check the address, permissions and free space"
            ) from error
        return cls(location, session)

    @classmethod
    def open(cls, url: str) -> SessionStore:
        """Open an existing store; raises StoreError where there is none, or one with a newer layout."""
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
        return cls(location, session)

    def product(self, address: str) -> Product:
        """The product at an address of the layout, for instance ``exposures/<id>/correct_motion``."""
        return Product(self.location, address)

    def exposure_product(self, exposure_id: str, stage: str) -> Product:
        return self.product(f"exposures/{exposure_id}/{stage}")

    def exposure_ids(self) -> list[str]:
        """Every exposure that was seen, good or bad, in order of id."""
        return [name for name in (self.location / "exposures").list() if name != "zarr.json"]

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
