"""The map: views, FSC, viewing directions, local resolution, and the first map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.plots import maps as map_plots
from tasks.plots import page
from tasks.plots import particles as particle_plots
from tasks.plots.style import png
from tasks.report.contents import Contents, array_of, begins_with_a_map, figures_line, made_in
from tasks.report.words import number_words
from tasks.stores.commit import Record

MAP_NAMES = ("sharpened", "refined", "imported", "flipped")
"""What a reader wants to see first, first."""


def best_map(contents: Contents) -> tuple[str, Record] | None:
    for name in MAP_NAMES:
        record = contents.record(f"maps/{name}")
        if record is not None:
            return name, record
    return None


def resolution_of(record: Record) -> float | None:
    value = record.details.get("density_map", {}).get("resolution_angstrom")
    return float(value) if isinstance(value, int | float) and np.isfinite(value) and value > 0 else None


def _pixel_size(record: Record) -> float:
    value = record.details.get("density_map", {}).get("pixel_size_angstrom")
    return float(value) if isinstance(value, int | float) and value > 0 else 1.0


def final_map(contents: Contents) -> str:
    best = best_map(contents)
    if best is None:
        return page.section("map", "Map", page.not_yet("no map has been refined"))
    name, record = best
    pictures = []
    reader = contents.read(f"maps/{name}")
    if reader is not None and "map" in reader:
        density, pixel_size = reader["map"], _pixel_size(record)
        for kind, plot in (("projections", map_plots.projections), ("slices", map_plots.central_slices)):
            figure = plot(density, pixel_size, f"{kind.capitalize()} of the {name} map")
            pictures.append(contents.show(f"map-{kind}", png(figure), f"{kind} of the {name} map along its axes"))
    else:
        pictures.append(page.not_yet(f"the {name} map has no voxels"))
    pictures.append(_fsc(contents))
    pictures.append(_orientations(contents))
    pictures.append(_local_resolution(contents))
    pictures.append(_guinier(contents))
    known = {"initial", *MAP_NAMES}
    others = [name for name, _ in made_in(contents, "maps") if name not in known]  # of parts, and joined with them
    facts = _map_facts(contents, ("initial", *reversed(MAP_NAMES), *others)) + "".join(
        figures_line(contents.record(f"maps/{name}"), f"{name}: ") for name in ("refined", "sharpened", *others)
    )
    return page.section("map", "Map", page.grid([p for p in (*pictures, f"<div>{facts}</div>") if p]))


def _fsc(contents: Contents) -> str:
    for name in ("refined", "sharpened"):
        record, reader = contents.record(f"maps/{name}"), contents.read(f"maps/{name}")
        if record is not None and reader is not None and "fsc_curves" in reader:
            resolution = resolution_of(record)
            figure = map_plots.fsc_curves(reader["fsc_curves"], resolution)
            words = f"{resolution:.2f} Å" if resolution else "no resolution"
            return contents.show(
                "fsc", png(figure), f"Half-map FSC: {words}", f"Half-map FSC, corrected for the mask: {words}"
            )
    return "" if begins_with_a_map(contents) else page.not_yet("no half-map FSC")


def _orientations(contents: Contents) -> str:
    reader = contents.read("particles/refined")
    if begins_with_a_map(contents):
        return ""
    if reader is None or "rotation" not in reader:
        return page.not_yet("no refined orientations")
    record = contents.record("maps/refined")
    symmetry = record.details.get("density_map", {}).get("symmetry", "C1") if record is not None else "C1"
    figure = particle_plots.orientation_distribution(reader["rotation"], symmetry)
    alt = "Heat map of viewing directions over the sphere"
    caption = f"Viewing directions in map coordinates with their mates in {symmetry}, equal-area map"
    return contents.show("orientations", png(figure), alt, caption)


def _local_resolution(contents: Contents) -> str:
    for name in ("sharpened", "refined"):
        record, reader = contents.record(f"maps/{name}"), contents.read(f"maps/{name}")
        if record is not None and reader is not None and "local_resolution" in reader:
            mask = array_of(reader, "mask")
            figure = map_plots.local_resolution_histogram(reader["local_resolution"], mask, resolution_of(record))
            return contents.show("local-resolution", png(figure), "Histogram of the local resolution in the mask")
    return "" if begins_with_a_map(contents) else page.not_yet("no local resolution")


def _guinier(contents: Contents) -> str:
    record = contents.record("maps/sharpened")
    curve = record.details.get("guinier") if record is not None else None
    b_factor = record.details.get("density_map", {}).get("b_factor_angstrom2") if record is not None else None
    if not isinstance(curve, dict) or not isinstance(b_factor, int | float):
        return ""
    squared, logarithm = (
        np.array([np.nan if v is None else float(v) for v in curve.get(name, [])])
        for name in ("frequency_squared", "log_amplitude")
    )
    figure = map_plots.guinier(squared, logarithm, float(b_factor))
    return contents.show("guinier", png(figure), f"Guinier plot with a B-factor of {b_factor:.0f} Å²")


def _map_facts(contents: Contents, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        record = contents.record(f"maps/{name}")
        if record is None:
            continue
        known = record.details.get("density_map", {})
        resolution, b_factor = resolution_of(record), known.get("b_factor_angstrom2")
        rows.append(
            [
                name, str(known.get("symmetry", "")), f"{_pixel_size(record):.3f}",
                f"{resolution:.2f}" if resolution else "–",
                f"{b_factor:.0f}" if isinstance(b_factor, int | float) else "–",
                number_words(int(known.get("n_particles") or 0)),
            ]
        )  # fmt: skip
    header = ("map", "symmetry", "pixel size / Å", "resolution / Å", "B-factor / Å²", "particles")
    return page.table(header, rows) if rows else ""


def initial_map(contents: Contents) -> str:
    record, reader = contents.record("maps/initial"), contents.read("maps/initial")
    if record is None or reader is None or "map" not in reader:
        return page.section("initial", "Initial map", page.not_yet("no map has been built"))
    density, pixel_size = reader["map"], _pixel_size(record)
    pictures = [
        contents.show(
            f"initial-{kind}",
            png(plot(density, pixel_size, f"{kind.capitalize()} of the initial map")),
            f"{kind} of the initial map along its axes",
        )
        for kind, plot in (("projections", map_plots.projections), ("slices", map_plots.central_slices))
    ]
    return page.section("initial", "Initial map", page.grid(pictures), figures_line(record))
