"""What is kept, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import console, readable_errors
from flows.sweep_sessions import POLICY, read_policy
from tasks.records.retention import PRODUCT_CLASSES, SweepReport, SweptItem
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError
from tasks.stores.upkeep.retention import expired_products
from tasks.stores.upkeep.retention import restore as mark_wanted
from tasks.stores.upkeep.survey import find_sessions
from tasks.sweep_session import sweep_session


def sweep(
    stores: Annotated[list[str], typer.Argument(help="Sessions, or folders and s3:// prefixes that hold sessions.")],
    is_deleting: Annotated[bool, typer.Option("--delete/--dry-run", help="Remove, or print what would go.")] = False,
    policy: Annotated[Path, typer.Option(help="YAML file that says how long each class is kept.")] = POLICY,
) -> None:
    """Remove expired products and what killed stages left; never what another product has to be made from."""
    with readable_errors():
        chosen = read_policy(policy)
        urls = [url for root in stores for url in find_sessions(Location.of(root))]
        if not urls:
            raise StoreError(f"{', '.join(stores)}: found no session; check the address")
        _show_sweep([sweep_session.fn(url, chosen, not is_deleting) for url in urls])


def restore(
    session: Annotated[str, typer.Argument(help="Store of the session.")],
    product: Annotated[
        list[str] | None, typer.Option(help="Class (imported_movies, …) or address of a product; all when left out.")
    ] = None,
) -> None:
    """Mark expired products to be made again by the next `process`, with what they are made from."""
    with readable_errors():
        store = SessionStore.open(session)
        expired = expired_products(store)
        unknown = set(product or []) - set(expired) - set(expired.values()) - set(PRODUCT_CLASSES)
        if unknown:
            raise ValueError(
                f"{', '.join(sorted(unknown))}: has not expired and is no class; expected one of "
                f"{', '.join(sorted(set(expired.values()))) or 'none: nothing expired here'}"
            )
        chosen = [a for a, name in expired.items() if not product or a in product or name in product]
        marked = mark_wanted(store, chosen)
        console.print(f"{len(marked)} products will be made again by the next `vitriflow process` of {store.url}")


def _show_sweep(reports: list[SweepReport]) -> None:
    is_dry_run = all(report.is_dry_run for report in reports)
    verb = "would be removed" if is_dry_run else "removed"
    table = Table("session", "class", "products", "bytes", "reason", title=verb)
    for column in table.columns[2:4]:
        column.justify = "right"
    for report in reports:
        for items, words in ((report.removed, ""), (report.held, "kept: ")):
            groups: dict[tuple[str, str], list[SweptItem]] = {}
            for item in items:
                reason = item.reason if not words else item.reason.split("/")[-1]
                groups.setdefault((item.product_class, reason), []).append(item)
            for (name, reason), group in groups.items():
                n_bytes = sum(item.n_bytes for item in group)
                table.add_row(report.session, name, str(len(group)), f"{n_bytes:,}", f"{words}{reason}")
        if report.refused:
            table.add_row(report.session, "", "", "", report.refused)
    if table.rows:
        console.print(table)
    total = sum(report.n_bytes for report in reports)
    console.print(f"{total:,} bytes {verb} in {len(reports)} sessions", highlight=False)
    if is_dry_run and total:
        console.print("nothing was removed; give --delete to remove it")
