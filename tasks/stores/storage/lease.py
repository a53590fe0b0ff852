"""Leases: that two flows at once do not work on the same part of a session.

A holder's claim is a file ``leases/<part>/<generation>-<random>.json`` that it renews. Who wants the part puts a claim
of the next generation beside it once the holder has let go, has died on this machine, or has not renewed for
``expiry_seconds`` of the waiting one's own clock: no two clocks are compared. Claims of one generation settle it
among themselves: all wait a moment, and the one marked as held, else the first by name, stays. That needs neither file
locks nor conditional writes, so it is the same on a folder and on any S3 server. A process that is frozen for longer
than it takes to expire has lost its lease when it wakes: `Lease.check` says so.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import psutil

from tasks.stores.storage.location import Location, StoreError

logger = logging.getLogger(__name__)


class LeaseHeldError(RuntimeError):
    """Somebody else works on this part of the session."""


class LeaseLostError(RuntimeError):
    """The lease passed to somebody else while this process did not renew it."""


@dataclass(frozen=True)
class LeaseTimes:
    """How often a holder renews, and how long the others wait."""

    renewal_seconds: float = 5.0
    expiry_seconds: float = 45.0
    settle_seconds: float = 1.0
    """Longer than it takes from listing the claims to marking one's own."""


class Lease:
    """A held lease."""

    def __init__(self, claim: _Claim, expiry_seconds: float) -> None:
        self._claim = claim
        self._expiry_seconds = expiry_seconds
        self._renewed_at = time.monotonic()
        self._is_lost = False

    def check(self) -> None:
        """Raise LeaseLostError where the part may belong to somebody else by now."""
        if self._is_lost or time.monotonic() - self._renewed_at > self._expiry_seconds:
            raise LeaseLostError(
                f"{self._claim.location.url}: the lease could not be renewed for {self._expiry_seconds:g} s and may "
                "have passed to another flow; run again, what is done is kept"
            )

    def _renew(self, state: Literal["held", "free"]) -> None:
        if any(other.generation > self._claim.generation for other in _claims(self._claim.location)):
            self._is_lost = True
            return
        self._claim.put(state)
        self._renewed_at = time.monotonic()


@contextmanager
def hold(
    location: Location,
    part: str,
    holder: str,
    wait_seconds: float = 0.0,
    times: LeaseTimes = LeaseTimes(),
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Lease]:
    """Hold the lease of a part of the session whose store is at ``location`` while the block runs.

    Parameters
    ----------
    part
        What the lease is for, for instance ``exposures``.
    holder
        Who holds it, in words that others are shown.
    wait_seconds
        How long to wait for a holder; LeaseHeldError names it after that. A holder that has died is noticed within
        ``times.expiry_seconds`` of waiting (at once on the same machine), so a shorter wait may find one that is dead.
    waiting
        Called once with a sentence when the lease is held by somebody else.
    """
    place = location / "leases" / part
    claim = _acquire(place, holder, wait_seconds, times, waiting)
    lease = Lease(claim, times.expiry_seconds)
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(times.renewal_seconds):
            try:
                lease._renew("held")
            except StoreError as error:  # the store may be back at the next beat; check() knows how long it was away
                logger.warning("the lease of %s could not be renewed: %s", place.url, error)

    beat = threading.Thread(target=renew, name=f"lease-{part}", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        is_over.set()
        beat.join()
        try:
            lease._renew("free")
        except StoreError as error:
            logger.warning("the lease of %s could not be given back and will expire: %s", place.url, error)


def holder_of(location: Location, part: str) -> str | None:
    """Who holds the lease of a part as far as can be told at once; a holder on another machine may be dead."""
    claims = _claims(location / "leases" / part)
    newest = _newest(claims)
    content = None if newest is None else newest.read()
    return None if content is None or _is_free(content) else str(content["holder"])


class _Claim(NamedTuple):
    location: Location
    generation: int
    name: str
    content: dict[str, Any]

    def put(self, state: Literal["wanted", "held", "free"]) -> None:
        content = {**self.content, "state": state, "beat": uuid.uuid4().hex}
        (self.location / f"{self.name}.json").write_bytes(json.dumps(content).encode())

    def read(self) -> dict[str, Any] | None:
        content = (self.location / f"{self.name}.json").read_bytes()
        return None if content is None else json.loads(content)


def _acquire(
    place: Location, holder: str, wait_seconds: float, times: LeaseTimes, waiting: Callable[[str], None] | None
) -> _Claim:
    started = time.monotonic()
    seen: tuple[str, str] | None = None
    seen_at = started
    is_told = False
    while True:
        claims = _claims(place)
        newest = _newest(claims)
        content = None if newest is None else newest.read()
        beat = None if newest is None or content is None else (newest.name, str(content["beat"]))
        if beat != seen:
            seen, seen_at = beat, time.monotonic()
        if content is None or _is_free(content) or time.monotonic() - seen_at > times.expiry_seconds:
            claim = _try_generation(place, (newest.generation if newest else 0) + 1, holder, times)
            if claim is not None:
                return claim
            continue
        if not is_told:
            is_told = True
            logger.info("%s is held by %s", place.url, content["holder"])
            if waiting is not None:
                waiting(str(content["holder"]))
        if time.monotonic() - started > wait_seconds:
            raise LeaseHeldError(f"{place.url}: {content['holder']} works on it; wait until it has ended, or cancel it")
        time.sleep(min(1.0, times.expiry_seconds / 10))


def _try_generation(place: Location, generation: int, holder: str, times: LeaseTimes) -> _Claim | None:
    """Claim a generation; None where another claim of it stays."""
    process = psutil.Process()
    content = {"holder": holder, "host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}
    claim = _Claim(place, generation, f"{generation:08d}-{uuid.uuid4().hex[:12]}", content)
    claim.put("wanted")
    time.sleep(times.settle_seconds)
    rivals = [c for c in _claims(place) if c.generation >= generation and c.name != claim.name]
    contents = [(rival, rival.read()) for rival in rivals]
    is_beaten = any(
        content is not None and (rival.generation > generation or content["state"] == "held" or rival.name < claim.name)
        for rival, content in contents
    )
    if is_beaten:
        (place / f"{claim.name}.json").remove_file()
        return None
    claim.put("held")
    for old in _claims(place):
        if old.generation < generation:
            (place / f"{old.name}.json").remove_file()
    return claim


def _claims(place: Location) -> list[_Claim]:
    names = [name.removesuffix(".json") for name in place.list() if name.endswith(".json")]
    return [_Claim(place, int(name.split("-")[0]), name, {}) for name in names]


def _newest(claims: list[_Claim]) -> _Claim | None:
    """The claim that counts: of the newest generation the held one; while that settles, the first by name."""
    if not claims:
        return None
    generation = max(claim.generation for claim in claims)
    candidates = sorted((c for c in claims if c.generation == generation), key=lambda c: c.name)
    for candidate in candidates:
        content = candidate.read()
        if content is not None and content["state"] == "held":
            return candidate
    return candidates[0]


def _is_free(content: dict[str, Any]) -> bool:
    """Whether the claim was given back, or its process on this machine is gone."""
    if content["state"] == "free":
        return True
    if content["host"] != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(content["pid"]).create_time() - content["started"]) > 1
    except psutil.NoSuchProcess:
        return True
