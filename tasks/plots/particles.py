"""Pictures of particle sets: 2D classes and the distribution of orientations."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kernels.rotations import symmetry_group
from tasks.plots.style import GREEN, RED, figure_with_axes, in_style, say_empty, show_image


@in_style
def class_gallery(
    averages: NDArray,
    n_particles: NDArray | None = None,
    resolution_angstrom: NDArray | None = None,
    is_kept: NDArray | None = None,
    n_max: int = 60,
) -> Figure:
    """(class, y, x) averages, the largest first, with particle count and resolution; kept ones framed in green."""
    n = len(averages)
    if n == 0:
        figure, axes = figure_with_axes(4, 1)
        say_empty(axes[0, 0], "no classes")
        return figure
    order = np.arange(n) if n_particles is None else np.argsort(-np.asarray(n_particles), kind="stable")
    if is_kept is not None:
        order = order[np.argsort(~np.asarray(is_kept, dtype=bool)[order], kind="stable")]
    order = order[:n_max]
    n_columns = min(10, len(order))
    n_rows = -(-len(order) // n_columns)
    figure, axes = figure_with_axes(0.95 * n_columns + 0.1, 1.22 * n_rows + 0.1, n_rows, n_columns)
    for cell in axes.flat:
        cell.set_axis_off()
    for cell, k in zip(axes.flat, order):
        show_image(cell, _shrink(averages[k]))
        cell.set_axis_on()
        words = []
        if n_particles is not None:
            words.append(f"{int(n_particles[k])}")
        if resolution_angstrom is not None and np.isfinite(resolution_angstrom[k]):
            words.append(f"{float(resolution_angstrom[k]):.0f} Å")
        cell.set_title(" · ".join(words), fontsize=7.5, loc="center", fontweight="normal", pad=2)
        if is_kept is not None:
            for spine in cell.spines.values():
                spine.set_visible(True)
                spine.set_linewidth(1.8)
                spine.set_color(GREEN if is_kept[k] else RED)
                spine.set_linestyle("-" if is_kept[k] else (0, (2, 2)))
    return figure


def _shrink(image: NDArray, n_max: int = 96) -> NDArray:
    """Image averaged over whole pixels to at most ``n_max`` along each axis."""
    step = -(-max(image.shape) // n_max)
    if step < 2:
        return image
    y, x = (n // step * step for n in image.shape)
    return image[:y, :x].reshape(y // step, step, x // step, step).mean(axis=(1, 3))


@in_style
def orientation_distribution(rotation: NDArray, symmetry: str = "C1") -> Figure:
    """Where the particles were seen from: (particle, 3, 3) rotations as viewing directions on an equal-area map.

    A direction is the z row of the matrix: what points along the beam, in map coordinates. The colour is the number
    of particles relative to an even distribution; a particle counts in each of its symmetry mates.
    """
    figure, axes = figure_with_axes(5.4, 2.9, subplot_kw={"projection": "mollweide"})
    sphere = axes[0, 0]
    if len(rotation) == 0:
        say_empty(sphere, "no particles")
        return figure
    # (z, y, x) of the map axis that lies along the beam, and of its mates
    direction = (rotation[:, 0, :] @ symmetry_group(symmetry).numpy()).reshape(-1, 3)
    azimuth = np.arctan2(direction[:, 1], direction[:, 2])
    height = np.clip(direction[:, 0], -1, 1)
    n_height = int(np.clip(np.sqrt(len(direction) / 8), 6, 24))
    # cells of equal area: even steps of azimuth and of the sine of latitude
    azimuth_edges = np.linspace(-np.pi, np.pi, 2 * n_height + 1)
    height_edges = np.linspace(-1, 1, n_height + 1)
    counts, _, _ = np.histogram2d(height, azimuth, bins=(height_edges, azimuth_edges))
    relative = counts / counts.mean()
    # each cell is drawn in small steps, so that its edges follow the map's curves
    fine = [np.interp(np.arange(0, len(e) - 0.9, 1 / 8), np.arange(len(e)), e) for e in (azimuth_edges, height_edges)]
    mesh = sphere.pcolormesh(
        fine[0],
        np.arcsin(fine[1]),
        np.kron(relative, np.ones((8, 8))),
        cmap="magma_r",
        vmin=0,
        vmax=max(2.0, float(relative.max())),
    )
    sphere.grid(False)
    sphere.set_xticklabels([])
    sphere.tick_params(labelsize=7)
    sphere.set_title(f"Views of {len(rotation):,} particles".replace(",", " "))
    bar = figure.colorbar(mesh, ax=sphere, shrink=0.75, pad=0.02)
    bar.set_label("particles / even share", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure
