"""What the sections of a report share: the store, its ledger, and the pictures that were made."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.plots import page
from tasks.records.exposure import Exposure
from tasks.report.words import value_words
from tasks.stores.commit import Reader, Record
from tasks.stores.ledger import Ledger
from tasks.stores.products.verdict_store import standing_verdict
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError

logger = logging.getLogger(__name__)


SET_STAGES = (
    ("classify_2d", "classes/2d"),
    ("build_initial_map", "maps/initial"),
    ("refine_map", "maps/refined"),
    ("sharpen_map", "maps/sharpened"),
)


@dataclass
class Contents:
    """What the sections share, and the pictures they made."""

    store: SessionStore
    ledger: Ledger
    max_exposures: int = 0
    max_classes: int = 0
    thumbnail_px: int = 0
    low_pass_angstrom: float = 0.0
    web_folder: str | None = None
    pictures: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Name -> PNG and description; the artifacts."""
    cards: list[str] = field(default_factory=list)
    """Markdown of the exposures; one artifact."""
    scripts: tuple[str, ...] = ()
    """Of the page; sections that need some set them."""

    def show(self, name: str, content: bytes, alt: str, caption: str = "") -> str:
        self.pictures[name] = (content, alt)
        return page.picture(content, alt, caption)

    def record(self, address: str) -> Record | None:
        """The record of a product that is done, None otherwise or where it cannot be read."""
        try:
            return self.store.product(address).record_if_done()
        except StoreError as error:
            logger.warning("report_session: %s", error)
            return None

    def read(self, address: str) -> Reader | None:
        if self.record(address) is None:
            return None
        try:
            return self.store.product(address).read()
        except StoreError as error:
            logger.warning("report_session: %s", error)
            return None


def array_of(reader: Reader | None, name: str) -> NDArray | None:
    return reader[name] if reader is not None and name in reader else None


def exposure_of(contents: Contents, exposure_id: str) -> Exposure | None:
    record = contents.record(f"exposures/{exposure_id}/import_session")
    if record is None:
        return None
    try:
        return Exposure.model_validate(record.details.get("exposure"))
    except ValidationError:
        logger.warning("report_session: exposure %s: its import record describes no exposure", exposure_id)
        return None


def has_movies(contents: Contents) -> bool:
    """Whether the first exposure that was imported is a movie; true while nothing is known."""
    imported = (exposure_of(contents, line.exposure) for line in contents.ledger.lines)
    first = next((exposure for exposure in imported if exposure is not None), None)
    return first is None or first.kind == "movie"


def figures_line(record: Record | None, before: str = "") -> str:
    """The figures of a product in a line, as its stage named them."""
    if record is None or not record.figures:
        return ""
    told = (
        f"{name.replace('_', ' ')} {value_words(value)}" for name, value in record.figures.items() if value is not None
    )
    return page.paragraph(before + " · ".join(told), "meta")


def made_in(contents: Contents, group: str) -> list[tuple[str, Record]]:
    """Name and record of all that is done in a group, ``models`` say, in the order in which it was made."""
    found = [(name, contents.record(f"{group}/{name}")) for name in contents.store.names(group)]
    return sorted(((n, r) for n, r in found if r is not None), key=lambda made: (made[1].written_at, made[0]))


def validation_record(contents: Contents, name: str, model: Record) -> Record | None:
    """That of this very model, not of one that had its name before."""
    judged = contents.record(f"validations/{name}")
    return judged if judged is not None and judged.inputs.get(f"models/{name}") == model.fingerprint else None


def verdict_record(contents: Contents) -> Record | None:
    """That of the verdict which holds for the session as it is."""
    try:
        return standing_verdict(contents.store)
    except StoreError as error:
        logger.warning("report_session: %s", error)
        return None


def begins_with_a_map(contents: Contents) -> bool:
    """Whether the session has no exposure, but a map of another program."""
    return not contents.ledger.lines and contents.record("maps/imported") is not None


def stages_of_models(contents: Contents) -> list[tuple[str, str]]:
    """Stage and address of an imported map, of models and of what was found of them, in the order of their making."""
    made = [f"{group}/{name}" for group in ("models", "validations") for name in contents.store.names(group)]
    records = [(contents.record(address), address) for address in ("maps/imported", *made)]
    known = [(record, address) for record, address in records if record is not None]
    return [(record.stage, address) for record, address in sorted(known, key=lambda one: one[0].written_at)]
