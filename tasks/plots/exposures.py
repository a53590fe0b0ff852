"""Pictures of exposures: motion, CTF fits, micrographs with picks, and the course of a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kernels.fourier import crop_transform, frequency_length, inverse, transform
from tasks.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    encode_png,
    figure_with_axes,
    in_style,
    say_empty,
    show_image,
    stretch_limits,
)

_PICK_COLOUR = (46, 255, 120)
_N_GREYS = 32
"""Of a micrograph: half the bytes of 256, the same to the eye."""


@in_style
def motion_trajectory(
    global_shift_angstrom: NDArray,
    patch_center_px: NDArray | None = None,
    patch_shift_angstrom: NDArray | None = None,
    shape: tuple[int, int] | None = None,
) -> Figure:
    """Motion of one movie: the (frame, yx) global path in Å and, enlarged over the frame, that of its patches.

    ``patch_shift_angstrom`` is (patch, frame, yx) with ``patch_center_px`` (patch, yx) in a frame of ``shape`` px.
    """
    has_patches = patch_center_px is not None and patch_shift_angstrom is not None and patch_shift_angstrom.size > 0
    figure, axes = figure_with_axes(5.6 if has_patches else 2.9, 2.7, 1, 2 if has_patches else 1)
    path = axes[0, 0]
    if len(global_shift_angstrom) == 0:
        say_empty(path, "no frames")
    else:
        y, x = global_shift_angstrom[:, 0], global_shift_angstrom[:, 1]
        path.plot(x, y, color=GREY, linewidth=0.9, zorder=1)
        path.scatter(x, y, c=np.arange(len(x)), cmap="viridis", s=14, zorder=2)
        path.annotate("first", (x[0], y[0]), textcoords="offset points", xytext=(5, 4), fontsize=8)
        path.set_aspect("equal", adjustable="datalim")
        path.invert_yaxis()
        path.set_xlabel("x / Å")
        path.set_ylabel("y / Å")
        path.set_title(f"Global path, {len(x)} frames")
    if has_patches:
        assert patch_center_px is not None and patch_shift_angstrom is not None
        field = axes[0, 1]
        extent = shape or tuple(int(1.2 * v) + 1 for v in patch_center_px.max(axis=0))
        spread = np.ptp(patch_shift_angstrom, axis=1).max()
        spacing = max(extent) / (1 + np.sqrt(len(patch_center_px)))
        scale = 0.8 * spacing / max(float(spread), 1e-6)
        paths = patch_center_px[:, None, ::-1] + scale * (patch_shift_angstrom - patch_shift_angstrom[:, :1])[..., ::-1]
        field.add_collection(LineCollection(list(paths), colors=BLUE, linewidths=1.2, clip_on=False))
        field.scatter(patch_center_px[:, 1], patch_center_px[:, 0], s=5, color=INK, zorder=3)
        field.scatter(paths[:, -1, 0], paths[:, -1, 1], s=10, color=ORANGE, zorder=3, clip_on=False)
        field.set_xlim(0, extent[1])
        field.set_ylim(extent[0], 0)
        field.set_aspect("equal")
        field.xaxis.set_major_locator(MaxNLocator(4))
        field.yaxis.set_major_locator(MaxNLocator(4))
        field.set_xlabel("x / px")
        field.set_ylabel("y / px")
        bar = _round_length(0.6 * float(spread))
        field.set_title(f"Local, {bar:g} Å drawn as {bar * scale:.0f} px")
    return figure


def _round_length(value: float) -> float:
    """The nearest 1, 2 or 5 times a power of ten."""
    value = max(value, 1e-3)
    power = 10 ** np.floor(np.log10(value))
    return float(min((1, 2, 5, 10), key=lambda step: abs(step * power - value)) * power)


@dataclass(frozen=True)
class CtfFit:
    """What a CTF picture shows."""

    power_spectrum: NDArray | None
    """(y, x_half) observed, background-free, in rfft order."""
    model: NDArray | None
    """(y, x_half) |CTF| at the fit, in rfft order."""
    curves: NDArray | None
    """(4, frequency): frequency in 1/Å, observed, model, correlation."""
    defocus_u_angstrom: float
    defocus_v_angstrom: float
    fit_resolution_angstrom: float
    pixel_size_angstrom: float
    """Of the image that the spectrum was made from."""


@in_style
def ctf_fit(fit: CtfFit) -> Figure:
    """Left: observed spectrum, averaged over short arcs, beside the model, and a ring where the fit ends.

    Right: averages over directions.
    """
    figure, axes = figure_with_axes(5.6, 2.7, 1, 2, width_ratios=(1, 1.1))
    rings, averages = axes[0]
    u, v = fit.defocus_u_angstrom / 1e4, fit.defocus_v_angstrom / 1e4
    if fit.power_spectrum is None or fit.model is None:
        say_empty(rings, "no power spectrum")
    else:
        nyquist = 1 / (2 * fit.pixel_size_angstrom)
        edge = min(nyquist, 1.3 / fit.fit_resolution_angstrom) if fit.fit_resolution_angstrom > 0 else nyquist
        observed, model = _two_halves(fit.power_spectrum, fit.model, edge / nyquist)
        show_image(rings, np.concatenate([observed, model], axis=1), 0, 1)
        if fit.fit_resolution_angstrom > 0:
            radius = model.shape[1] / fit.fit_resolution_angstrom / edge
            centre = (observed.shape[1] - 0.5, observed.shape[0] // 2)
            rings.add_patch(Circle(centre, radius, fill=False, color=ORANGE, linewidth=1, linestyle=(0, (4, 3))))
        rings.set_title("Observed | model")
        rings.set_xlabel(f"edge: {1 / edge:.1f} Å")
    if fit.curves is None or fit.curves.shape[1] < 2:
        say_empty(averages, "no fit curves")
    else:
        frequency, seen, model, correlation = fit.curves
        scale = _ring_height(model, frequency)
        averages.plot(frequency, np.clip(seen / scale, -0.2, 1.25), color=INK, linewidth=1, label="observed")
        averages.plot(frequency, np.clip(model / scale, -0.2, 1.25), color=BLUE, linewidth=1, label="model")
        averages.plot(frequency, correlation, color=ORANGE, linewidth=1, label="agreement")
        if fit.fit_resolution_angstrom > 0:
            averages.axvline(1 / fit.fit_resolution_angstrom, color=GREY, linestyle="--", linewidth=1)
        averages.set_ylim(-0.25, 1.5)
        averages.set_xlim(0, float(frequency.max()))
        averages.set_xlabel("spatial frequency / Å⁻¹")
        averages.legend(loc="upper right", ncol=3, handlelength=1, columnspacing=0.8, borderaxespad=0.1)
        averages.set_title(f"{u:.2f}/{v:.2f} µm, fits to {fit.fit_resolution_angstrom:.1f} Å")
    return figure


def _two_halves(observed: NDArray, model: NDArray, part: float) -> tuple[NDArray, NDArray]:
    """(y, x_half) the inner ``part`` of both with zero frequency in the middle row, the observed one mirrored.

    Averaged over whole pixels to at most 180 rows; each stretched to 0..1 by what lies outside its centre.
    """
    n = observed.shape[0]
    reach = max(8, min(round(part * n / 2), (n - 1) // 2))
    step = max(1, -(-(2 * reach) // 180))
    reach = reach // step * step
    halves = []
    for half in (observed, model):
        rows = np.fft.fftshift(half, axes=0)[n // 2 - reach : n // 2 + reach, :reach]
        rows = rows.reshape(rows.shape[0] // step, step, -1, step).mean(axis=(1, 3))
        if half is observed:
            rows = _smoothed_along_rings(rows)
        middle = rows.shape[0] // 2
        distance = np.hypot(np.arange(rows.shape[0])[:, None] - middle, np.arange(rows.shape[1])[None])
        low, high = stretch_limits(rows[distance > 0.25 * middle], 2, 98)
        halves.append(np.clip((rows - low) / (high - low), 0, 1))
    # the observed half of the other side is this one turned by 180°: row y goes to row -y
    mirrored = np.roll(halves[0][::-1], 1 if step == 1 else 0, axis=0)[:, ::-1]
    return mirrored, halves[1]


def _smoothed_along_rings(half: NDArray, reach_deg: float = 8.0, n_steps: int = 17) -> NDArray:
    """(y, x_half) half plane averaged over arcs about zero frequency (middle row, first column), as an eye would."""
    n, m = half.shape
    y, x = np.mgrid[:n, :m].astype(float)
    y -= n // 2
    total, count = np.zeros(half.shape), np.zeros(half.shape)
    for angle in np.deg2rad(np.linspace(-reach_deg, reach_deg, n_steps)):
        turned_y, turned_x = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
        side = np.where(turned_x < 0, -1.0, 1.0)  # the other half of the plane is this one turned by 180°
        row = np.round(side * turned_y).astype(int) + n // 2
        column = np.round(side * turned_x).astype(int)
        is_inside = (row >= 0) & (row < n) & (column < m)
        total += np.where(is_inside, half[row.clip(0, n - 1), column.clip(0, m - 1)], 0)
        count += is_inside
    return total / np.maximum(count, 1)


def _ring_height(model: NDArray, frequency: NDArray) -> float:
    """Height of the model's rings beyond the first tenth of the band; observed and model are divided by it."""
    low, high = float(frequency[0]), float(frequency[-1])
    outer = np.abs(model[frequency > low + 0.1 * (high - low)])
    return max(float(np.percentile(outer, 98)), 1e-12) if outer.size else 1.0


