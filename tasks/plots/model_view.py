"""The atomic model in its map as a piece of an HTML page: 3D view, its controls, and all that it shows."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.models.atomic_model import Residue
from tasks.plots.style import UNSURE_TO_SURE

_FILES = Path(__file__).with_name("viewer")


@dataclass(frozen=True)
class ResidueClass:
    """One of few kinds of residues."""

    label: str
    colour: str


@dataclass(frozen=True, eq=False)
class ResidueColumn:
    """A figure of each residue."""

    identifier: str
    label: str
    values: NDArray
    """(residue,) NaN where it is not known; of classes, the index of each residue's."""
    worst: float = 0.0
    """Shown in the colour of what is unsure; may be above ``best``."""
    best: float = 1.0
    unit: str = ""
    digits: int = 2
    classes: tuple[ResidueClass, ...] = ()
    is_strip: bool = False
    """Classes that are drawn as a strip below the residues."""
    is_share: bool = False
    """Drawn over the residues on an axis from 0 to 1."""
    is_expected: bool = False
    """What the column before would be in good models: drawn with it, but no colour of the model."""


@dataclass(frozen=True, eq=False)
class MapCut:
    """A map in one byte a voxel: 0 stands for the lowest contour that can be shown, or less; 255 for the highest."""

    codes: NDArray[np.uint8]
    """(z, y, x)"""
    voxel_size_angstrom: float
    origin_angstrom: tuple[float, float, float]
    lowest: float
    highest: float
    level: float
    """Contour that is shown first."""
    sigma: float
    words: str
    """What was done to the map, for the reader."""


@dataclass(frozen=True, eq=False)
class ModelView:
    """What the 3D view shows."""

    mmcif: bytes
    file_name: str
    residues: Sequence[Residue]
    columns: Sequence[ResidueColumn]
    map_cut: MapCut | None


def view_scripts() -> tuple[str, ...]:
    """Scripts of the page that shows a `ModelView`; the first is 3Dmol.js with the licences of all that is in it."""
    licence = (_FILES / "3Dmol-LICENSE.txt").read_text()
    return (
        f"/*!\n{licence}\n*/\n{(_FILES / '3Dmol-min.js').read_text()}",
        *((_FILES / name).read_text() for name in ("isosurface.js", "model_view.js")),
    )


def view_html(view: ModelView, pictures: str) -> str:
    """The view with its controls, hidden until its script has started; ``pictures`` stand in for it until then."""
    return (
        f'<div id="model-view" hidden>{_controls(view)}<div class="stage"><div id="model-stage"></div></div>'
        '<p id="model-status" class="meta" aria-live="polite"></p>'
        '<p id="model-legend" class="meta"></p>'
        '<p class="note">Drag to turn, with the right button or Ctrl to move, click and then use the wheel to come'
        " closer. A click on a residue marks it in the plot below, and the other way round.</p></div>"
        '<p id="model-note" class="note"></p>'
        f'<details id="model-still" open><summary>Pictures of the model in its map</summary>{pictures}</details>'
        f'<script type="application/json" id="model-data">{_data(view)}</script>'
    )


def _controls(view: ModelView) -> str:
    colours = [(c.identifier, c.label) for c in view.columns if not c.is_expected]
    parts = [
        _choice("colour", "Colour by", [*colours, ("chain", "chain")]),
        _choice("style", "Model", [("cartoon", "cartoon"), ("trace", "backbone"), ("sticks", "all atoms")]),
    ]
    cut = view.map_cut
    if cut is not None:
        kinds = [("surface", "transparent"), ("mesh", "mesh"), ("solid", "solid"), ("none", "hidden")]
        parts.append(_choice("map", "Map", kinds))
        step = (cut.highest - cut.lowest) / 255
        lowest, highest = cut.lowest + 2 * step, cut.highest - 2 * step
        parts.append(
            '<label title="σ is the standard deviation of the density within 5 Å of the model">Contour'
            f' <input type="range" name="level" min="{lowest:.6g}" max="{highest:.6g}"'
            f' step="{step:.3g}" value="{cut.level:.6g}"><output></output></label>'
            '<label><input type="checkbox" name="near" checked> within 3 Å of the model</label>'
        )
    parts.append(
        '<button type="button" name="whole">Whole model</button><button type="button" name="full">Full screen</button>'
        f'<a name="save" download="{escape(view.file_name)}">Save model (mmCIF)</a>'
    )
    return f'<div class="controls">{"".join(parts)}</div>'


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    inside = "".join(f'<option value="{escape(value)}">{escape(words)}</option>' for value, words in options)
    return f'<label>{escape(label)} <select name="{name}">{inside}</select></label>'


def _data(view: ModelView) -> str:
    cut = view.map_cut
    content = {
        "model": _packed(view.mmcif),
        "scale": UNSURE_TO_SURE,
        "residues": {
            "chain": [r.chain for r in view.residues],
            "number": [r.number for r in view.residues],
            "code": [r.insertion_code for r in view.residues],
            "name": [r.name for r in view.residues],
        },
        "colours": [_column(column) for column in view.columns],
        "map": cut and {
            "data": _packed(cut.codes.tobytes()),
            "size": cut.codes.shape,
            "voxel": cut.voxel_size_angstrom,
            "origin": cut.origin_angstrom,
            "low": cut.lowest,
            "high": cut.highest,
            "sigma": cut.sigma,
        },
    }  # fmt: skip
    # what could end the element, or begin a comment in it, is written as an escape of JSON
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _column(column: ResidueColumn) -> dict[str, object]:
    values: list[float | int | None]
    if column.classes:
        values = [int(v) if v >= 0 else None for v in column.values.tolist()]
    else:
        values = [round(v, column.digits + 1) if np.isfinite(v) else None for v in column.values.tolist()]
    return {
        "id": column.identifier,
        "label": column.label,
        "unit": column.unit,
        "digits": column.digits,
        "worst": column.worst,
        "best": column.best,
        "values": values,
        "classes": [{"label": c.label, "colour": c.colour} for c in column.classes] or None,
    }


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
