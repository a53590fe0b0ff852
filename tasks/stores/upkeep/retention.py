"""What of a session's store has expired, its removal, and how to get it back.

A product is removed record first: the record then names no files and says when and by which rule they went, and the
files follow. Whatever interrupts that, nobody reads half a product, and the next sweep finishes it. The record keeps
its fingerprint, so what was made from the product stays current.

What another product would have to be made from stays (`tasks.stores.upkeep.dependencies`). A version reads what it
does not have from its parents: a parent loses only what has expired, and is not needed, in every version as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.records.retention import PRODUCT_CLASSES, Expiry, ProductClass, RetentionPolicy, SweptItem
from tasks.stores.commit import Product
from tasks.stores.files.import_records import STAGE
from tasks.stores.files.index import reopen
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreWriteError
from tasks.stores.upkeep.dependencies import View
from tasks.stores.upkeep.survey import Kept, Survey, walk

_REMOVALS_AT_ONCE = 8


@dataclass
class Removal:
    """Files that are to go."""

    item: SweptItem
    place: Location
    """Folder of the attempt."""
    records: list[Kept] = field(default_factory=list)
    """Those that name the attempt; they change before its files go."""
    rule: str = ""
    is_file: bool = False
    own_record: Location | None = None
    """Goes too, and first; of a scratch product, to which nothing refers."""


@dataclass
class Plan:
    """What a sweep is going to do."""

    removals: list[Removal] = field(default_factory=list)
    held: list[SweptItem] = field(default_factory=list)
    n_already_expired: int = 0


# what goes


def plan_sweep(found: Survey, policy: RetentionPolicy, now: datetime) -> Plan:
    """What the policy lets go now, and what it would let go were it not needed."""
    views = [View.of(chain) for chain in found.chains]
    needs = [view.needed(policy.is_kept_for_failed) for view in views]
    is_over = {name: _is_over(found, policy.days(name), now) for name in PRODUCT_CLASSES}
    plan = Plan(n_already_expired=sum(product.expiry is not None for product in found.products.values()))
    for address, product in sorted(found.products.items()):
        records = [view.products.get(address) for view in views]
        for attempt in product.attempts:
            # a version's own record may name the attempt of its parent
            readers = [(i, r) for i, r in enumerate(records) if r is not None and r.attempt == attempt]
            if not readers:
                _plan_leftover(plan, policy, product, attempt, [r for r in records if r is not None], now)
                continue
            name = readers[0][1].product_class
            if name is None or not all(
                views[i].is_used(r) if policy.is_until_used(name) else is_over[name] for i, r in readers
            ):
                continue
            rule = f"{name}: {getattr(policy, name)}"
            why = next((needs[i][address] for i, _ in readers if address in needs[i]), None)
            usage = product.usage(attempt)
            item = SweptItem(
                address=address, attempt=attempt, product_class=name,
                n_files=usage.n_files, n_bytes=usage.n_bytes, reason=why or rule,
            )  # fmt: skip
            if why is not None:
                plan.held.append(item)
            elif name == "scratch":
                plan.removals.append(_with_record(product, item))
            else:
                own = {r.store.url: r for _, r in readers}
                place = product.store / address / "attempts" / attempt
                plan.removals.append(Removal(item, place, list(own.values()), rule))
        _plan_partial_files(plan, policy, product, now)
    return plan


def _is_over(found: Survey, days: int | None, now: datetime) -> bool:
    return days is not None and now - found.last_activity >= timedelta(days=days)


def _plan_leftover(
    plan: Plan, policy: RetentionPolicy, product: Kept, attempt: str, records: list[Kept], now: datetime
) -> None:
    """An attempt that no record names: superseded, of a stage that was killed, or half removed."""
    half_removed = [r.product_class for r in records if r.expiry is not None and r.expiry.attempt == attempt]
    days = policy.days("leftover_attempts")
    usage = product.usage(attempt)
    if half_removed:
        reason = "its removal was interrupted"
    elif days is not None and now - datetime.fromtimestamp(usage.newest, UTC) >= timedelta(days=days):
        reason = f"leftover_attempts: {policy.leftover_attempts}"
    else:
        return
    item = SweptItem(
        address=product.address, attempt=attempt, n_files=usage.n_files, n_bytes=usage.n_bytes, reason=reason,
        product_class=(half_removed[0] if half_removed else None) or "leftover_attempts",
    )  # fmt: skip
    plan.removals.append(Removal(item, product.store / product.address / "attempts" / attempt))


def _plan_partial_files(plan: Plan, policy: RetentionPolicy, product: Kept, now: datetime) -> None:
    days = policy.days("leftover_attempts")
    for name, status in product.partial_files.items():
        if days is not None and now - datetime.fromtimestamp(status.modified_at, UTC) >= timedelta(days=days):
            item = SweptItem(
                address=product.address, attempt=name, product_class="leftover_attempts",
                n_files=1, n_bytes=status.n_bytes, reason=f"leftover_attempts: {policy.leftover_attempts}",
            )  # fmt: skip
            plan.removals.append(Removal(item, product.store / product.address / name, is_file=True))


def _with_record(product: Kept, item: SweptItem) -> Removal:
    """A scratch product goes with its record."""
    counted = item.model_copy(update={"n_files": item.n_files + 1, "n_bytes": item.n_bytes + product.record_bytes})
    place = product.store / product.address
    return Removal(counted, place / "attempts" / item.attempt, own_record=place / "commit.json")


# the removal


def remove(removals: Sequence[Removal], now: datetime, check: Callable[[], None]) -> Iterator[SweptItem]:
    """Remove files, records first; yields what is gone. StoreWriteError where the store does not let them go.

    ``check`` is called before each removal, and stops the sweep by raising.
    """

    def one(removal: Removal) -> SweptItem:
        check()
        return _remove(removal, now)

    is_local = all(removal.place.is_local for removal in removals)
    pool = ThreadPoolExecutor(1 if is_local else _REMOVALS_AT_ONCE)
    try:
        yield from pool.map(one, removals)
    finally:
        pool.shutdown(cancel_futures=True)


def _remove(removal: Removal, now: datetime) -> SweptItem:
    at = now.isoformat(timespec="seconds")
    for record in removal.records:
        expiry = Expiry(at=at, rule=removal.rule, attempt=removal.item.attempt)
        Product(record.store, record.address).put_expiry(expiry)
    try:
        if removal.own_record is not None:
            removal.own_record.remove_file()
        if removal.is_file:
            removal.place.remove_file()
        else:
            removal.place.remove()
        n_left = len(removal.place.files())
    except OSError as error:
        raise StoreWriteError(
            f"store {removal.place.url}: cannot be removed ({error.strerror or error}); check permissions, then sweep "
            "again"
        ) from error
    if removal.own_record is not None and removal.place.is_local:
        _remove_empty_folders(Path(removal.place.url))
    if n_left:
        raise StoreWriteError(
            f"store {removal.place.url}: {n_left} files could not be removed; check permissions, then sweep again"
        )
    return removal.item


def _remove_empty_folders(attempt: Path) -> None:
    """Folders that held nothing but one attempt of a scratch product, up to that of its computation."""
    for folder in list(attempt.parents)[:3]:
        try:
            folder.rmdir()
        except OSError:  # others lie there
            return


# and back


def restore(store: SessionStore, addresses: Iterable[str]) -> list[str]:
    """Mark expired products to be made again by the next run, with what they are made from where that expired too.

    In a version the mark is the version's own, and so is what the next run makes.
    """
    marked: list[str] = []
    waiting = list(addresses)
    while waiting:
        address = waiting.pop()
        product = store.product(address)
        record = product.record()
        if record is None or record.expired is None or record.expired.is_wanted:
            continue
        if record.stage == STAGE and address.startswith("exposures/"):
            reopen(store, [address.split("/")[1]])
        product.put_expiry(record.expired.model_copy(update={"is_wanted": True}))
        marked.append(address)
        waiting += [name for name in record.inputs if "/" in name]
    return sorted(marked)


def expired_products(store: SessionStore) -> dict[str, ProductClass]:
    """Address -> class of every product of a store, or of its parents, that expired and is not wanted back."""
    products = View.of([walk(location) for location in (store.location, *store.parents)]).products
    return {
        address: product.product_class
        for address, product in sorted(products.items())
        if product.expiry is not None and not product.is_wanted and product.product_class is not None
    }
