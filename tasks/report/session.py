"""The course of the session, and what is not used and why."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tasks.plots import exposures as exposure_plots
from tasks.plots import page
from tasks.plots.style import png
from tasks.report.contents import Contents
from tasks.report.outcomes import SERIES, outcome_of, values_of

ROWS_OF_LISTS = 500


def course(contents: Contents) -> str:
    picture = course_png(contents)
    if picture is None:
        return page.section("overview", "Session", page.not_yet("no exposure has figures"))
    names = ", ".join(one.title.lower() for one in _series(contents))
    shown = page.picture(picture, f"Course of the session: {names} for each exposure")
    return page.section("overview", "Session", page.grid([shown], "pictures wide"))


def course_png(contents: Contents, **options: int) -> bytes | None:
    """Figures of every exposure in the order of their ids; None where there are none. Options are those of `png`."""
    series = _series(contents)
    is_accepted = np.array([line.state == "done" for line in contents.ledger.lines])
    return png(exposure_plots.session_overview(series, is_accepted), **options) if series else None


def _series(contents: Contents) -> list[exposure_plots.Series]:
    lines = contents.ledger.lines
    series = [exposure_plots.Series(one.title, one.unit, values_of(lines, one)) for one in SERIES]
    return [one for one in series if np.isfinite(one.values).any()]


def trouble(contents: Contents) -> str:
    lost = [line for line in contents.ledger.lines if line.state != "done"]
    if not lost:
        words = "Every exposure that was seen is in use." if contents.ledger.lines else "No exposure has been seen yet."
        return page.section("trouble", "Not used, and why", page.paragraph(words))
    kinds = Counter((line.stage, outcome_of(line)) for line in lost)
    told = ", ".join(f"{n} {word} in {stage.replace('_', ' ')}" for (stage, word), n in kinds.most_common())
    rows = [
        [line.exposure, outcome_of(line), line.stage, line.reason or "no reason was recorded"]
        for line in lost[:ROWS_OF_LISTS]
    ]
    more = len(lost) - len(rows)
    return page.section(
        "trouble", "Not used, and why",
        page.paragraph(f"{told}."),
        page.table(("exposure", "state", "stage", "reason"), rows),
        page.paragraph(f"and {more} more; `vitriflow status` lists them all.") if more else "",
    )  # fmt: skip
