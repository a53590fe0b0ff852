"""Versions of a session in figures, read from the ledgers and the records of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np

from tasks.plots import page
from tasks.records.version_table import FigureRow, ParameterRow, VersionTable
from tasks.report.contents import Contents
from tasks.report.outcomes import SERIES, SeriesSpec, outcome_of, values_of
from tasks.stores.commit import Record
from tasks.stores.ledger import Line, read_ledger
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.stores.upkeep.costs import read_costs

_RECIPE = "session/recipe"
_STAGES_OF_SERIES = {
    "defocus_u_angstrom": "estimate_ctf",
    "fit_resolution_angstrom": "estimate_ctf",
    "drift_angstrom": "estimate_ctf",
    "total_motion_angstrom": "correct_motion",
    "n_picks": "pick_particles",
}
_BETTER: dict[str, Literal["lower", "higher"]] = {"fit_resolution_angstrom": "lower"}

Better = Literal["lower", "higher"] | None


def version_table(session: SessionStore) -> VersionTable:
    """The session and every version made from it, versions of versions included."""
    named = [(session.session.name, session), *_descendants(session, "")]
    stores = [store for _, store in named]
    return VersionTable(
        session=session.session.name,
        versions=tuple(name for name, _ in named),
        parameters=tuple(_parameters(stores)),
        figures=tuple(_figures(stores)),
    )


def versions_section(contents: Contents) -> str:
    """Of the report; nothing where there are no versions."""
    store = contents.store
    origin = SessionStore.open(store.parents[-1].url) if store.parents else store
    table = version_table(origin)
    if len(table.versions) == 1:
        return page.section("versions", "Versions", page.paragraph("This session has no other version."))
    rows = [[row["what"], *(row[version] for version in table.versions), row["better"]] for row in table.rows()]
    return page.section(
        "versions",
        "Versions",
        page.paragraph("Median and half the distance of the quartiles where a figure has a spread.", "note"),
        page.table(("", *table.versions, "better"), rows),
    )


def _descendants(store: SessionStore, before: str) -> Iterator[tuple[str, SessionStore]]:
    for name in store.versions():
        try:
            version = SessionStore.open(store.version_location(name).url)
        except StoreError:  # it was announced and not made, or removed
            continue
        yield before + name, version
        yield from _descendants(version, f"{before}{name}/")


def _parameters(stores: list[SessionStore]) -> Iterator[ParameterRow]:
    recipes = [dict(_flat(record.params if record is not None else {})) for record in map(_recipe, stores)]
    for name in dict.fromkeys(name for recipe in recipes for name in recipe):
        values = tuple(json.dumps(recipe.get(name), ensure_ascii=False) for recipe in recipes)
        if len(set(values)) > 1:
            yield ParameterRow(name=name, values=tuple(_unquoted(value) for value in values))


def _recipe(store: SessionStore) -> Record | None:
    return store.product(_RECIPE).record()


def _flat(content: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _unquoted(value: str) -> str:
    return "–" if value == "null" else value.strip('"')


def _figures(stores: list[SessionStore]) -> Iterator[FigureRow]:
    lines = [read_ledger(store).lines for store in stores]
    counts = [Counter(outcome_of(line) for line in found) for found in lines]
    for word in ("in use", "rejected", "failed", "quarantined"):
        yield FigureRow(
            stage="ledger", figure=f"exposures {word}", values=tuple(c[word] for c in counts),
            better="lower" if word == "failed" else None,
        )  # fmt: skip
    for series in SERIES:
        row = _series(series, lines)
        if any(value is not None for value in row.values):
            yield row
    yield from _sets(stores)
    costs = [sum(cost.cpu_seconds for cost in read_costs(store).values()) or None for store in stores]
    yield FigureRow(stage="all", figure="CPU seconds spent", values=tuple(costs), decimals=1, better="lower")


def _series(series: SeriesSpec, lines: list[list[Line]]) -> FigureRow:
    medians: list[float | None] = []
    spreads: list[float | None] = []
    for found in lines:
        values = values_of([line for line in found if line.state == "done"], series)
        values = values[np.isfinite(values)]
        low, median, high = np.percentile(values, [25, 50, 75]) if values.size else (0.0, np.nan, 0.0)
        medians.append(float(median) if values.size else None)
        spreads.append(float(high - low) / 2 if values.size else None)
    return FigureRow(
        stage=_STAGES_OF_SERIES[series.figure], figure=series.title, unit=series.unit, values=tuple(medians),
        spreads=tuple(spreads), decimals=int(series.format[1]), better=_BETTER.get(series.figure),
    )  # fmt: skip


def _sets(stores: list[SessionStore]) -> Iterator[FigureRow]:
    """Figures of the products of the whole session."""
    rows: tuple[tuple[str, str, str, str, Callable[[Record], Any], int, Better], ...] = (
        ("classify_2d", "2D classes kept", "", "classes/2d", _n_classes_kept, 0, None),
        ("classify_2d", "particles kept", "", "particles/selected", lambda r: r.figures.get("n_particles"), 0, None),
        ("refine_map", "particles in the map", "", "maps/refined", _of_map("n_particles"), 0, None),
        ("refine_map", "resolution", "Å", "maps/refined", _of_map("resolution_angstrom"), 2, "lower"),
        ("sharpen_map", "B-factor", "Å²", "maps/sharpened", _of_map("b_factor_angstrom2"), 0, None),
    )
    for stage, figure, unit, address, read, decimals, better in rows:
        values = []
        for store in stores:
            record = store.product(address).record_if_done()
            is_there = record is not None and _is_of_its_inputs(store, record)
            value = read(record) if record is not None and is_there else None
            values.append(float(value) if isinstance(value, int | float) else None)
        if any(value is not None for value in values):
            yield FigureRow(
                stage=stage, figure=figure, unit=unit, values=tuple(values), decimals=decimals, better=better
            )


def _is_of_its_inputs(store: SessionStore, record: Record) -> bool:
    """Whether a product of the session was made of what is there now; that of a parent may be of something else."""
    for address, expected in record.inputs.items():
        if "/" not in address:  # no product, but what was read of one, or a file
            continue
        source = store.product(address).record()
        if source is None or source.fingerprint != expected:
            return False
        if not address.startswith("exposures/") and not _is_of_its_inputs(store, source):
            return False
    return True


def _n_classes_kept(record: Record) -> int | None:
    kept = record.details.get("is_kept")
    return sum(map(bool, kept)) if isinstance(kept, Iterable) else None


def _of_map(name: str) -> Callable[[Record], Any]:
    return lambda record: record.details.get("density_map", {}).get(name)