def micrograph_preview(
    micrograph: NDArray, size_px: int, pixel_size_angstrom: float, low_pass_angstrom: float = 20.0
) -> NDArray[np.uint8]:
    """(y, x) grey values of a micrograph, low-passed, with its longer side at most ``size_px``, stretched."""
    image = torch.from_numpy(np.nan_to_num(np.asarray(micrograph, dtype=np.float32)))
    shape = tuple(image.shape)
    factor = min(1.0, size_px / max(shape))
    new_shape = tuple(max(2, round(n * factor)) for n in shape)
    spectrum = crop_transform(transform(image - image.mean()), shape, new_shape)
    # in cycles per pixel of the micrograph; the field of view is nearly the same for both shapes
    frequency = frequency_length(new_shape, pixel_size_angstrom / factor)
    small = inverse(spectrum * torch.exp(-0.5 * (frequency * low_pass_angstrom) ** 2), new_shape).numpy()
    low, high = stretch_limits(small, 0.5, 99.5)
    return (np.clip((small - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def micrograph_with_picks(
    micrograph: NDArray,
    pixel_size_angstrom: float,
    coordinate_px: NDArray | None,
    radius_px: float,
    size_px: int = 420,
    low_pass_angstrom: float = 20.0,
) -> bytes:
    """PNG of a micrograph with a circle around each of the (particle, yx) picks."""
    grey = micrograph_preview(micrograph, size_px, pixel_size_angstrom, low_pass_angstrom)
    image = Image.fromarray(grey // (256 // _N_GREYS), mode="L")
    image.putpalette([value for i in range(_N_GREYS) for value in [i * 255 // (_N_GREYS - 1)] * 3] + list(_PICK_COLOUR))
    draw = ImageDraw.Draw(image)
    if coordinate_px is not None and len(coordinate_px):
        scale = np.array(grey.shape) / np.array(micrograph.shape)
        radius = max(2.0, radius_px * float(scale.mean()))
        for y, x in coordinate_px * scale:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_N_GREYS, width=2)
    _draw_scale_bar(draw, image.size, pixel_size_angstrom * micrograph.shape[1] / grey.shape[1])
    return encode_png(image)


def _draw_scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], angstrom_per_px: float) -> None:
    """A bar of about a fifth of the width, its length in nm, in the palette's black and white."""
    length_nm = _round_length(size[0] * angstrom_per_px / 10 / 5)
    length_px = length_nm * 10 / angstrom_per_px
    left, bottom, white = 10, size[1] - 10, _N_GREYS - 1
    draw.rectangle((left - 5, bottom - 21, left + max(length_px, 44) + 5, bottom + 5), fill=0)
    draw.rectangle((left, bottom - 3, left + length_px, bottom), fill=white)
    draw.text((left, bottom - 18), f"{length_nm:g} nm", fill=white)


@dataclass(frozen=True)
class Series:
    """One figure of every exposure, in the order of the session."""

    title: str
    unit: str
    values: NDArray
    """(exposure,) NaN where an exposure has none."""


@in_style
def session_overview(series: Sequence[Series], is_accepted: NDArray) -> Figure:
    """Series over the number of the exposure, rejected ones as crosses; at the right how often each value occurs."""
    figure, axes = figure_with_axes(
        9.2, max(1.9, 1.45 * len(series)), max(1, len(series)), 2, width_ratios=(5, 1), sharey="row", sharex="col"
    )
    if not series:
        for a in axes[0]:
            say_empty(a, "no figures yet")
        return figure
    for row, one in zip(axes, series):
        number = np.arange(1, len(one.values) + 1)
        has = np.isfinite(one.values)
        good, bad = has & is_accepted, has & ~is_accepted
        row[0].plot(number[good], one.values[good], "o", color=BLUE, markersize=4, alpha=0.85, label="accepted")
        row[0].plot(number[bad], one.values[bad], "x", color=RED, markersize=6, markeredgewidth=1.6, label="not used")
        if good.any():
            row[0].axhline(float(np.median(one.values[good])), color=GREEN, linewidth=1, linestyle="--")
            row[1].hist(one.values[good], bins=min(20, max(5, good.sum() // 2)), orientation="horizontal", color=BLUE)
        row[0].set_title(f"{one.title}" + (f" / {one.unit}" if one.unit else ""))
        row[0].set_xlim(0.3, len(one.values) + 0.7)
        row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        row[1].xaxis.set_major_locator(MaxNLocator(2, integer=True))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, 1].legend(handles, labels, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=1, borderaxespad=0)
    axes[-1, 0].set_xlabel("exposure, by name; dashed: median of those accepted")
    axes[-1, 1].set_xlabel("exposures")
    return figure
