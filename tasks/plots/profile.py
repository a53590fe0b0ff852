"""Figures along the residues of a model, as drawings in an HTML page that can be clicked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kernels.models.atomic_model import Residue
from tasks.plots import page
from tasks.plots.model_view import ResidueColumn
from tasks.plots.style import BLUE, GREEN, INK, ORANGE

_PER_ROW = 200
_LEFT, _WIDTH, _STEP = 34.0, 1240.0, 6.0
_TOP, _HEIGHT, _STRIP, _BETWEEN = 16.0, 76.0, 8.0, 3.0
_COLOURS = (INK, BLUE, ORANGE, GREEN)
_SHOWN_ROWS = 12
_Line = tuple[ResidueColumn, str, str]
"""A column, its colour and its dashes."""


def residue_profile(residues: Sequence[Residue], columns: Sequence[ResidueColumn]) -> str:
    """Rows of 200 residues: shares as lines, and below them classes as strips; what is not known leaves a gap."""
    lines = _lines([column for column in columns if column.is_share])
    strips = [column for column in columns if column.is_strip]
    if not lines and not strips:
        return ""
    rows = [
        _row(residues, lines, strips, first, min(first + _PER_ROW, len(residues)))
        for first in range(0, len(residues), _PER_ROW)
    ]
    shown = _legend(lines, strips) + "".join(rows[:_SHOWN_ROWS])
    if len(rows) > _SHOWN_ROWS:
        rest = len(residues) - _SHOWN_ROWS * _PER_ROW
        shown += page.folded(f"{rest} residues more", "".join(rows[_SHOWN_ROWS:]))
    return f'<div class="profiles">{shown}</div>'


def _lines(columns: Sequence[ResidueColumn]) -> list[_Line]:
    """Four colours; what would be expected is dashed in the colour of what is."""
    n, lines = -1, []
    for column in columns:
        n += not column.is_expected
        if n < len(_COLOURS):
            lines.append((column, _COLOURS[max(n, 0)], "4 3" if column.is_expected else ""))
    return lines


def _legend(lines: Sequence[_Line], strips: Sequence[ResidueColumn]) -> str:
    entries = [
        f'<span><svg width="26" height="8" aria-hidden="true"><path d="M0 4h26" stroke="{colour}" stroke-width="2"'
        f' stroke-dasharray="{dashes}"/></svg> {escape(column.label)}</span>'
        for column, colour, dashes in lines
    ]
    keys = [f'<p class="meta keys">{"".join(entries)}</p>']
    for i, strip in enumerate(strips):
        place = f", strip {i + 1}" if len(strips) > 1 else ""
        entries = [f'<span><i style="background:{c.colour}"></i>{escape(c.label)}</span>' for c in strip.classes]
        keys.append(f'<p class="meta keys"><span>{escape(strip.label + place)}:</span>{"".join(entries)}</p>')
    return "".join(keys)


def _row(
    residues: Sequence[Residue],
    lines: Sequence[_Line],
    strips: Sequence[ResidueColumn],
    first: int,
    end: int,
) -> str:
    below = max(1, len(strips)) * (_STRIP + _BETWEEN) - _BETWEEN
    parts = [_frame(residues, first, end, below)]
    for column, colour, dashes in lines:
        path = _path(column.values[first:end], _breaks(residues, first, end))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>')
    for i, strip in enumerate(strips):
        parts += _blocks(strip, _TOP + _HEIGHT + 3 + i * (_STRIP + _BETWEEN), first, end)
    height = _TOP + _HEIGHT + below + 20
    names = f"{residues[first]} to {residues[end - 1]}"
    told = ", ".join(column.label for column in (*(line[0] for line in lines), *strips))
    return (
        f'<svg class="profile" role="img" tabindex="0" aria-label="{escape(f"{told} of residues {names}")}"'
        f' viewBox="0 0 {_WIDTH:g} {height:g}" data-first="{first}" data-count="{end - first}" data-left="{_LEFT:g}"'
        f' data-step="{_STEP:g}">{"".join(parts)}'
        f'<rect class="cursor" visibility="hidden" x="0" y="{_TOP - 4:g}" width="{_STEP:g}"'
        f' height="{_HEIGHT + below + 10:g}"/></svg>'
    )


def _breaks(residues: Sequence[Residue], first: int, end: int) -> list[bool]:
    """Whether a residue of the row begins a chain."""
    return [i > 0 and residues[i].chain != residues[i - 1].chain for i in range(first, end)]


def _y(share: float) -> float:
    return _TOP + _HEIGHT * (1 - min(max(share, 0.0), 1.0))


def _frame(residues: Sequence[Residue], first: int, end: int, height_below: float) -> str:
    right = _LEFT + _STEP * (end - first)
    parts = []
    for share in (0.0, 0.5, 1.0):
        parts.append(
            f'<path d="M{_LEFT:g} {_y(share):g}H{right:g}" stroke="#dfe4ea"/>'
            f'<text x="{_LEFT - 6:g}" y="{_y(share) + 4:g}" text-anchor="end">{share:g}</text>'
        )
    below = _TOP + _HEIGHT + height_below + 15
    for i, is_start in zip(range(first, end), _breaks(residues, first, end)):
        x = _LEFT + _STEP * (i - first)
        if is_start or i == first:
            parts.append(f'<text x="{x + 2:g}" y="{_TOP - 5:g}" class="chain">{escape(residues[i].chain)}</text>')
        if is_start:
            parts.append(f'<path d="M{x:g} {_TOP - 12:g}V{_TOP + _HEIGHT + height_below:g}" stroke="#5b6673"/>')
        if residues[i].number % 20 == 0:
            parts.append(f'<text x="{x + _STEP / 2:g}" y="{below:g}" text-anchor="middle">{residues[i].number}</text>')
    return "".join(parts)


def _path(values: NDArray, breaks: Sequence[bool]) -> str:
    parts, pen = [], "M"
    for i, (value, is_start) in enumerate(zip(values.tolist(), breaks)):
        if not np.isfinite(value):
            pen = "M"
            continue
        x = _LEFT + _STEP * (i + 0.5)
        parts.append(f"{'M' if is_start else pen}{x:g} {_y(value):.1f}")
        pen = "L"
    return "".join(parts)


def _blocks(strip: ResidueColumn, top: float, first: int, end: int) -> list[str]:
    """A rectangle for each run of residues of one class."""
    values = strip.values[first:end]
    starts = np.concatenate([[0], np.nonzero(np.diff(values))[0] + 1, [len(values)]]).tolist()
    return [
        f'<rect x="{_LEFT + _STEP * a:g}" y="{top:g}" width="{_STEP * (b - a):g}" height="{_STRIP:g}"'
        f' fill="{strip.classes[int(values[a])].colour}"/>'
        for a, b in pairwise(starts)
        if values[a] >= 0
    ]
