"""All sessions of a facility in one table: which are collected now, how fast, how good, and which want an operator."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.report.artifacts import artifact_key, show_markdown
from tasks.report.outcomes import SERIES, TONES, outcome_of, values_of
from tasks.report.words import markdown_text, number_words
from tasks.stores.files.arrivals import arrivals_version, read_arrivals, waiting_arrivals
from tasks.stores.ledger import STAGES, read_ledger
from tasks.stores.products.session_gain import read_gain_diagnosis
from tasks.stores.products.verdict_store import standing_verdict
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import holder_of
from tasks.stores.storage.location import Location, StoreError
from tasks.stores.upkeep.counts import count_session
from tasks.stores.upkeep.survey import find_sessions

logger = logging.getLogger(__name__)

KEY = "facility-sessions"
"""Of the artifact in the Prefect UI."""
_PARTS = {"exposures": "processing", "maps": "refining"}
_SHOWN_PRODUCTS = ("particles/selected", "maps/refined", "session/gain")
_COLLECTING_SECONDS = 3600.0
_RECENT = 50
"""Exposures whose figures tell how the microscope does now."""
_SHARE_OF_TIME = 0.02
"""That the table may take of the time of whoever renews it."""
_SHARE_LOST = 0.2
_CTF_FIT = next(one for one in SERIES if one.figure == "fit_resolution_angstrom")


@dataclass(frozen=True)
class SessionGlance:
    """One session as an operator of several microscopes sees it."""

    name: str
    url: str
    is_collecting: bool
    """A file came within the last hour."""
    doing: tuple[str, ...]
    """What flows work on now: ``processing`` exposures, ``refining`` maps."""
    last_arrival: float
    """Seconds since 1970; 0 for a session that follows no folder."""
    n_last_hour: int
    n_waiting: int
    """Files that are complete and not imported."""
    n_seen: int
    counts: dict[str, int]
    """Outcome in an operator's words -> exposures; they add up to ``n_seen``."""
    fit_resolution_angstrom: float | None
    """Median CTF fit of the last 50 exposures in use."""
    n_particles: int
    resolution_angstrom: float | None
    next_step: str | None
    """What the verdict that holds says is to be done; None where none holds."""
    concerns: tuple[str, ...]
    """What wants an operator, in words."""

    @property
    def state(self) -> str:
        words = ["collecting"] if self.is_collecting else []
        words += self.doing or (["files wait"] if self.n_waiting else [])
        return ", ".join(words) or "quiet"


def glance(store: SessionStore, now: float) -> SessionGlance:
    """The session at the time ``now``, in seconds since 1970, from indices and records; no array is opened."""
    lines = read_ledger(store).lines
    counts = Counter(outcome_of(line) for line in lines)
    arrivals = [arrival.arrived_at for arrival in read_arrivals(store).values()]
    last_arrival = max(arrivals, default=0.0)
    fits = values_of([line for line in lines if line.state == "done"][-_RECENT:], _CTF_FIT)
    fits = fits[np.isfinite(fits)]
    numbers = count_session(store)
    verdict = standing_verdict(store)
    return SessionGlance(
        name=store.session.name,
        url=store.url,
        is_collecting=now - last_arrival < _COLLECTING_SECONDS,
        doing=_doing(store),
        last_arrival=last_arrival,
        n_last_hour=sum(now - at < 3600 for at in arrivals),
        n_waiting=len(waiting_arrivals(store)) if arrivals else 0,
        n_seen=len(lines),
        counts={outcome: counts[outcome] for outcome in TONES},
        fit_resolution_angstrom=float(np.median(fits)) if fits.size else None,
        n_particles=numbers.n_selected or numbers.n_extracted,
        resolution_angstrom=numbers.resolution_angstrom,
        next_step=None if verdict is None else str(verdict.figures["decision"]),
        concerns=_concerns(store, [outcome_of(line) for line in lines[-_RECENT:]]),
    )


