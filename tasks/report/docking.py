"""What was docked in the map: where each structure lies, how sure that is, and what does not lie anywhere."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from kernels.models.atomic_model import AtomicModel
from tasks.docking.tables import BODY_COLUMNS, BODY_NOTES, body_words, not_placed_words, untrusted_words
from tasks.plots import page
from tasks.records.docking import Docking, FoundSymmetry
from tasks.report.contents import Contents
from tasks.report.model_columns import columns_of
from tasks.report.model_picture import density_around, still_picture
from tasks.report.words import plural, time_words
from tasks.stores.commit import Record
from tasks.stores.products.docking_store import read_docking
from tasks.stores.products.model_store import read_model

_DOCKED, _BENT = "docked", "flexed"
_SURE, _LIKELY = 0.9, 0.7
_SHOWN_BODIES = 100


def is_docked(contents: Contents) -> bool:
    """Whether something was docked in a map of the session."""
    return contents.record(f"models/{_DOCKED}") is not None


def docking_section(contents: Contents) -> str:
    record = contents.record(f"models/{_DOCKED}")
    if record is None:
        return page.section("docking", "Docking", page.not_yet("nothing has been docked"))
    found, model = read_docking(contents.store, _DOCKED), read_model(contents.store, _DOCKED)
    return page.section(
        "docking",
        "Docking",
        page.paragraph(f"{_DOCKED}: in the map {found.map} at {found.resolution_angstrom:.2f} Å · "
                       f"{plural(model.n_residues, 'residue')} · {time_words(record.written_at)}", "meta"),
        _tiles(found),
        _picture(contents, found, model),
        _bodies(found),
        _symmetry(found),
        *(page.paragraph(f"{one.source} {not_placed_words(one)}.") for one in found.not_placed),
        page.paragraph(f"{untrusted_words(found.n_untrusted)}.") if found.n_untrusted else "",
        _bent(contents, record),
    )  # fmt: skip


def _tiles(found: Docking) -> str:
    placed = found.placed
    n_copies = len({(row.source, row.copy_number) for row in placed})
    least = min((row.probability for row in placed), default=0.0)
    correlation = sum(row.correlation * row.n_residues for row in placed) / max(1, sum(r.n_residues for r in placed))
    tiles = [
        page.tile("Placed", str(n_copies), f"in {plural(len(placed), 'rigid body', 'rigid bodies')}"),
        page.tile("Least probability", f"{least:.2f}", "of a body to lie where it belongs", _tone(least)),
        page.tile("Correlation", f"{correlation:.2f}", "with the map, mean of residues"),
        page.tile("Not placed", str(len(found.not_placed)), tone="warn" if found.not_placed else "plain"),
    ]
    if found.symmetry:
        names = ", ".join(dict.fromkeys(one.name for one in found.symmetry))
        tiles.append(page.tile("Symmetry of copies", names, "found from where they lie"))
    return page.grid(tiles, "tiles")


def _tone(probability: float) -> page.Tone:
    return "good" if probability >= _SURE else "warn" if probability >= _LIKELY else "bad"


def _picture(contents: Contents, found: Docking, model: AtomicModel) -> str:
    part, _, _ = density_around(contents, found.map, model)
    (confidence,) = columns_of(model, model, None, None)
    return still_picture(contents, _DOCKED, _DOCKED, model, part, replace(confidence, label="probability"))


def _bodies(found: Docking) -> str:
    rows = []
    for row in found.placed[:_SHOWN_BODIES]:
        words = body_words(row)
        words[BODY_COLUMNS.index("probability")] = page.badge(f"{row.probability:.2f}", _tone(row.probability))
        rows.append([*words, "other copies, too" if row.is_from_symmetry else "its own fit"])
    left = len(found.placed) - len(rows)
    more = f" {left} bodies more are left out." if left > 0 else ""
    note = page.paragraph(f"{'; '.join(BODY_NOTES)}.{more}", "note")
    return page.table((*BODY_COLUMNS, "believed by"), rows) + note


def _symmetry(found: Docking) -> str:
    items = "".join(f"<li>{escape(_symmetry_words(one))}</li>" for one in found.symmetry)
    return f"<h3>Symmetry of the copies</h3><ul>{items}</ul>" if items else ""


def _symmetry_words(one: FoundSymmetry) -> str:
    z, y, x = one.axis
    words = f"{one.source}: {one.words} off it; axis ({x:.2f}, {y:.2f}, {z:.2f}) in x, y, z"
    return words + (f"; {plural(one.n_completed, 'copy', 'copies')} placed by it" if one.n_completed else "")


def _bent(contents: Contents, docked: Record) -> str:
    """What became of each chain that was bent into the map, where this very model was."""
    record = contents.record(f"models/{_BENT}")
    if record is None or record.inputs.get(f"models/{_DOCKED}") != docked.fingerprint:
        return ""
    rows = []
    for row in record.details.get("chains", []):
        state = page.badge("bent", "good") if row["is_kept"] else page.badge("as docked", "plain")
        rows.append([str(row["chain"]), state, str(row["reason"])])
    return "<h3>Bent into the map</h3>" + page.table(("chain", "", "why"), rows)
