"""One look for all figures, and figures to small PNG files; pyplot and its global state are not used."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

BLUE, ORANGE, GREEN, RED, GREY, INK = "#1f6fb2", "#d9730d", "#2a8a5b", "#c0392b", "#8a929b", "#1d2733"
"""Told apart by people with any kind of colour vision, and dark enough for thin lines on white."""
UNSURE_TO_SURE = ("#b2400a", "#ee9a3a", "#b9b3a8", "#5aa9e0", "#0b5394")
"""Orange over grey to blue, which no kind of colour vision takes for one another; all are seen on white."""

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
_DPI = 110

Arguments = ParamSpec("Arguments")


def in_style(plot: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorator: what the function draws has the common style, whatever the caller's settings are."""

    @wraps(plot)
    def styled(*arguments: Arguments.args, **named: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(_SETTINGS):
            return plot(*arguments, **named)

    return styled


def figure_with_axes(
    width_inch: float, height_inch: float, n_rows: int = 1, n_columns: int = 1, **options: object
) -> tuple[Figure, NDArray]:
    """A figure and its (row, column) axes."""
    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, **options)  # type: ignore[call-overload]
    return figure, axes


def png(figure: Figure, n_colours: int = 96, dpi: int = _DPI) -> bytes:
    """PNG of a figure with a palette of its own, which is two to four times smaller than full colour."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()
    image = Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    return encode_png(image.quantize(n_colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def show_image(axes: Axes, image: NDArray, low: float | None = None, high: float | None = None, **options: object):
    """Grey image without ticks, stretched between two percentiles unless ``low`` and ``high`` are given."""
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if low is None or high is None:
        low, high = stretch_limits(image)
    return axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="auto", **options)  # type: ignore[arg-type]


def stretch_limits(image: NDArray, low_percent: float = 0.5, high_percent: float = 99.5) -> tuple[float, float]:
    """Grey values at two percentiles of the finite pixels, never equal."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, [low_percent, high_percent]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def say_empty(axes: Axes, words: str) -> None:
    """Words in the place of data that are not there."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=GREY)
