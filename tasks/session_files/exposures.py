"""Which exposures of a session are handed on, and how their files are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.records.exposure import Exposure
from tasks.stores.products.exposure_store import exposure as exposure_of
from tasks.stores.products.optics_groups import optics_groups
from tasks.stores.session_store import SessionStore


@dataclass(frozen=True)
class SessionFile:
    """A file to be written."""

    name: str
    """Path below the folder."""
    write: Callable[[Path], None]
    """Writes it, whole, under the path it is given."""


def file_name(identifier: str) -> str:
    """The identifier without what RELION cannot have in a path; ids stay different by the hash they end in."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", identifier)


def is_done(store: SessionStore, address: str) -> bool:
    """Whether the product at an address is there."""
    return store.product(address).record_if_done() is not None


def is_accepted(store: SessionStore, exposure_id: str) -> bool:
    """Whether the exposure has a micrograph and no stage before the picks gave it up."""
    imported = store.exposure_product(exposure_id, "import_session").record()
    if imported is None or imported.state != "done":
        return False
    curated = store.exposure_product(exposure_id, "curate_exposures").record()
    if curated is not None and curated.state != "done":
        return False
    is_movie = exposure_of(store, exposure_id).kind == "movie"
    return not is_movie or is_done(store, f"exposures/{exposure_id}/correct_motion")


def handed_on(store: SessionStore) -> dict[str, Exposure]:
    """The accepted exposures, each with its optics group where grouping has run."""
    numbers = optics_groups(store)
    accepted = [e for e in store.exposure_ids() if is_accepted(store, e)]
    return {e: _in_group(exposure_of(store, e), numbers) for e in accepted}


def _in_group(exposure: Exposure, numbers: dict[str, int]) -> Exposure:
    """The exposure with its optics group, where grouping has run."""
    number = numbers.get(exposure.id)
    return exposure if number is None else exposure.model_copy(update={"optics_group": number})
