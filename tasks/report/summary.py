"""Head and summary: what an operator reads first."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from html import escape

import numpy as np

from tasks.plots import page
from tasks.report.contents import (
    SET_STAGES,
    Contents,
    begins_with_a_map,
    has_movies,
    made_in,
    stages_of_models,
    validation_record,
    verdict_record,
)
from tasks.report.maps import best_map, resolution_of
from tasks.report.outcomes import SERIES, TONES, outcome_of, values_of
from tasks.report.words import number_words, plural, time_words
from tasks.stores.commit import software_version
from tasks.stores.ledger import STAGES


def header(contents: Contents) -> str:
    session = contents.store.session
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<p class="kicker">Vitriflow session report</p>'
        f"<h1>{escape(session.name)}</h1>"
        f'<p class="verdict">{escape(verdict(contents))}</p>'
        f'<p class="meta">Session of {escape(time_words(session.created_at))} · {escape(contents.store.url)} · '
        f"report of {made} by {escape(software_version())}</p>"
    )


def verdict(contents: Contents) -> str:
    lines = contents.ledger.lines
    if begins_with_a_map(contents):
        said = _map_and_model(contents)
        return f"{said[0].upper()}{said[1:]}."
    if not lines:
        return "No exposure has been seen yet."
    counts = Counter(outcome_of(line) for line in lines)
    words = [f"{counts['in use']} of {plural(len(lines), 'exposure')} in use"]
    lost = [f"{counts[outcome]} {outcome}" for outcome in TONES if outcome != "in use" and counts[outcome]]
    if lost:
        words[0] += f" ({', '.join(lost)})"
    return "; ".join([*words, _map_and_model(contents)]) + "."


def _map_and_model(contents: Contents) -> str:
    best, models = best_map(contents), made_in(contents, "models")
    resolution = resolution_of(best[1]) if best else None
    if best and resolution:
        words = f"a map at {resolution:.2f} Å"
    else:
        words = "a map without a resolution estimate" if best else "no refined map yet"
    decided = verdict_record(contents)
    if models:
        name, record = models[-1]
        words += f" with a model of {plural(int(record.figures.get('n_residues') or 0), 'residue')}"
        decided = decided or validation_record(contents, name, record)
    return words + (f", verdict: {decided.figures.get('decision')}" if decided else "")


def summary(contents: Contents) -> str:
    if begins_with_a_map(contents):
        return page.section("summary", "Summary", page.grid([_map_tile(contents)], "tiles"), _steps(contents))
    ledger = contents.ledger
    counts = Counter(outcome_of(line) for line in ledger.lines)
    n_seen = len(ledger.lines)
    share = counts["in use"] / n_seen if n_seen else 0.0
    tiles = [
        page.tile("Exposures seen", str(n_seen)),
        page.tile("in use", str(counts["in use"]), f"{100 * share:.0f} %", _tone(share)),
    ]
    for outcome, note in (
        ("rejected", "by curation"),
        ("skipped", "nothing to do"),
        ("failed", "in a stage"),
        ("quarantined", "unreadable files"),
    ):
        if counts[outcome] or outcome != "skipped":
            tiles.append(page.tile(outcome, str(counts[outcome]), note, TONES[outcome] if counts[outcome] else "plain"))
    science = [_map_tile(contents), _particle_tile(contents)]
    accepted = [line for line in ledger.lines if line.state == "done"]
    for one in SERIES:
        values = values_of(accepted, one)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = np.percentile(values, [5, 95])
            science.append(
                page.tile(
                    f"{one.title}, median",
                    f"{np.median(values):{one.format}} {one.unit}".strip(),
                    f"most: {low:{one.format}} to {high:{one.format}}",
                )
            )
    parts = " + ".join(f"{counts[outcome]} {outcome}" for outcome in TONES)
    balance = f"The ledger balances: {n_seen} seen = {parts}."
    return page.section(
        "summary", "Summary", page.grid(tiles, "tiles"), page.grid(science, "tiles"), _steps(contents),
        page.paragraph(balance, "note"),
    )  # fmt: skip


def _tone(share: float) -> page.Tone:
    return "good" if share >= 0.8 else "warn" if share >= 0.5 else "bad"


def _map_tile(contents: Contents) -> str:
    best = best_map(contents)
    if best is None:
        return page.tile("Resolution", "–", "no map yet")
    resolution = resolution_of(best[1])
    note = f"{best[0]}, symmetry {best[1].details.get('density_map', {}).get('symmetry', '?')}"
    return page.tile("Resolution", f"{resolution:.2f} Å" if resolution else "unknown", note, "good")


def _particle_tile(contents: Contents) -> str:
    """How many particles the last set has, and how many those before it had."""
    counts = []
    for name in ("refined", "selected", "extracted"):
        n = _n_particles(contents, name)
        if n is not None:
            counts.append((name, n))
    if not counts:
        return page.tile("Particles", "–", "not yet")
    name, n = counts[0]
    earlier = ", ".join(f"{number_words(m)} {other}" for other, m in counts[1:])
    return page.tile("Particles", number_words(n), f"{name}; {earlier}" if earlier else name)


def _n_particles(contents: Contents, name: str) -> int | None:
    reader = contents.read(f"particles/{name}")
    if reader is None or "exposure" not in reader:
        return None
    return int(reader.shape("exposure")[0])


def stages_reached(contents: Contents) -> list[tuple[str, int]]:
    """The stages of single exposures in order, and how many exposures have passed each of them."""
    reached: Counter[str] = Counter()
    for line in contents.ledger.lines:
        n = STAGES.index(line.stage) + (line.state == "done")
        reached.update(STAGES[:n])
    return [(stage, reached[stage]) for stage in STAGES if stage != "correct_motion" or has_movies(contents)]


def set_stages_done(contents: Contents) -> list[tuple[str, bool]]:
    """The stages of the whole session in order, and whether each has its product."""
    return [(stage, contents.record(address) is not None) for stage, address in SET_STAGES]


def _steps(contents: Contents) -> str:
    """The stages in order and how far each of them came."""
    items = []
    if not begins_with_a_map(contents):
        items = [(stage, f"{n}" if n else "") for stage, n in stages_reached(contents)]
        items += [(stage, "done" if is_done else "") for stage, is_done in set_stages_done(contents)]
    items += [(stage, "done") for stage in dict.fromkeys(stage for stage, _ in stages_of_models(contents))]
    listed = "".join(
        f"<li>{escape(name.replace('_', ' '))} <b>{escape(state)}</b></li>"
        if state
        else f'<li class="todo">{escape(name.replace("_", " "))}, not yet</li>'
        for name, state in items
    )
    return f'<ol class="steps" aria-label="Stages">{listed}</ol>'
