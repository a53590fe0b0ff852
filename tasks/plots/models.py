"""Pictures of atomic models: the backbone over its map, and how a model became better from round to round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tasks.plots.style import BLUE, GREY, ORANGE, UNSURE_TO_SURE, figure_with_axes, in_style, say_empty

_SURE = LinearSegmentedColormap.from_list("unsure to sure", UNSURE_TO_SURE)
_VIEWS = (("along z", 0, 1, 2), ("along y", 1, 0, 2), ("along x", 2, 0, 1))
"""Name, axis that is summed over, axis upwards, axis to the right."""


@in_style
def trace_in_map(
    places_angstrom: NDArray,
    follows: NDArray,
    values: NDArray | None,
    label: str,
    limits: tuple[float, float],
    density: NDArray | None,
    voxel_size_angstrom: float,
    origin_angstrom: Sequence[float],
) -> Figure:
    """The backbone in front of the projected map, along three axes.

    Parameters
    ----------
    places_angstrom
        (residue, 3) in (z, y, x); NaN where a residue has no backbone.
    follows
        (residue,) whether the next residue of the model is bound to this one.
    values
        (residue,) gives the colour, from ``limits[0]`` (unsure) to ``limits[1]`` (sure); one colour without.
    density
        (z, y, x) in the box that is shown; what is below zero is not.
    """
    figure, axes = figure_with_axes(9.6, 3.5, 1, 3)
    bonds = np.stack([places_angstrom[:-1], places_angstrom[1:]], axis=1)[follows[:-1]]
    bonds = bonds[np.isfinite(bonds).all((1, 2))]
    if not len(bonds):
        say_empty(axes[0, 0], "no backbone to draw")
    lines: LineCollection | None = None
    for cell, (name, through, up, right) in zip(axes[0], _VIEWS):
        cell.set_title(name, fontweight="normal", fontsize=8.5, loc="center")
        cell.grid(False)
        cell.set_xticks([])
        cell.set_yticks([])
        for spine in cell.spines.values():
            spine.set_visible(False)
        if density is not None:
            image = np.clip(density, 0, None).sum(axis=through)
            edge = [
                origin_angstrom[axis] + (np.array([0, density.shape[axis]]) - 0.5) * voxel_size_angstrom
                for axis in (right, up)
            ]
            cell.imshow(
                image, cmap="Greys", origin="lower", interpolation="bilinear", extent=(*edge[0], *edge[1]), vmin=0,
                vmax=1.6 * max(float(np.percentile(image, 99.5)), 1e-9),
            )  # fmt: skip
        order = np.argsort(bonds[:, :, through].mean(1))
        lines = LineCollection(bonds[order][:, :, [right, up]].tolist(), linewidths=1.6, capstyle="round")
        if values is None:
            lines.set_color(BLUE)
        else:
            known = values[:-1][follows[:-1] & np.isfinite(places_angstrom[:-1]).all(1) & _finite_next(places_angstrom)]
            lines.set_array(known[order])
            low, high = limits
            lines.set(cmap=_SURE if low < high else _SURE.reversed(), norm=Normalize(min(limits), max(limits)))
        cell.add_collection(lines)
        cell.set_aspect("equal")
        cell.autoscale_view()
    if lines is not None and values is not None:
        figure.colorbar(lines, ax=axes[0].tolist(), shrink=0.7, aspect=30, label=label)
    return figure


def _finite_next(places: NDArray) -> NDArray:
    return np.isfinite(places[1:]).all(1)


@in_style
def rounds(
    names: Sequence[str], figures: Sequence[tuple[str, Sequence[float | None]]], marked: int | None = None
) -> Figure:
    """One small plot for each figure of several models, in the order in which they were made; one may be marked."""
    n_columns = min(len(figures), 4)
    n_rows = -(-len(figures) // n_columns)
    figure, axes = figure_with_axes(2.6 * n_columns, 2.0 * n_rows + 0.3, n_rows, n_columns)
    for cell, (title, values) in zip(axes.ravel(), figures):
        heights = np.array([np.nan if v is None else v for v in values], dtype=float)
        cell.plot(np.arange(len(names)), heights, "o-", color=BLUE, markersize=4)
        if marked is not None:
            cell.plot(marked, heights[marked], "o", color=ORANGE, markersize=6)
        cell.set_title(title)
        cell.set_xticks(np.arange(len(names)), names, rotation=30, ha="right", color=GREY)
        cell.set_xlim(-0.4, len(names) - 0.6)
    for cell in axes.ravel()[len(figures) :]:
        cell.set_axis_off()
    return figure
