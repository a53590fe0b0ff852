"""The faults, one function each; every one returns a row of the table."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tasks.stores.ledger import Line, read_ledger
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tests.torture.feed import Feed
from tests.torture.site import Row, Site

_SECONDS_OF_SILENCE = 240.0
"""Longer than any fault needs to be got over."""


def feed_with_kills(folder: Path, n_files: int, seconds_between: float, growth_pause_seconds: float) -> list[Row]:
    """Files at ten times a microscope's pace, some of them bad, while one service after the other is killed."""
    share = n_files / 1000
    feed = Feed(
        folder / "microscope" / "session",
        n_files,
        seconds_between,
        n_truncated=max(2, round(20 * share)),
        n_duplicates=max(2, round(5 * share)),
        n_growing=max(1, round(3 * share)),
        n_other_frame_count=max(1, round(2 * share)),
        growth_pause_seconds=growth_pause_seconds,
    )
    kills: list[tuple[str, str, bool]] = [
        ("a CPU worker killed", "dask-cpu-worker", True),
        ("the Prefect server killed", "prefect", False),
        ("the flow's process killed", "watch", False),
        ("a CPU worker killed again", "dask-cpu-worker", True),
        ("the Dask scheduler killed", "dask-scheduler", False),
    ]
    recoveries: list[tuple[str, float]] = []
    with Site(folder / "site") as site:
        site.watch(folder / "microscope", folder / "stores")
        feed.start()
        store_url = folder / "stores" / "session.zarr"
        for number, (fault, service, is_child) in enumerate(kills):
            target = (number + 0.7) / (len(kills) + 1) * n_files
            _wait(lambda target=target: _n_seen(store_url) >= target, 3600)
            killed_at = time.time()
            site.supervisor.kill(service, is_child)
            _wait(lambda killed_at=killed_at: any(t > killed_at + 1 for t in site.commit_times()), 600)
            recoveries.append((fault, min(t for t in site.commit_times() if t > killed_at + 1) - killed_at))
        feed.join()
        is_complete = _wait_while_something_comes(site, lambda: not _unfinished(store_url, feed))
        lines = read_ledger(SessionStore.open(str(store_url))).lines
        wrong = _wrong_outcomes(lines, feed)
        counts = Counter(line.state for line in lines)
        twice = site.n_twice()
        n_restarts = site.supervisor.n_restarts
    seen = (
        f"{len(feed.fates)} files; ledger {len(lines)} = "
        + " + ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        + f"; every bad file named; {n_restarts} restarts"
        + ("" if is_complete else "; NOT all finished in time")
        + (f"; wrong: {json.dumps(wrong)[:300]}" if wrong else "")
    )
    rows = [Row(f"{n_files} files at 10 × pace, {len(feed.fates) - _n_good(feed)} bad", seen, len(wrong), twice, None)]
    return rows + [Row(fault, "work goes on", 0, 0, seconds) for fault, seconds in recoveries]


def _n_good(feed: Feed) -> int:
    return sum(fate == "done" for fate in feed.fates.values())


def _n_seen(store_url: Path) -> int:
    try:
        return len(SessionStore.open(str(store_url)).exposure_ids())
    except StoreError:
        return 0


def _unfinished(store_url: Path, feed: Feed) -> list[str]:
    """Files whose fate has not come about."""
    try:
        lines = read_ledger(SessionStore.open(str(store_url))).lines
    except StoreError:
        return list(feed.fates)
    return list(_wrong_outcomes(lines, feed))


def _wrong_outcomes(lines: list[Line], feed: Feed) -> dict[str, str]:
    """File -> what the ledger says, where that is not what has to become of it; and entries without a file."""
    by_stem: dict[str, list[Line]] = {}
    for line in lines:
        by_stem.setdefault(line.exposure.split("-")[0], []).append(line)
    for copy, original in list(feed.twins.items()):
        pair = [line for name in (copy, original) for line in by_stem.get(Path(name).stem, [])]
        if sorted(line.stage == "import_session" for line in pair) == [False, True]:
            lines_of_copy = by_stem.get(Path(copy).stem, [])
            if lines_of_copy and lines_of_copy[0].stage != "import_session":  # the copy was imported first
                by_stem[Path(copy).stem], by_stem[Path(original).stem] = (
                    by_stem[Path(original).stem],
                    by_stem[Path(copy).stem],
                )
    wrong = {}
    for name, fate in feed.fates.items():
        found = by_stem.pop(Path(name).stem, [])
        if len(found) != 1 or not _is_fate(found[0], fate):
            wrong[name] = f"expected {fate}, found {[(line.state, line.stage, line.reason) for line in found]}"
    return wrong | {stem: f"no such file: {[line.exposure for line in found]}" for stem, found in by_stem.items()}


def _is_fate(line: Line, fate: str) -> bool:
    if fate == "done":  # extraction has its say last; an exposure without particles ends one stage earlier
        return line.state in ("done", "skipped") and line.stage in ("extract_particles", "pick_particles")
    return (line.state, line.stage) == (fate, "import_session") and bool(line.reason)


def _wait(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain")
        time.sleep(0.5)


def _wait_while_something_comes(site: Site, is_so: Callable[[], bool]) -> bool:
    """Whether it came about before no product was made for some minutes."""
    started = time.time()
    while not is_so():
        if time.time() - max([started, *site.commit_times()[-1:]]) > _SECONDS_OF_SILENCE:
            return False
        time.sleep(2.0)
    return True
