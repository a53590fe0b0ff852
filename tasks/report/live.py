"""What the Prefect UI shows of a session while it runs: how far it is, what went wrong, how the figures run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.report.artifacts import artifact_key, show_image, show_markdown, show_table
from tasks.report.contents import Contents, verdict_record
from tasks.report.outcomes import TONES, outcome_of
from tasks.report.session import course_png
from tasks.report.summary import set_stages_done, stages_reached, verdict
from tasks.report.words import markdown_table, markdown_text, number_words
from tasks.stores.ledger import Line, read_ledger
from tasks.stores.session_store import SessionStore

_PROBLEMS_SHOWN = 20
_LONGEST_REASON = 300
_URGENCY = ("failed", "quarantined", "skipped")
_BAR_LENGTH = 10
_GROWTH_TO_PICTURE = 3.0
_COLOURS = 12
_DPI = 75
_SHARE_OF_TIME = 0.02
"""That showing a session may take of the time it runs."""
_FEWEST_NEW = 20
"""Exposures from which on the page is renewed; fewer wait for `_LONGEST_WAIT_SECONDS`, or for the end."""
_LONGEST_WAIT_SECONDS = 600.0


class LiveView:
    """The session's pages in the Prefect UI, renewed after batches but never so often that it costs more than 2 %.

    The server keeps what it is sent in its log of events, too, for a week. So the page, some kilobytes, is renewed
    every 20 exposures, the table and the picture when the session has trebled.
    """

    def __init__(self, session_url: str, web_folder: str | None = None) -> None:
        self._url, self._web_folder = session_url, web_folder
        self._next_at = 0.0
        self._shown_at = -_LONGEST_WAIT_SECONDS
        self._n_new = 0
        self._n_pictured = 0

    def update(self, n_new: int) -> None:
        """Show the session as it is now, unless it was shown a moment ago.

        Parameters
        ----------
        n_new
            Exposures that were worked on since the last call.
        """
        self._n_new += n_new
        now = time.monotonic()
        is_much_new = self._n_new >= _FEWEST_NEW or now - self._shown_at >= _LONGEST_WAIT_SECONDS
        if is_much_new and now >= self._next_at:
            self._show()

    def finish(self) -> None:
        """Show the session as it is when nobody works on it any more."""
        if self._n_new:
            self._show()

    def _show(self) -> None:
        started = time.monotonic()
        store = SessionStore.open(self._url)
        contents = Contents(store, read_ledger(store), web_folder=self._web_folder)
        show_page(contents)
        n = len(contents.ledger.lines)
        if n >= _GROWTH_TO_PICTURE * self._n_pictured:
            show_problems(contents)
            show_course(contents)
            self._n_pictured = n
        self._n_new = 0
        self._shown_at = time.monotonic()
        self._next_at = self._shown_at + (self._shown_at - started) / _SHARE_OF_TIME


def show_page(contents: Contents) -> None:
    """``<session>-session``: how far the session is, and what went wrong last."""
    name = contents.store.session.name
    show_markdown(artifact_key(name, "session"), session_markdown(contents), f"Session {markdown_text(name)}")


def show_problems(contents: Contents) -> None:
    """``<session>-ledger``: the exposures that are not used, the last of them."""
    name, lines = contents.store.session.name, contents.ledger.lines
    n_lost = sum(line.state != "done" for line in lines)
    words = f"{number_words(n_lost)} of {number_words(len(lines))} exposures are not used"
    show_table(artifact_key(name, "ledger"), ledger_rows(lines), f"{markdown_text(name)}: {words}")


def show_course(contents: Contents) -> None:
    """``<session>-overview``: defocus, resolution, motion, drift and picks of each exposure."""
    name = contents.store.session.name
    picture = course_png(contents, n_colours=_COLOURS, dpi=_DPI)
    if picture is not None:
        show_image(artifact_key(name, "overview"), picture, f"{markdown_text(name)}: course of the session")


def session_markdown(contents: Contents) -> str:
    """Verdict, counts, a bar for each stage, the last problems, and where to look further."""
    name, lines = contents.store.session.name, contents.ledger.lines
    counts = Counter(outcome_of(line) for line in lines)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    exposures = [[stage.replace("_", " "), *_bar(n, len(lines))] for stage, n in stages_reached(contents)]
    wholes = [
        [stage.replace("_", " "), "done" if is_done else "not yet", _blocks(float(is_done))]
        for stage, is_done in set_stages_done(contents)
    ]
    parts = [
        f"# {markdown_text(name)}",
        f"**{markdown_text(verdict(contents))}**",
        *_next(contents),
        f"As of {now}.",
        markdown_table(("seen", *TONES), [[number_words(n) for n in (len(lines), *(counts[word] for word in TONES))]]),
        "## Progress",
        markdown_table(("stage", "exposures", ""), [*exposures, *wholes]),
    ]
    problems = [row for row in ledger_rows(lines)[:5] if row["exposure"]]
    if problems:
        parts += [
            "## What went wrong last",
            markdown_table(tuple(problems[0]), [list(row.values()) for row in problems]),
            f"[All that is not used](/artifacts/key/{artifact_key(name, 'ledger')})",
        ]
    further = ["overview", "verdict", "fsc", "classes-2d", "map-projections", "orientations", "exposures", "versions"]
    links = " · ".join(f"[{word}](/artifacts/key/{artifact_key(name, word)})" for word in further)
    parts += [
        "## Report",
        f"Pictures of the last report: {links}",
        f"The whole report is one HTML file; open it with a browser where the store is: `{_report_address(contents)}`",
    ]
    if contents.web_folder:
        parts.insert(3, f"[Open the report]({contents.web_folder.rstrip('/')}/{_store_name(contents)}/report.html)")
    return "\n\n".join(parts)


def _next(contents: Contents) -> list[str]:
    """What is to be done, while a verdict holds."""
    record = verdict_record(contents)
    if record is None:
        return []
    return [f"Next: **{record.figures['decision']}**: {markdown_text(str(record.figures['reason']))}"]


def ledger_rows(lines: Sequence[Line]) -> list[dict[str, str]]:
    """The last exposures that are not in use, failed ones first, and in the end how many more there are."""
    lost = [line for line in reversed(lines) if line.state != "done"]
    lost.sort(key=lambda line: _URGENCY.index(line.state))
    rows = [
        {
            "exposure": line.exposure,
            "outcome": outcome_of(line),
            "stage": line.stage,
            "reason": _shortened(line.reason or "no reason was recorded"),
        }
        for line in lost[:_PROBLEMS_SHOWN]
    ]
    more = len(lost) - len(rows)
    if more:
        words = f"and {number_words(more)} more; `vitriflow status` and the report list them"
        rows.append({"exposure": "", "outcome": "", "stage": "", "reason": words})
    return rows


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"


def _bar(n: int, n_total: int) -> tuple[str, str]:
    """In words, and as blocks that need no picture."""
    return f"{number_words(n)} of {number_words(n_total)}", _blocks(n / n_total if n_total else 0.0)


def _blocks(share: float) -> str:
    length = int(_BAR_LENGTH * share)
    return "█" * length + "░" * (_BAR_LENGTH - length)


def _store_name(contents: Contents) -> str:
    return contents.store.url.rsplit("/", 1)[-1]


def _report_address(contents: Contents) -> str:
    return f"{contents.store.url}/report.html"
