"""Pictures of what `diagnose_gain` found."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tasks.plots.style import BLUE, GREY, INK, ORANGE, RED, figure_with_axes, in_style, say_empty
from tasks.records.gain import GainDiagnosis, GainRow


@in_style
def gain_diagnosis(diagnosis: GainDiagnosis, series: NDArray) -> Figure:
    """Left: agreement of the gain in every orientation and meaning. Right: counts and agreement over the session.

    ``series`` is (exposure, 3): counts on a pixel, agreement with the gain and its standard error, NaN where there is
    none; the array of that name of ``session/gain_diagnosis``. Red lines are alarms.
    """
    figure, axes = figure_with_axes(9.2, 3.2, 1, 2, width_ratios=(1, 1.6))
    _draw_rows(axes[0, 0], diagnosis.rows)
    _draw_course(axes[0, 1], diagnosis, np.asarray(series, dtype=float).reshape(-1, 3))
    return figure


def _draw_rows(axes, rows: list[GainRow]) -> None:
    if not rows:
        say_empty(axes, "no gain was given")
        return
    best = rows[0]
    ordered = sorted(rows, key=lambda row: (row.meaning != "multiply", row.rotation_deg, row.flip != "none"))
    height = np.arange(len(ordered))[::-1]
    colours = [ORANGE if row == best else INK if row.is_as_given else GREY for row in ordered]
    axes.barh(height, [row.agreement for row in ordered], color=colours, height=0.7)
    axes.set_yticks(height, [_name(row) for row in ordered], fontsize=7)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.axvline(1, color=GREY, linewidth=1, linestyle="--")
    axes.set_xlim(min(-1.1, 1.1 * min(row.agreement for row in rows)), max(1.2, 1.1 * best.agreement))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("agreement with the counts; orange: best, black: as given")
    axes.set_title("Gain as oriented from its file")


def _name(row: GainRow) -> str:
    flip = "" if row.flip == "none" else f", {row.flip}"
    return f"{row.meaning} {row.rotation_deg}°{flip}"


def _draw_course(axes, diagnosis: GainDiagnosis, series: NDArray) -> None:
    if not len(series):
        say_empty(axes, "no exposures yet")
        return
    number = np.arange(1, len(series) + 1)
    has_agreement = np.isfinite(series[:, 1]).any()
    if has_agreement:
        axes.errorbar(number, series[:, 1], yerr=series[:, 2], fmt="o", color=BLUE, markersize=3.5, linewidth=0.8)
        axes.set_ylabel("agreement with the gain")
        axes.set_ylim(min(-0.1, float(np.nanmin(series[:, 1])) - 0.1), max(1.2, float(np.nanmax(series[:, 1])) + 0.1))
    else:
        axes.plot(number, series[:, 0], "o", color=BLUE, markersize=3.5)
        axes.set_ylabel("electrons on a pixel")
        axes.set_ylim(0, 1.15 * float(np.nanmax(series[:, 0])) + 1e-6)
    places: dict[int, list[str]] = {}
    for alarm in diagnosis.alarms:
        if alarm.number is not None:
            places.setdefault(alarm.number, []).append(alarm.kind)
    for place, kinds in places.items():
        axes.axvline(place + 0.5, color=RED, linewidth=1.2)
        words = ", ".join(
            f"{kind} × {kinds.count(kind)}" if kinds.count(kind) > 1 else kind for kind in dict.fromkeys(kinds)
        )
        axes.annotate(
            words, (place + 0.5, 1), xycoords=("data", "axes fraction"), xytext=(3, -3), textcoords="offset points",
            color=RED, fontsize=7.5, rotation=90, va="top",
        )  # fmt: skip
    axes.set_xlim(0.3, len(series) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("exposure, in the order in which they came")
    n = diagnosis.n_alarms
    axes.set_title("No alarm" if n == 0 else f"{n} alarm{'s' if n > 1 else ''}")
