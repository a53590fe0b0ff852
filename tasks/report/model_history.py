"""What is said of models as a whole: the verdict of the validation, the rounds of one, and those before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from tasks.plots import models as model_plots
from tasks.plots import page
from tasks.plots.style import png
from tasks.records.model import ModelValidation
from tasks.report.words import time_words, value_words
from tasks.stores.commit import Record

_COUNTS = ("n_residues", "n_chains", "n_atoms")
_DRAWN = 8
_TONES: dict[str, page.Tone] = {"deposit": "good", "rebuild": "warn", "collect more": "bad"}


def told_figures(record: Record) -> Record:
    """The record without the counts among its figures, which are told in another place."""
    return record.model_copy(update={"figures": {k: v for k, v in record.figures.items() if k not in _COUNTS}})


def validation_summary(found: ModelValidation) -> str:
    """The decision and the figures that it rests on."""
    crossing = f"0.5 at {found.map_model_resolution_angstrom:.2f} Å"
    if found.fsc_work is not None and found.fsc_free is not None:
        crossing += f"; half maps {found.fsc_work:.2f}, free {found.fsc_free:.2f}"
    tiles = [
        page.tile("Validation", found.decision, tone=_TONES[found.decision]),
        page.tile("Trusted", _percent(found.trusted_percent), "of the residues that were judged"),
        page.tile("Q-score", f"{found.q_score:.2f}", f"{found.q_expected:.2f} in good models at this resolution"),
        page.tile("Correlation", f"{found.cc_mask:.2f}", "with the map around the model"),
        page.tile("Map-model FSC", f"{found.fsc_map:.2f}", crossing),
        page.tile(
            "Ramachandran", _percent(found.ramachandran_favoured_percent),
            f"favoured, {_percent(found.ramachandran_outlier_percent)} outliers",
        ),
        page.tile("Clashscore", f"{found.clashscore:.1f}", "clashes among 1\u202f000 atoms"),
    ]  # fmt: skip
    return page.grid(tiles, "tiles") + page.paragraph(f"{found.decision.capitalize()}: {found.decision_reason}.")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def rounds_of(name: str, record: Record) -> str:
    """The rounds in which a model was made, with the one that was taken marked; nothing where there were none."""
    rounds: list[dict[str, Any]] = record.details.get("rounds") or []
    if len(rounds) < 2:
        return ""
    names = [str(made.get("name", i + 1)) for i, made in enumerate(rounds)]
    best = record.figures.get("best_round")
    marked = names.index(best) if isinstance(best, str) and best in names else None
    taken = f", of which {best} was taken" if marked is not None else ""
    figures = [{key: value for key, value in made.items() if key != "name"} for made in rounds]
    rows = [[_unbroken(n), *cells] for n, cells in zip(names, _cells(figures))]
    course = _course(names, figures, marked, f"Figures of the rounds of {name}")
    table = page.table(("round", *(_words(key) for key in _keys(figures))), rows)
    compared = record.details.get("compared")
    note = page.paragraph(compared, "note") if compared else ""
    return f"<h3>{escape(f'Rounds of {name}{taken}')}</h3>{course}{table}{note}"


def history(models: Sequence[tuple[str, Record]]) -> str:
    """Every model of the session with its figures, the newest last, and how the figures moved."""
    if len(models) < 2:
        return ""
    names, figures = [name for name, _ in models], [dict(record.figures) for _, record in models]
    rows = [
        [_unbroken(name), record.stage, time_words(record.written_at), *cells]
        for (name, record), cells in zip(models, _cells(figures))
    ]
    table = page.table(("model", "stage", "made", *(_words(key) for key in _keys(figures))), rows)
    course = _course(names, figures, len(names) - 1, "Figures of the models of this session")
    return page.folded(f"{len(models)} models of this session", course + table)


_WORDS = {
    "q_score": "Q-score",
    "q_expected": "Q-score expected",
    "fsc_free": "FSC, free half",
    "fsc_free_one_mask": "the same in one mask",
    "cc_mask": "correlation",
    "usual_backbone_share": "usual backbone",
    "ramachandran_favoured_percent": "favoured %",
    "ramachandran_outlier_percent": "outliers %",
    "trusted_percent": "trusted %",
    "bond_rmsz": "bond RMSZ",
    "angle_rmsd_deg": "angle RMSD °",
    "fsc_average": "mean FSC",
    "rebuilt": "built anew",
}


def _words(key: str) -> str:
    return _WORDS.get(key, key.replace("_", " "))


def _unbroken(name: str) -> str:
    """A name that a narrow column does not break at its hyphen."""
    return name.replace("-", "\u2011")


def _keys(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Of all figures that one of them knows."""
    return list(dict.fromkeys(key for one in figures for key, value in one.items() if value is not None))


def _cells(figures: Sequence[dict[str, Any]]) -> list[list[str]]:
    keys = _keys(figures)
    return [[value_words(_rounded(key, one.get(key))) for key in keys] for one in figures]


def _rounded(key: str, value: object) -> object:
    """Shares in per cent with one digit after the point."""
    return round(value, 1) if isinstance(value, float) and key.endswith("_percent") else value


def _course(names: Sequence[str], figures: Sequence[dict[str, Any]], marked: int | None, alt: str) -> str:
    """A picture of the figures that more than one of them has and that change; nothing without any."""
    series = [(_words(key), [_number(one.get(key)) for one in figures]) for key in _keys(figures) if key not in _COUNTS]
    drawn = [(title, values) for title, values in series if len({v for v in values if v is not None}) > 1][:_DRAWN]
    return page.picture(png(model_plots.rounds(names, drawn, marked)), alt) if drawn else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
