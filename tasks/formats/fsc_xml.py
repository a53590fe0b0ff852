"""Shell correlations as EMDB takes them: ``<fsc>`` with a title and coordinates (schema of FSC files 1.2)."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError

_X_AXIS, _Y_AXIS = "Resolution (A-1)", "Correlation Coefficient"
"""Fixed by the schema."""


@dataclass(frozen=True, eq=False)
class FscCurve:
    """What such a file says."""

    title: str
    frequency_per_angstrom: NDArray
    """(shell,)"""
    correlation: NDArray
    """(shell,) from -1 to 1."""


def fsc_xml(curve: FscCurve) -> bytes:
    """The file; what is not finite becomes 0, and rounding beyond ±1 is cut off, as the schema asks."""
    root = ET.Element("fsc", title=curve.title, xaxis=_X_AXIS, yaxis=_Y_AXIS)
    values = np.clip(np.nan_to_num(curve.correlation.astype(float), posinf=0, neginf=0), -1, 1)
    for x, y in zip(curve.frequency_per_angstrom.tolist(), values.tolist()):
        coordinate = ET.SubElement(root, "coordinate")
        ET.SubElement(coordinate, "x").text = f"{x:.8g}"
        ET.SubElement(coordinate, "y").text = f"{y:.8g}"
    ET.indent(root)
    return ET.tostring(root, encoding="UTF-8", xml_declaration=True)


def read_fsc_xml(path: Path) -> FscCurve:
    """A file of the schema.

    Raises
    ------
    FormatError
        Where it is none: another root, other axes, or coordinates that are no numbers in range.
    """
    try:
        root = ET.fromstring(path.read_bytes())
    except (OSError, ET.ParseError) as error:
        raise FormatError(f"{path}: is no XML that can be read ({error}); deposit again") from error
    if root.tag != "fsc" or (root.get("xaxis"), root.get("yaxis")) != (_X_AXIS, _Y_AXIS) or "title" not in root.attrib:
        raise FormatError(
            f"{path}: found <{root.tag}> with {root.attrib}, expected <fsc> with a title, xaxis {_X_AXIS!r} and yaxis"
            f" {_Y_AXIS!r}; deposit again"
        )
    rows = []
    for number, coordinate in enumerate(root, start=1):
        names = [child.tag for child in coordinate]
        try:
            x, y = (float(child.text or "") for child in coordinate)
        except ValueError:
            x, y = math.nan, math.nan
        if coordinate.tag != "coordinate" or names != ["x", "y"] or not (x >= 0 and -1 <= y <= 1):
            raise FormatError(
                f"{path}: coordinate {number} is <{coordinate.tag}> of {names}, {x} and {y}; expected <x> of at least 0"
                " and <y> from -1 to 1; deposit again"
            )
        rows.append((x, y))
    if not rows:
        raise FormatError(f"{path}: has no coordinates, expected one for each shell; deposit again")
    table = np.array(rows)
    return FscCurve(root.attrib["title"], table[:, 0], table[:, 1])
