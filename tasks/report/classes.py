"""2D classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.plots import page
from tasks.plots import particles as particle_plots
from tasks.plots.style import png
from tasks.report.contents import Contents, figures_line


def classes_2d(contents: Contents) -> str:
    record, reader = contents.record("classes/2d"), contents.read("classes/2d")
    if record is None or reader is None or "class_average" not in reader:
        return page.section("classes", "2D classes", page.not_yet("no 2D classes"))
    averages = reader["class_average"]
    columns: dict[str, NDArray[np.float64] | None] = {}
    for name in ("n_particles", "resolution_angstrom", "is_kept"):
        values = record.details.get(name)
        if isinstance(values, list) and len(values) == len(averages):
            columns[name] = np.array([np.nan if v is None else float(v) for v in values])
        else:
            columns[name] = None
    kept = None if columns["is_kept"] is None else columns["is_kept"] > 0
    figure = particle_plots.class_gallery(
        averages, columns["n_particles"], columns["resolution_angstrom"], kept, contents.max_classes
    )
    words = f"{len(averages)} classes"
    if kept is not None:
        words += f", {int(kept.sum())} kept (green frame)"
    alt = f"Gallery of {words}; each with its number of particles"
    return page.section(
        "classes",
        "2D classes",
        page.grid([contents.show("classes-2d", png(figure), alt, words)], "pictures wide"),
        figures_line(record),
    )
