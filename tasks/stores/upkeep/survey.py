"""What a session's store holds: every product of it, of its versions and of its parents, without opening an array.

Cost: one small file read a product and one listing a product (a folder) or an exposure (S3). What is remembered of a
product are some hundred bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.records.retention import Expiry, ProductClass
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import FileStatus, Location, StoreError

_NOT_PRODUCTS = frozenset({"ledger", "leases", "versions", "zarr.json", "report.html"})
_CLASSES: dict[tuple[str, str], ProductClass] = {
    ("exposures", "import_session"): "imported_movies",
    ("exposures", "correct_motion"): "micrographs",
    ("exposures", "estimate_ctf"): "power_spectra",
    ("exposures", "pick_particles"): "picks",
    ("exposures", "extract_particles"): "particle_stacks",
}
_CLASSES_OF_GROUPS: dict[str, ProductClass] = {
    "particles": "particle_sets",
    "classes": "classes",
    "maps": "maps",
    "predictions": "predictions",
    "detections": "detections",
    "models": "models",
    "validations": "validations",
    "rounds": "validations",
    "verdicts": "verdicts",
    "comparisons": "comparisons",
    "scratch": "scratch",
}
_LISTINGS_AT_ONCE = 16


@dataclass(slots=True)
class Usage:
    """Files of one attempt."""

    n_files: int
    n_bytes: int
    newest: float
    """Seconds since 1970 of the file changed last; of the folder where it has no file."""


@dataclass(slots=True)
class Kept:
    """What is remembered of one product of one store, without its arrays."""

    store: Location
    address: str
    is_recorded: bool = False
    state: str = ""
    stage: str = ""
    fingerprint: str = ""
    is_micrograph: bool = False
    inputs: dict[str, str] = field(default_factory=dict)
    """Those that are products."""
    attempt: str | None = None
    written_at: str = ""
    expiry: Expiry | None = None
    record_bytes: int = 0
    attempts: dict[str, Usage | None] = field(default_factory=dict)
    """Those that lie in this store; their usage where listing them told it."""
    partial_files: dict[str, FileStatus] = field(default_factory=dict)
    """Records that a process which was killed did not finish."""

    @property
    def product_class(self) -> ProductClass | None:
        group, *rest = self.address.split("/")
        if group in _CLASSES_OF_GROUPS:
            return _CLASSES_OF_GROUPS[group]
        found = _CLASSES.get((group, rest[-1])) if rest else None
        return "micrographs" if found == "imported_movies" and self.is_micrograph else found

    @property
    def is_wanted(self) -> bool:
        return self.expiry is not None and self.expiry.is_wanted

    def usage(self, attempt: str) -> Usage:
        found = self.attempts[attempt]
        if found is None:
            place = self.store / self.address / "attempts" / attempt
            files = place.files()
            newest = max((file.modified_at for file in files.values()), default=place.modified_at())
            found = self.attempts[attempt] = Usage(len(files), sum(f.n_bytes for f in files.values()), newest)
        return found


Chain = list[dict[str, Kept]]
"""Address -> product of a store, then of its parent, and so on: what a reader of the store goes through."""


@dataclass
class Survey:
    """Everything that one store and its versions hold."""

    products: dict[str, Kept]
    """Of the store itself."""
    chains: list[Chain]
    """Of the store, then of each of its versions."""
    last_activity: datetime
    """Of any of them."""


def survey(store: SessionStore) -> Survey:
    """Walk a store, its versions and its parents."""
    held = {one.url: walk(one) for one in store.parents}
    chains, last = [], []
    for one in [store, *versions_of(store)]:
        held[one.url] = walk(one.location)
        chains.append([held[location.url] for location in (one.location, *one.parents)])
        last += [_activity_of(held[one.url]), *_marks(one)]
    return Survey(chains[0][0], chains, max(last))


def versions_of(store: SessionStore) -> Iterator[SessionStore]:
    """The versions made from a store, those made from them, and so on; parents before children."""
    for name in store.versions():
        location = store.version_location(name)
        if (location / "zarr.json").read_bytes() is None:  # announced and not there: its mark counts as activity
            continue
        version = SessionStore.open(location.url)
        yield version
        yield from versions_of(version)


def _marks(store: SessionStore) -> list[datetime]:
    """When the store was made, and when versions of it were announced."""
    marks = [status.modified_at for status in (store.location / "versions").files().values()]
    return [_time(store.session.created_at), *(datetime.fromtimestamp(mark, UTC) for mark in marks)]


def _activity_of(products: dict[str, Kept]) -> datetime:
    return _time(max((product.written_at for product in products.values()), default=""))


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def walk(location: Location) -> dict[str, Kept]:
    """Every product of one store, by address."""
    groups = [name for name in location.list() if name not in _NOT_PRODUCTS]
    units = [f"{group}/{name}" for group in groups for name in (location / group).list() if name != "zarr.json"]
    found: dict[str, Kept] = {}
    # threads wait for a server's answers; on a folder there is nothing to wait for
    with ThreadPoolExecutor(1 if location.is_local else _LISTINGS_AT_ONCE) as pool:
        for products in pool.map(lambda unit: _products_below(location, unit), units):
            found |= {product.address: product for product in products}
    return found


def _products_below(location: Location, address: str) -> list[Kept]:
    place = location / address
    if place.is_local:
        names = place.list()
        if "commit.json" not in names and "attempts" not in names:
            return [p for name in names if name != "zarr.json" for p in _products_below(location, f"{address}/{name}")]
        attempts: dict[str, Usage | None] = dict.fromkeys((place / "attempts").list())
        found = _kept(location, address, (place / "commit.json").read_bytes(), attempts)
        found.partial_files = place.partial_files()
        return [found]
    return _products_listed(location, address, place.files())


def _products_listed(location: Location, address: str, files: dict[str, FileStatus]) -> list[Kept]:
    """The products below an address, from one listing of all keys there."""
    attempts: dict[str, dict[str, Usage | None]] = {}
    recorded = set()
    for path, status in files.items():
        product, sign, rest = f"/{path}".rpartition("/commit.json")
        if sign and not rest and "/attempts/" not in product:
            recorded.add(product)
            continue
        product, sign, rest = f"/{path}".partition("/attempts/")
        if sign:
            name = rest.split("/")[0]
            usage = attempts.setdefault(product, {}).get(name) or Usage(0, 0, 0.0)
            attempts[product][name] = Usage(
                usage.n_files + 1, usage.n_bytes + status.n_bytes, max(usage.newest, status.modified_at)
            )
    found = []
    for product in sorted(recorded | set(attempts)):
        record = (location / f"{address}{product}/commit.json").read_bytes() if product in recorded else None
        found.append(_kept(location, f"{address}{product}", record, attempts.get(product, {})))
    return found


def _kept(store: Location, address: str, content: bytes | None, attempts: dict[str, Usage | None]) -> Kept:
    if content is None:
        return Kept(store, address, attempts=attempts)
    try:
        record: dict[str, Any] = json.loads(content)
        return Kept(
            store,
            address,
            is_recorded=True,
            state=record["state"],
            stage=record["stage"],
            fingerprint=record["fingerprint"],
            is_micrograph=(record["details"].get("exposure") or {}).get("kind") == "micrograph",
            inputs={name: value for name, value in record["inputs"].items() if "/" in name},
            attempt=record["attempt"],
            written_at=record["written_at"],
            expiry=Expiry.model_validate(record["expired"]) if record.get("expired") else None,
            record_bytes=len(content),
            attempts=attempts,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"product {address}: its commit record cannot be read ({type(error).__name__}), so nobody knows what it "
            "needs; remove its commit.json and run its stage again, then sweep"
        ) from error


def find_sessions(root: Location, depth: int = 3) -> Iterator[str]:
    """Addresses of the sessions below a location, versions included, or of the one that it is."""
    if root.is_local and not Path(root.url).is_dir():
        return
    try:
        content = (root / "zarr.json").read_bytes()
    except StoreError:  # opening it says why
        yield root.url
        return
    if content is not None:
        if b'"vitriflow"' in content:
            yield root.url
        return
    if depth:
        for name in root.list():
            yield from find_sessions(root / name, depth - 1)
