"""Numbers, times and text as a reader wants them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_THIN = "\u202f"


def number_words(value: int) -> str:
    return f"{value:,}".replace(",", _THIN)


def plural(n: int, word: str, many: str | None = None) -> str:
    return f"{number_words(n)} {word if n == 1 else many or word + 's'}"


def time_words(iso: str) -> str:
    """2026-11-20T17:52:55+00:00 as 2026-11-20 17:52 UTC; other text as it is."""
    try:
        return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return iso


def value_words(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)


def markdown_text(text: str) -> str:
    """Text without what Markdown or HTML would act on."""
    return re.sub(r"([\\`*_\[\]<>()#|!])", r"\\\1", text.replace("\n", " "))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of cells of plain text."""
    lines = [header, ["---"] * len(header), *([markdown_text(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
