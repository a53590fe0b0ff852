"""One page that tells an operator what became of a session: how many exposures, how good, and what went wrong.

The page holds all of its pictures and needs no network. It is written from the commit records, so a session that is
half done has a report that says what is not there yet. The same pictures become artifacts of the Prefect run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.plots import page
from tasks.records.session import StageParams
from tasks.report.artifacts import artifact_key, show_image, show_markdown
from tasks.report.classes import classes_2d
from tasks.report.contents import Contents, begins_with_a_map
from tasks.report.docking import docking_section, is_docked
from tasks.report.exposures import exposure_cards
from tasks.report.live import show_course, show_page, show_problems
from tasks.report.maps import final_map, initial_map
from tasks.report.model import model_section
from tasks.report.session import course, trouble
from tasks.report.stages import parameters_and_cost
from tasks.report.states import compared_states, states_section
from tasks.report.summary import header, summary
from tasks.report.verdict import show_verdict, verdict_of, verdict_section
from tasks.report.versions import versions_section
from tasks.report.words import markdown_text
from tasks.stores.ledger import read_ledger
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError

logger = logging.getLogger(__name__)

_PICTURES_IN_PREFECT = ("fsc", "map-projections", "model", "orientations", "classes-2d")
"""The others are in the report; the server keeps each of them twice, as an artifact and in its log of events."""
_CARDS_IN_PREFECT = 3


class ReportSessionParams(StageParams):
    """How much of a session is shown."""

    max_exposures: int = Field(default=24, ge=0, le=200)
    """Exposures shown with pictures: those not used first (up to a third), the others evenly over the session."""
    max_classes: int = Field(default=60, ge=0, le=200)
    thumbnail_px: int = Field(default=400, ge=100, le=1000)
    """Longer side of a micrograph."""
    low_pass_angstrom: float = Field(default=20.0, ge=0)
    """Of the micrographs that are shown."""
    web_folder: str | None = None
    """Address at which a web server of the facility shows the folder of the stores, for instance
    ``https://files.example.org/sessions``: the Prefect UI then links to the report. A browser follows no link from
    there to a file."""


@task(name="report_session", cache_policy=NO_CACHE)
def report_session(session_url: str, params: ReportSessionParams) -> str:
    """Write ``report.html`` into the store and return its address.

    Holds one exposure, or one map and its mask, in memory at a time, and the page itself (< 15 MB).
    """
    store = SessionStore.open(session_url)
    ledger = read_ledger(store)
    contents = Contents(store, ledger, **params.model_dump())
    sections = _shown(contents)
    body = [_section(contents, *section) for section in sections]
    links = [(identifier, label) for identifier, label, _ in sections]
    html = page.page(f"{store.session.name} · Vitriflow report", header(contents), links, body, contents.scripts)
    location = store.location / "report.html"
    location.write_bytes(html.encode())
    _publish(contents)
    logger.info("report_session: %s, %.1f MB", location.url, len(html) / 1e6)
    return location.url


def _shown(contents: Contents) -> list[tuple[str, str, Callable[[Contents], str]]]:
    """Sections of a session that begins with exposures, or with a map; some only where there is something to show."""
    shown = [s for s in _SECTIONS if s[0] in _OF_A_MAP] if begins_with_a_map(contents) else list(_SECTIONS)
    return [s for s in shown if s[0] not in _IF_THERE or _IF_THERE[s[0]](contents)]


def _section(
    contents: Contents,
    identifier: str,
    label: str,
    write: Callable[[Contents], str],
) -> str:
    """A section, or why it cannot be shown: one odd product does not cost the operator the others."""
    try:
        return write(contents)
    except (StoreError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        logger.exception("report_session: section %s", identifier)
        words = f"This part cannot be shown: {type(error).__name__}: {error}"
        return page.section(identifier, label, page.paragraph(words, "reason"))


_SECTIONS: tuple[tuple[str, str, Callable[[Contents], str]], ...] = (
    ("summary", "Summary", summary),
    ("verdict", "Verdict", verdict_section),
    ("map", "Map", final_map),
    ("model", "Model", model_section),
    ("docking", "Docking", docking_section),
    ("states", "States", states_section),
    ("overview", "Session", course),
    ("trouble", "Not used", trouble),
    ("exposures", "Exposures", exposure_cards),
    ("classes", "2D classes", classes_2d),
    ("initial", "Initial map", initial_map),
    ("versions", "Versions", versions_section),
    ("stages", "Parameters", parameters_and_cost),
)
"""Anchor, name in the menu, and what writes it; in the order of the page."""
_OF_A_MAP = frozenset({"summary", "verdict", "map", "model", "docking", "states", "stages"})
"""Those of a session that begins with the map of another program."""
_IF_THERE: dict[str, Callable[[Contents], object]] = {
    "verdict": verdict_of,
    "docking": is_docked,
    "states": compared_states,
}
"""Sections that a session has only where something was found."""


def _publish(contents: Contents) -> None:
    """The same pictures as artifacts of the Prefect run; nothing outside of one."""
    name = contents.store.session.name
    for key in _PICTURES_IN_PREFECT:
        if key in contents.pictures:
            content, alt = contents.pictures[key]
            show_image(artifact_key(name, key), content, markdown_text(f"{name}: {alt}"))
    text = f"# Exposures of {markdown_text(name)}\n\n" + "\n\n".join(contents.cards[:_CARDS_IN_PREFECT])
    show_markdown(artifact_key(name, "exposures"), text, f"{markdown_text(name)}: exposures, those not used first")
    for show in (show_page, show_problems, show_course, show_verdict):
        show(contents)
