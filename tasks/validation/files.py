"""A validation as files: a table of the residues to read in any program, and everything as JSON."""

from __future__ import annotations

import csv
import uuid
from dataclasses import dataclass
from pathlib import Path

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from tasks.building.detector import residue_networks
from tasks.formats import FormatError
from tasks.formats.map_file import read_map
from tasks.formats.structure import read_structure, write_structure
from tasks.records.model import ModelValidation, ResidueValidation
from tasks.validation.judgement import Maps, judge

_SAME_ANGSTROM = 0.01


def read_maps(
    map_path: Path, half_1_path: Path | None, half_2_path: Path | None, voxel_size_angstrom: float | None
) -> Maps:
    """The map that a model is judged in, and its halves.

    Raises
    ------
    FormatError
        Where one half is given alone, or a half lies in another frame than the map.
    """
    if (half_1_path is None) != (half_2_path is None):
        raise FormatError(f"found half map {half_1_path or half_2_path} alone, expected both halves or none")
    grid = read_map(map_path, voxel_size_angstrom)
    if half_1_path is None or half_2_path is None:
        return Maps(grid)
    halves = [read_map(path, voxel_size_angstrom) for path in (half_1_path, half_2_path)]
    for path, half in zip((half_1_path, half_2_path), halves):
        is_same = half.voxels.shape == grid.voxels.shape and bool(
            torch.allclose(half.origin_angstrom, grid.origin_angstrom, atol=_SAME_ANGSTROM)
        )
        if not is_same:
            raise FormatError(
                f"{path}: has {_shape(half)} voxels, its first one at {_origin(half)} Å, but {map_path} has"
                f" {_shape(grid)} and {_origin(grid)} Å (x, y, z); give half maps in the frame of the map"
            )
    return Maps(grid, *halves)


def _shape(grid: DensityGrid) -> str:
    return " x ".join(str(n) for n in reversed(grid.voxels.shape))


def _origin(grid: DensityGrid) -> str:
    return ", ".join(f"{o:.2f}" for o in reversed(grid.origin_angstrom.tolist()))


@dataclass(frozen=True)
class ValidationFiles:
    """What is to be judged, as files."""

    map: Path
    model: Path
    half_1: Path | None = None
    half_2: Path | None = None
    voxel_size_angstrom: float | None = None
    """In place of what the maps say."""
    resolution_angstrom: float | None = None
    is_network_asked: bool = False
    weights: Path | None = None
    """Of the network; None for those that come with the project."""


def validate_files(given: ValidationFiles, folder: Path | None) -> tuple[ModelValidation, list[Path]]:
    """Judge a model in its map; what was found, and the files written into a folder, if one is given."""
    maps = read_maps(given.map, given.half_1, given.half_2, given.voxel_size_angstrom)
    model = read_structure(given.model)
    detections = None
    if given.is_network_asked:
        detections = residue_networks(None if given.weights is None else str(given.weights)).detect(maps.map).protein
    found = judge(model, maps, given.resolution_angstrom, detections)
    if folder is None:
        return found, []
    files = write_validation(folder, found)
    coloured = folder / "probability.cif"
    write_structure(coloured, with_probability_as_b_factor(model, found))
    return found, [*files, coloured]


def write_validation(folder: Path, found: ModelValidation) -> list[Path]:
    """``residues.csv`` and ``validation.json`` in a folder; each appears under its name when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    table, everything = folder / "residues.csv", folder / "validation.json"
    partial = folder / f".{uuid.uuid4().hex}.partial"
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(ResidueValidation.model_fields))
            writer.writeheader()
            writer.writerows(row.model_dump() for row in found.residues)
        partial.replace(table)
        partial.write_text(found.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(everything)
    finally:
        partial.unlink(missing_ok=True)
    return [table, everything]


def with_probability_as_b_factor(model: AtomicModel, found: ModelValidation) -> AtomicModel:
    """The model with 100 times each residue's probability of being right in place of its B-factors, to colour it by."""
    probability = torch.tensor([row.probability or 0.0 for row in found.residues])
    return AtomicModel(
        model.residues,
        model.residue,
        model.names,
        model.elements,
        model.coordinates_angstrom,
        100 * probability[model.residue],
        model.occupancy,
    )