def _doing(store: SessionStore) -> tuple[str, ...]:
    return tuple(words for part, words in _PARTS.items() if holder_of(store.location, part) is not None)


def _concerns(store: SessionStore, recent: Sequence[str]) -> tuple[str, ...]:
    lost = Counter(outcome for outcome in recent if outcome != "in use")
    found = []
    if lost.total() > _SHARE_LOST * len(recent):
        words = ", ".join(f"{n} {outcome}" for outcome, n in lost.most_common())
        found.append(f"of the last {len(recent)} exposures {words}")
    diagnosis = read_gain_diagnosis(store)
    if diagnosis and diagnosis.alarms:
        found.append(diagnosis.alarms[-1].words)
    return tuple(found)


def facility_rows(glances: Sequence[SessionGlance], now: float) -> list[dict[str, str]]:
    """A row a session, those with a concern first, then by the last file."""
    ordered = sorted(glances, key=lambda g: (not g.concerns, -g.last_arrival, g.name))
    return [
        {
            "session": g.name,
            "now": g.state,
            "last file": _ago(now - g.last_arrival) if g.last_arrival else "–",
            "files/h": number_words(g.n_last_hour),
            "waiting": number_words(g.n_waiting),
            "seen": number_words(g.n_seen),
            **{outcome: number_words(n) for outcome, n in g.counts.items()},
            "CTF fit Å": _figure(g.fit_resolution_angstrom, ".1f"),
            "particles": number_words(g.n_particles),
            "map Å": _figure(g.resolution_angstrom, ".2f"),
            "next": g.next_step or "–",
            "look at": "; ".join(g.concerns),
        }
        for g in ordered
    ]


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def facility_markdown(rows: Sequence[dict[str, str]]) -> str:
    """The rows as a table whose sessions link to their pages."""
    if not rows:
        return "No session has been found yet."
    header = tuple(rows[0])
    cells = [
        [
            f"[{markdown_text(row['session'])}](/artifacts/key/{artifact_key(row['session'], 'session')})",
            *(markdown_text(row[column]) for column in header[1:]),
        ]
        for row in rows
    ]
    table = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


class FacilityView:
    """Glances of all sessions below a folder; those that have not changed since are not read again."""

    def __init__(self, stores: str) -> None:
        self._stores = Location.of(stores)
        self._known: dict[str, tuple[tuple[object, ...], SessionGlance]] = {}
        self._next_at = 0.0

    def update(self) -> None:
        """Show the table in the Prefect UI, unless it was shown a moment ago."""
        started = time.monotonic()
        if started < self._next_at:
            return
        now = time.time()
        show_markdown(KEY, facility_markdown(facility_rows(self.glances(now), now)), "Sessions of the facility")
        self._next_at = time.monotonic() + max(30.0, (time.monotonic() - started) / _SHARE_OF_TIME)

    def glances(self, now: float) -> list[SessionGlance]:
        """Every session; one that cannot be read is logged and left out."""
        found = []
        for url in find_sessions(self._stores):
            try:
                found.append(self._glance(url, now))
            except StoreError as error:
                logger.warning("facility: %s", error)
        return found

    def _glance(self, url: str, now: float) -> SessionGlance:
        store = SessionStore.open(url)
        version = _version(store)
        known = self._known.get(url)
        if known is not None and known[0] == version and not _ages(known[1]):
            return known[1]
        self._known[url] = (version, glance(store, now))
        return self._known[url][1]


def _version(store: SessionStore) -> tuple[object, ...]:
    """Another one after everything that a glance shows, but for the time."""
    indices = tuple(store.index(stage).files() for stage in STAGES)
    records = tuple(store.product(address).record() for address in _SHOWN_PRODUCTS)
    return (indices, arrivals_version(store), _doing(store), records, standing_verdict(store))


def _ages(known: SessionGlance) -> bool:
    return known.is_collecting or known.n_last_hour > 0
