"""Pictures of density maps: FSC curves, slices, projections and local resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tasks.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED, figure_with_axes, in_style, say_empty, show_image

_FSC_ROWS = (
    ("unmasked", GREY, "-", 1.2),
    ("masked", BLUE, "-", 1.2),
    ("masked, phases randomised", RED, ":", 1.2),
    ("corrected", INK, "-", 2.0),
)


@in_style
def fsc_curves(curves: NDArray, resolution_angstrom: float | None) -> Figure:
    """Half-map FSC from (5, shell): frequency in 1/Å, unmasked, masked, phase-randomised, corrected."""
    figure, axes = figure_with_axes(5.2, 3.5)
    plot = axes[0, 0]
    if curves.shape[1] < 2:
        say_empty(plot, "no FSC")
        return figure
    frequency = curves[0]
    for (label, colour, line, width), values in zip(_FSC_ROWS, curves[1:]):
        has = np.isfinite(values) & (frequency > 0)
        plot.plot(frequency[has], values[has], color=colour, linestyle=line, linewidth=width, label=label)
    for threshold in (0.143, 0.5):
        plot.axhline(threshold, color=GREY, linewidth=0.9, linestyle="--")
        plot.text(frequency.max(), threshold + 0.015, f"{threshold}", ha="right", fontsize=8, color=GREY)
    if resolution_angstrom:
        plot.axvline(1 / resolution_angstrom, color=ORANGE, linewidth=1)
        plot.annotate(
            f"{resolution_angstrom:.2f} Å", (1 / resolution_angstrom, 0.143), textcoords="offset points",
            xytext=(5, 8), color=ORANGE, fontweight="bold",
        )  # fmt: skip
    plot.axhline(0, color=GREY, linewidth=0.6)
    plot.set_xlim(0, float(frequency.max()))
    plot.set_ylim(-0.15, 1.05)
    plot.set_xlabel("spatial frequency / Å⁻¹")
    plot.set_ylabel("Fourier shell correlation")
    figure.legend(loc="outside lower center", ncol=4, columnspacing=1.0, handlelength=1.6)
    ticks = [t for t in plot.get_xticks() if 0 < t <= frequency.max()]
    above = plot.secondary_xaxis("top")
    above.set_xticks(ticks, [f"{1 / t:.1f} Å" for t in ticks])
    above.tick_params(labelsize=7.5, colors=GREY, length=0)
    above.spines["top"].set_visible(False)
    return figure


_FOLD_ANGSTROM = 10.0
"""Coarser amplitudes follow the shape of the particle, not the B-factor."""


@in_style
def guinier(frequency_squared: NDArray, log_amplitude: NDArray, b_factor_angstrom2: float) -> Figure:
    """ln of the amplitude over the squared frequency in 1/Å², and the line of slope B / 4 through its outer part."""
    figure, axes = figure_with_axes(4.2, 2.7)
    plot = axes[0, 0]
    has = np.isfinite(frequency_squared) & np.isfinite(log_amplitude)
    x, y = frequency_squared[has], log_amplitude[has]
    if len(x) < 2:
        say_empty(plot, "no Guinier plot")
        return figure
    outer = x > 1 / _FOLD_ANGSTROM**2
    if not outer.any():
        outer = np.ones(len(x), dtype=bool)
    slope = b_factor_angstrom2 / 4
    plot.plot(x, y, color=INK, linewidth=1, label="ln |F|")
    plot.plot(
        x[outer], y[outer].mean() + slope * (x[outer] - x[outer].mean()), color=ORANGE, linewidth=1.6,
        label=f"B = {b_factor_angstrom2:.0f} Å²",
    )  # fmt: skip
    plot.set_xlabel("squared spatial frequency / Å⁻²")
    plot.set_ylabel("ln amplitude")
    plot.legend(loc="upper right")
    return figure


@in_style
def central_slices(density: NDArray, pixel_size_angstrom: float, title: str = "") -> Figure:
    """The three central slices of a (z, y, x) map, all at one contrast."""
    z, y, x = (n // 2 for n in density.shape)
    images = (density[z], density[:, y], density[:, :, x])
    return _three_views(images, ("z: y over x", "y: z over x", "x: z over y"), pixel_size_angstrom, title or "Slices")


@in_style
def projections(density: NDArray, pixel_size_angstrom: float, title: str = "") -> Figure:
    """Sums of a (z, y, x) map along its three axes, all at one contrast."""
    images = tuple(density.sum(axis=axis) for axis in range(3))
    names = ("along z: y over x", "along y: z over x", "along x: z over y")
    return _three_views(images, names, pixel_size_angstrom, title or "Projections")


def _three_views(images: tuple[NDArray, ...], names: tuple[str, ...], pixel_size_angstrom: float, title: str) -> Figure:
    figure, axes = figure_with_axes(6.6, 2.55, 1, 3)
    values = np.concatenate([image.ravel() for image in images])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(np.percentile(values, 99.8))) if values.size else (0.0, 1.0)
    for cell, image, name in zip(axes[0], images, names):
        show_image(cell, np.nan_to_num(image), low, max(high, low + 1e-9))
        cell.set_title(name, fontweight="normal", fontsize=8.5, loc="center")
    n = images[0].shape[1]
    length = n * pixel_size_angstrom / 4
    step = 10.0 if length > 10 else 1.0
    length = max(step, step * round(length / step))
    first = axes[0, 0]
    start, row = 0.04 * n, 0.95 * images[0].shape[0]
    first.plot([start, start + length / pixel_size_angstrom], [row, row], color="white", linewidth=2.5)
    first.text(start, row - 0.03 * n, f"{length:.0f} Å", color="white", fontsize=8, va="bottom")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=9.5)
    return figure


@in_style
def local_resolution_histogram(
    local_resolution_angstrom: NDArray, mask: NDArray | None, resolution_angstrom: float | None
) -> Figure:
    """How many voxels of the mask (all with a finite, positive value where None) resolve what."""
    figure, axes = figure_with_axes(4.2, 2.7)
    plot = axes[0, 0]
    inside = np.isfinite(local_resolution_angstrom) & (local_resolution_angstrom > 0)
    if mask is not None:
        inside &= mask > 0.5
    values = local_resolution_angstrom[inside]
    if values.size == 0:
        say_empty(plot, "no local resolution inside the mask")
        return figure
    low, high = np.percentile(values, [0.5, 99.5])
    plot.hist(np.clip(values, low, high), bins=40, color=BLUE, weights=np.full(values.size, 100 / values.size))
    plot.axvline(float(np.median(values)), color=GREEN, linewidth=1.4, label=f"median {np.median(values):.1f} Å")
    if resolution_angstrom:
        plot.axvline(resolution_angstrom, color=ORANGE, linewidth=1.4, label=f"FSC {resolution_angstrom:.1f} Å")
    plot.set_xlabel("local resolution / Å")
    plot.set_ylabel("voxels in the mask / %")
    plot.legend()
    return figure


@in_style
def resolution_forecast(
    points: NDArray,
    curve: NDArray,
    history: Sequence[tuple[float, float]],
    limit_angstrom: float,
    goal_angstrom: float | None = None,
    particles_per_exposure: float | None = None,
    reason: str | None = None,
) -> Figure:
    """Resolution against the number of particles, on the axes in which the B-factor makes it nearly a line.

    Parameters
    ----------
    points
        (point, 3) particles, resolution in Å, standard deviation of 1 / resolution: parts of the last refinement.
    curve
        (point, 4) particles, resolution that is expected, and the ends of its interval; empty without evidence.
    history
        Particles and resolution of earlier refinements.
    reason
        Why there is no curve.
    """
    figure, axes = figure_with_axes(5.2, 3.6)
    plot = axes[0, 0]
    if not len(points) and not len(history):
        say_empty(plot, reason or "no resolution is known yet")
        return figure
    resolutions = [*points[:, 1], *(d for _, d in history)]
    if len(curve):
        plot.fill_between(
            curve[:, 0], curve[:, 2] ** -2.0, curve[:, 3] ** -2.0, color=BLUE, alpha=0.18, linewidth=0, label="90 %"
        )
        plot.plot(curve[:, 0], curve[:, 1] ** -2.0, color=BLUE, label="expected")
        resolutions += curve[:, 2].tolist()
    if len(points):
        squared = points[:, 1] ** -2.0
        plot.errorbar(
            points[:, 0], squared, yerr=2 * points[:, 2] / points[:, 1], fmt="o", color=INK, markersize=4.5,
            linewidth=1, label="parts of the last refinement",
        )  # fmt: skip
    if history:
        plot.plot(
            [n for n, _ in history], [d**-2.0 for _, d in history], "D", color=ORANGE, markersize=4.5,
            label="earlier refinements",
        )  # fmt: skip
    plot.axhline(limit_angstrom**-2.0, color=GREY, linestyle="--", linewidth=0.9)
    if goal_angstrom:
        plot.axhline(goal_angstrom**-2.0, color=GREEN, linewidth=1, label=f"goal, {goal_angstrom:g} Å")
    plot.set_xscale("log")
    finest = max(min(resolutions), limit_angstrom)
    coarsest = max(resolutions)
    plot.set_ylim(0.6 * coarsest**-2.0, 1.12 * max(finest, limit_angstrom) ** -2.0)
    ticks = (20, 15, 12, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.7, 2.4, 2.2, 2, 1.8, 1.6, 1.4, 1.2, 1)
    low, high = plot.get_ylim()
    shown = [d for d in ticks if low <= d**-2.0 <= high]
    plot.set_yticks([d**-2.0 for d in shown], [f"{d:g}" for d in shown])
    plot.set_xlabel("particles")
    plot.set_ylabel("resolution / Å")
    plot.legend(loc="lower right")
    if reason:
        plot.set_title(f"no forecast: {reason}", fontweight="normal", fontsize=8, loc="left", wrap=True)
    elif particles_per_exposure:
        above = plot.secondary_xaxis(
            "top", functions=(lambda n: n / particles_per_exposure, lambda e: e * particles_per_exposure)
        )
        above.set_xlabel("exposures", fontsize=8)
        above.tick_params(labelsize=7.5, colors=GREY, length=0)
    return figure
