"""The part of the bundle for EMDB: map, half maps, mask, shell correlations, picture and header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.maps.alignment import inverted
from kernels.maps.fsc import corrected_fsc, resolution_angstrom
from kernels.maps.grid import DensityGrid
from kernels.maps.part_refinement import joined
from kernels.masks import mask_of_halves
from kernels.rotations import symmetry_group
from tasks.deposition.gathered import Gathered
from tasks.deposition.people import Rows
from tasks.formats.fsc_xml import FscCurve, fsc_xml
from tasks.formats.map_file import write_map
from tasks.formats.pdbx import Value
from tasks.plots.style import encode_png
from tasks.plots.surface import surface_image
from tasks.stores.products.map_store import density_grid, read_map
from tasks.stores.session_store import SessionStore

CURVES = {"fsc.xml": "corrected", "fsc_masked.xml": "masked", "fsc_unmasked.xml": "unmasked"}
"""File -> which shell correlation it holds; the first one says the resolution."""
PART_MASK = "part_mask.mrc"
"""Of a map in which a part that was refined by itself stands."""
IMAGE_PX = 500
"""Side of the picture, as EMDB asks for."""
_TITLES = {
    "corrected": "Half maps inside of the mask, corrected for the mask by randomised phases",
    "masked": "Half maps inside of the mask",
    "unmasked": "Half maps",
}
_CURVE_ROWS = {"unmasked": 1, "masked": 2, "corrected": 4}
_ANGSTROM3_PER_DALTON = 0.4
"""Inside of the contour: a third of what proteins take up, which shows a sharpened map without its noise."""


@dataclass(frozen=True, eq=False)
class MapFiles:
    """Arrays of the EMDB part."""

    map: DensityGrid
    half_1: DensityGrid
    half_2: DensityGrid
    mask: DensityGrid
    frequency_per_angstrom: NDArray
    curves: Mapping[str, NDArray]
    """``corrected``, ``masked`` and ``unmasked`` (shell,)."""
    resolution_angstrom: float
    """Where the corrected curve crosses 0.143; infinite where it never rises above."""
    contour_level: float
    part_mask: DensityGrid | None = None
    """How much of each voxel is that of a part which was refined by itself, in all of its copies."""

    @property
    def named(self) -> dict[str, tuple[str, DensityGrid]]:
        """File -> what the dictionary calls its type, and the map."""
        found = {
            "map.mrc": ("primary map", self.map),
            "half_1.mrc": ("half map", self.half_1),
            "half_2.mrc": ("half map", self.half_2),
            "mask.mrc": ("mask", self.mask),
        }
        return found if self.part_mask is None else {**found, PART_MASK: ("mask", self.part_mask)}


def map_files(store: SessionStore, of: Gathered) -> MapFiles:
    """Maps and curves of the store; what it lacks of a part, a joined map or one of another program is made here."""
    halves = of.map.halves
    assert halves is not None
    grid = density_grid(store, of.map.name)
    half_1, half_2 = density_grid(store, halves, "half_1"), density_grid(store, halves, "half_2")
    reader = read_map(store, halves)
    if "mask" in reader:
        mask = density_grid(store, halves, "mask")
    else:
        mask = grid.with_voxels(mask_of_halves(half_1.voxels, half_2.voxels, grid.voxel_size_angstrom))
    if of.map.curves is not None:
        table = read_map(store, of.map.curves)["fsc_curves"]
        frequency, curves = table[0], {name: table[row] for name, row in _CURVE_ROWS.items()}
    else:
        found = corrected_fsc(half_1.voxels, half_2.voxels, mask.voxels, torch.Generator().manual_seed(0))
        curves = {name: getattr(found, name).numpy() for name in _CURVE_ROWS}
        side = max(grid.voxels.shape) * grid.voxel_size_angstrom
        frequency = np.arange(len(found.corrected)) / side
    level = of.told.contour_level
    level = _level(of, grid, mask.voxels) if level is None else level
    curve = torch.from_numpy(np.asarray(curves["corrected"], np.float32))
    resolution = resolution_angstrom(curve, max(grid.voxels.shape), grid.voxel_size_angstrom)
    return MapFiles(grid, half_1, half_2, mask, frequency, curves, resolution, level, _part_mask(store, of, grid))


def _part_mask(store: SessionStore, of: Gathered, grid: DensityGrid) -> DensityGrid | None:
    if of.map.part is None or of.map.part.is_alone:
        return None
    own = torch.from_numpy(read_map(store, of.map.part.name)["mask"])
    operations = symmetry_group(of.map.about.symmetry).float()
    share = joined(torch.zeros_like(own), torch.ones_like(own), own, operations)
    return grid.with_voxels(inverted(share) if of.map.is_mirrored else share)


def _level(of: Gathered, grid: DensityGrid, mask: Tensor) -> float:
    """Density that encloses a third of the volume of the molecules, or of the mask where they are not known."""
    if of.pdbx is not None:
        n_voxels = _ANGSTROM3_PER_DALTON * of.pdbx.weight_dalton / grid.voxel_size_angstrom**3
    else:
        n_voxels = float((mask > 0.5).sum()) / 3
    values = (grid.voxels * (mask > 0)).flatten()
    n = min(max(1, math.ceil(n_voxels)), len(values) - 1)
    level = float(values.topk(n).values[-1])
    return level if level > 0 else 3 * float(grid.voxels.std())


def write_emdb(folder: Path, files: MapFiles) -> None:
    """Everything but the header, into a folder that is there."""
    for name, (_, grid) in files.named.items():
        write_map(folder / name, grid)
    for name, kind in CURVES.items():
        curve = FscCurve(_TITLES[kind], files.frequency_per_angstrom, files.curves[kind])
        (folder / name).write_bytes(fsc_xml(curve))
    picture = surface_image((files.map.voxels * files.mask.voxels).numpy(), files.contour_level, IMAGE_PX)
    (folder / "image.png").write_bytes(encode_png(picture))


def map_categories(of: Gathered, files: MapFiles) -> dict[str, Rows]:
    """Headers of the maps, and where the shell correlations lie."""
    rows = [
        _map(of, number, name, kind, grid, files.contour_level)
        for number, (name, (kind, grid)) in enumerate(files.named.items(), start=1)
    ]
    curves: Rows = [
        {"id": number, "file": name, "details": _TITLES[kind]}
        for number, (name, kind) in enumerate(CURVES.items(), start=1)
    ]
    return {"em_map": rows, "em_fsc_curve": curves}


def _map(of: Gathered, number: int, file: str, kind: str, grid: DensityGrid, contour_level: float) -> dict[str, Value]:
    z, y, x = grid.voxels.shape
    size = grid.voxel_size_angstrom
    start = (grid.origin_angstrom / size).round().long().tolist()
    voxels = grid.voxels.double()
    row: dict[str, Value] = {
        "id": number,
        "entry_id": of.entry_id,
        "type": kind,
        "file": file,
        "format": "CCP4",
        "partition": number - 1 if kind == "half map" else 1,
        "data_type": "Image stored as floating point number (4 bytes)",
        "endian_type": "little",
        "axis_order_fast": "X",
        "axis_order_medium": "Y",
        "axis_order_slow": "Z",
        "symmetry_space_group": 1,
        "size_kb": round((1024 + 4 * grid.voxels.numel()) / 1024),
        "statistics_minimum": float(voxels.min()),
        "statistics_maximum": float(voxels.max()),
        "statistics_average": float(voxels.mean()),
        "statistics_std": float(voxels.std()),
        "contour_level": None if kind == "mask" else contour_level,
        "contour_level_source": None if kind == "mask" else "author",
    }
    for axis, n in (("col", x), ("row", y), ("sec", z)):
        row[f"dimensions_{axis}"] = n
    for axis, first in zip(("sec", "row", "col"), start):
        row[f"origin_{axis}"] = first
    for axis, letter, n in (("x", "a", x), ("y", "b", y), ("z", "c", z)):
        row[f"spacing_{axis}"] = n
        row[f"pixel_spacing_{axis}"] = round(size, 6)
        row[f"cell_{letter}"] = round(n * size, 4)
    for angle in ("alpha", "beta", "gamma"):
        row[f"cell_{angle}"] = 90.0
    return row
