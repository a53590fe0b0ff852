"""The verdict on a session: what is to be done next and why, and all that this rests on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from html import escape

import numpy as np

from kernels.models.atomic_model import AtomicModel
from kernels.models.residue_ranges import rows_of_ranges
from tasks.plots import maps as map_plots
from tasks.plots import page
from tasks.plots.style import png
from tasks.records.verdict import Decision, Disagreement, SessionVerdict, Side
from tasks.report.artifacts import artifact_key, show_markdown
from tasks.report.contents import Contents, made_in, verdict_record
from tasks.report.words import markdown_table, markdown_text, number_words, plural
from tasks.stores.products.model_store import read_model
from tasks.stores.products.verdict_store import read_verdict
from tasks.stores.storage.location import StoreError
from tasks.verdict.missing_data import EVEN_ENOUGH, particle_words
from tasks.verdict.tables import (
    DISAGREEMENT_COLUMNS,
    SPEAKS_FOR,
    WEAK_PART_COLUMNS,
    action_words,
    disagreement_words,
    few_words,
    weak_part_words,
)

logger = logging.getLogger(__name__)

_TONES: dict[Decision, page.Tone] = {
    "deposit": "good", "build a model": "good", "rebuild here": "warn", "refine the map here": "warn",
    "collect more data": "bad",
}  # fmt: skip
_SIDE_TONES: dict[Side, page.Tone] = {
    "map": "good", "prediction": "warn", "not built": "warn", "not seen": "plain", "undecided": "plain"
}  # fmt: skip
_FORECAST = "session/resolution_forecast"
_SHOWN_DISAGREEMENTS, _SHOWN_STRETCHES = 60, 12


def verdict_of(contents: Contents) -> SessionVerdict | None:
    """The one that holds for the session as it is; none, too, where it cannot be read."""
    record = verdict_record(contents)
    try:
        return None if record is None else read_verdict(contents.store, record.params["model"])
    except (StoreError, ValueError) as error:
        logger.warning("report_session: the verdict cannot be read: %s", error)
        return None


def verdict_section(contents: Contents) -> str:
    found = verdict_of(contents)
    if found is None:
        return page.section("verdict", "Verdict", page.not_yet("no map has been judged"))
    shown = made_in(contents, "models")
    model = read_model(contents.store, shown[-1][0]) if shown and found.model is not None else None
    return page.section(
        "verdict",
        "Verdict",
        _decision(found),
        _tiles(found),
        _rebuild(found, model),
        _disagreements(found, model),
        _weak_parts(found, model),
        _missing(contents, found),
    )


def show_verdict(contents: Contents) -> None:
    """``<session>-verdict``: the same as an artifact of the Prefect run; nothing before there is one."""
    found = verdict_of(contents)
    if found is not None:
        name = contents.store.session.name
        words = f"{markdown_text(name)}: {found.decision}"
        show_markdown(artifact_key(name, "verdict"), verdict_markdown(name, found), words)


def verdict_markdown(name: str, found: SessionVerdict) -> str:
    """Decision, reason, and the tables of the report."""
    parts = [f"# {markdown_text(name)}: {found.decision}", markdown_text(f"{_sentence(found.reason)}"), _about(found)]
    if found.disagreements:
        parts += ["## Where model and prediction disagree"]
        parts += [markdown_table(DISAGREEMENT_COLUMNS, map(disagreement_words, found.disagreements))]
    if found.weak_parts:
        parts += ["## Weak parts", markdown_table(WEAK_PART_COLUMNS, map(weak_part_words, found.weak_parts))]
    if found.missing.views or found.missing.forecast:
        parts += ["## Views and particles", *(markdown_text(words) for words in _words_of_missing(found))]
    return "\n\n".join(parts)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _decision(found: SessionVerdict) -> str:
    told = f"{page.badge(found.decision, _TONES[found.decision])}{escape(_sentence(found.reason))}"
    return f'<p class="decision">{told}</p>' + page.paragraph(_about(found), "note")


def _about(found: SessionVerdict) -> str:
    if found.model is None:
        return f"Of the map {found.map}; there is no model that was judged in it."
    beside = f", beside the prediction {found.prediction}" if found.prediction else ""
    done = f" {action_words(found.action)}." if found.action else ""
    return f"Of the model {found.model} in the map {found.map}{beside}.{done}"


def _tiles(found: SessionVerdict) -> str:
    missing = found.missing
    tiles = []
    if found.resolution_angstrom is not None:
        goal, tone = "no goal was given", "plain"
        if found.goal_angstrom is not None:
            goal = f"goal {found.goal_angstrom:g} Å"
            tone = "good" if found.resolution_angstrom <= found.goal_angstrom else "bad"
        tiles.append(page.tile("Resolution", f"{found.resolution_angstrom:.2f} Å", goal, tone))  # type: ignore[arg-type]
    if missing.n_particles is not None:
        note = "in the map"
        if missing.needed is not None:
            note += f"; {missing.needed.resolution_angstrom:g} Å takes {number_words(missing.needed.n_particles)}"
        tiles.append(page.tile("Particles", number_words(missing.n_particles), note))
    if missing.evenness is not None:
        note = "1: views from everywhere; smeared below 0.6"
        tone = "good" if missing.evenness >= EVEN_ENOUGH else "bad"
        tiles.append(page.tile("Evenness of views", f"{missing.evenness:.2f}", note, tone))  # type: ignore[arg-type]
    if found.prediction is not None:
        n = sum(one.n_residues for one in found.disagreements)
        tiles.append(page.tile("Disagreement", str(n), f"residues of {found.prediction}"))
    if found.model is not None:
        n = sum(part.n_residues for part in found.weak_parts)
        tiles.append(page.tile("Weak parts", str(len(found.weak_parts)), f"{plural(n, 'residue')}"))
    return page.grid(tiles, "tiles") if tiles else ""


def _rebuild(found: SessionVerdict, model: AtomicModel | None) -> str:
    if not found.rebuild:
        return ""
    shown = [_linked([told], model) for told in found.rebuild[:_SHOWN_STRETCHES]]
    more = len(found.rebuild) - _SHOWN_STRETCHES
    rest = f" and {more} more" if more > 0 else ""
    return f"<p>To be built anew: {', '.join(shown)}{rest}.</p>"


def _disagreements(found: SessionVerdict, model: AtomicModel | None) -> str:
    if found.prediction is None:
        return ""
    title = "<h3>Where model and prediction disagree</h3>"
    if not found.disagreements:
        return title + page.paragraph(f"Nowhere: the model and {found.prediction} agree.")
    longest = sorted(found.disagreements, key=lambda one: -one.n_residues)[:_SHOWN_DISAGREEMENTS]
    rows = [_disagreement_row(one, model) for one in found.disagreements if one in longest]
    left = len(found.disagreements) - len(rows)
    more = f"; {left} shorter ones are left out" if left else ""
    note = (
        "lDDT: how well distances to residues within 15 Å agree in model and prediction, 1 where they are the same."
        " pLDDT: how sure the engine is of itself, up to 100. What is right with 0.9 is right in nine of ten cases, as"
        f" far as the map tells{more}."
    )
    header = ("prediction", "in the model", "residues", "the map speaks for", "lDDT", "why")
    return title + page.table(header, rows) + page.paragraph(note, "note")


def _disagreement_row(one: Disagreement, model: AtomicModel | None) -> list[str]:
    where, n, _, why = disagreement_words(one)
    lddt = "–" if one.lddt is None else f"{one.lddt:.2f}"
    side = page.badge(SPEAKS_FOR[one.side], _SIDE_TONES[one.side])
    return [where, _linked(one.of_model, model) if one.of_model else "–", n, side, lddt, why]


def _linked(told: Iterable[str], model: AtomicModel | None) -> page.Markup:
    """Stretches, each a link to where it is in the model that the page shows, as far as it is there."""
    shown = []
    for stretch in told:
        rows = rows_of_ranges(model, [stretch]) if model is not None and " " not in stretch else []
        shown.append(page.residue_link(rows[0].start, rows[0].stop - 1, stretch) if rows else escape(stretch))
    return page.Markup(", ".join(shown))


def _weak_parts(found: SessionVerdict, model: AtomicModel | None) -> str:
    if not found.weak_parts:
        return ""
    rows = []
    for part in found.weak_parts:
        some = part.residues[:_SHOWN_STRETCHES]
        rest = few_words(part.residues, len(some))[len(", ".join(some)) :]
        rows.append([page.Markup(_linked(some, model) + escape(rest)), *weak_part_words(part)[1:]])
    note = (
        f"Resolutions are medians over residues. A mask is an array of verdicts/{found.model} in the store, for a"
        " refinement of this part by itself; vitriflow export writes it as an MRC file."
    )
    return "<h3>Weak parts</h3>" + page.table(WEAK_PART_COLUMNS, rows) + page.paragraph(note, "note")


def _missing(contents: Contents, found: SessionVerdict) -> str:
    words = "".join(page.paragraph(told) for told in _words_of_missing(found))
    picture = _forecast_picture(contents)
    if not words and not picture:
        return ""
    return "<h3>Views and particles</h3>" + page.grid([part for part in (f"<div>{words}</div>", picture) if part])


def _words_of_missing(found: SessionVerdict) -> list[str]:
    views = found.missing.views
    return [_sentence(words) for words in (*particle_words(found.missing), views) if words]


def _forecast_picture(contents: Contents) -> str:
    record, reader = contents.record(_FORECAST), contents.read(_FORECAST)
    if record is None or reader is None or "points" not in reader:
        return ""
    figures = record.figures
    history = [
        (float(p["n_particles"]), float(p["resolution_angstrom"]))
        for p in record.details.get("history", [])[:-1]
        if p.get("resolution_angstrom")
    ]
    words = str(figures.get("verdict", ""))
    curve = reader["curve"] if "curve" in reader else np.zeros((0, 4))
    figure = map_plots.resolution_forecast(
        reader["points"].reshape(-1, 3), curve, history, _figure(figures, "limit_angstrom") or 1.0,
        _figure(figures, "goal_angstrom"), _figure(figures, "particles_per_exposure"),
        None if len(curve) else words.removeprefix("not enough evidence: "),
    )  # fmt: skip
    alt = f"Resolution against the number of particles: {words}"
    return contents.show("resolution-forecast", png(figure), alt, "Dashed: finest detail that the images hold.")


def _figure(figures: dict, name: str) -> float | None:
    value = figures.get(name)
    return float(value) if isinstance(value, int | float) else None
