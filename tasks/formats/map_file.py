"""Density maps as MRC, CCP4 and EMDB files, in the frame that their models stand in."""

from __future__ import annotations

import gzip
import uuid
from pathlib import Path

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray

from kernels.maps.grid import DensityGrid
from kernels.maps.resampling import on_cubic_voxels
from tasks.formats import FormatError
from tasks.formats.mrc import parse_layout

_ROUNDED = 1e-4
"""Voxel sizes that differ by less are one size: cells are float32, and some programs write three digits."""
_TALLEST = 1.2
"""Voxels further from a cube than this are no map's: the cell in the header is wrong."""


def read_map(path: Path | str, voxel_size_angstrom: float | None = None) -> DensityGrid:
    """A density map with its axes in the order (z, y, x), as float32; gzipped or not.

    Where the first voxel lies is told by ORIGIN if it is given, and by NXSTART, NYSTART, NZSTART otherwise, as in
    ChimeraX. Voxels that are not quite cubes are sampled on cubes of their shortest edge.

    Parameters
    ----------
    voxel_size_angstrom
        Replaces the one of the header; ORIGIN, being in Å, is kept.

    Raises
    ------
    FormatError
        Where the file is no whole map of real, finite values that differ, or tells no voxel size.

    Source
    ------
    Cheng et al., J. Struct. Biol. 2015, 192:146 (MRC2014); ORIGIN before NXSTART as UCSF ChimeraX does.
    """
    path = Path(path)
    content = _content(path)
    header, dtype, offset = parse_layout(path, content, len(content))
    shape = tuple(int(header[name]) for name in ("nz", "ny", "nx"))
    stored = np.frombuffer(content, dtype, count=int(np.prod(shape)), offset=offset).reshape(shape)
    _check_volume(path, header, shape)
    axes = _axes(path, header)
    voxels = np.ascontiguousarray(stored.transpose(np.argsort(axes)).astype(np.float32))
    _check_values(path, voxels)
    sizes = _voxel_sizes(path, header, voxel_size_angstrom)
    origin = _origin(path, header, axes, sizes)
    density = torch.from_numpy(voxels)
    if max(sizes) / min(sizes) - 1 > _ROUNDED:
        density, size = on_cubic_voxels(density, sizes)
    else:
        size = float(np.mean(sizes))
    return DensityGrid(density, size, torch.tensor(origin, dtype=torch.float64))


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise FormatError(f"{path}: there is no such file; give the path of a map in MRC or CCP4 format")
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise FormatError(f"{path}: cannot be unpacked ({error}); copy the file again") from error


def _check_volume(path: Path, header: np.void, shape: tuple[int, ...]) -> None:
    if min(shape) < 2:
        raise FormatError(f"{path}: is an image of {shape[1]} x {shape[2]} px, expected a map of three axes")
    space_group, sections = int(header["ispg"]), int(header["mz"])
    if space_group > 400 or (space_group == 0 and sections == 1):
        raise FormatError(
            f"{path}: its header says that it is a stack of {shape[0]} images or maps (ISPG {space_group}, MZ"
            f" {sections}), expected one map; take a single map out of it, or set ISPG to 1 if it is one"
        )
    angles = [float(header["cellb"][name]) for name in ("alpha", "beta", "gamma")]
    if not all(abs(angle - 90) < 0.01 for angle in angles) and any(angles):
        raise FormatError(
            f"{path}: its axes meet at {', '.join(f'{a:g}' for a in angles)} degrees, expected 90; sample it on a"
            " rectangular grid first"
        )


def _axes(path: Path, header: np.void) -> list[int]:
    """Which of z, y and x (0, 1, 2) sections, rows and columns stand for."""
    found = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    if found == [0, 0, 0]:  # of old files
        return [0, 1, 2]
    if sorted(found) != [1, 2, 3]:
        raise FormatError(
            f"{path}: MAPC, MAPR, MAPS are {found[::-1]}, expected 1, 2 and 3 in some order; write the header again"
        )
    return [3 - axis for axis in found]


def _check_values(path: Path, voxels: NDArray) -> None:
    n_bad = int(voxels.size - np.isfinite(voxels).sum())
    if n_bad:
        raise FormatError(
            f"{path}: {n_bad} of {voxels.size} voxels are NaN or infinite; set them to 0, or make the map again"
        )
    if voxels.min() == voxels.max():
        raise FormatError(
            f"{path}: is empty: every voxel is {voxels.flat[0]:g}; take the map that the reconstruction wrote"
        )


def _voxel_sizes(path: Path, header: np.void, given_angstrom: float | None) -> list[float]:
    """Along z, y and x."""
    if given_angstrom is not None:
        if not (np.isfinite(given_angstrom) and given_angstrom > 0):
            raise ValueError(f"{path}: found a voxel size of {given_angstrom} Å, expected one above 0")
        return [float(given_angstrom)] * 3
    cell = [float(header["cella"][name]) for name in "zyx"]
    sampling = [int(header[name]) for name in ("mz", "my", "mx")]
    if not all(np.isfinite(c) and c > 0 and m > 0 for c, m in zip(cell, sampling)):
        raise FormatError(
            f"{path}: tells no voxel size: its cell is {cell[::-1]} Å on {sampling[::-1]} intervals; give the voxel"
            " size in Å (`--voxel-size`, or `voxel_size_angstrom` of import_map)"
        )
    sizes = [c / m for c, m in zip(cell, sampling)]
    if max(sizes) / min(sizes) > _TALLEST:
        raise FormatError(
            f"{path}: its voxels measure {sizes[2]:.4g} x {sizes[1]:.4g} x {sizes[0]:.4g} Å (x, y, z), expected cubes;"
            " give the voxel size in Å (`--voxel-size`) if the header is wrong"
        )
    return sizes


def _origin(path: Path, header: np.void, axes: list[int], sizes: list[float]) -> list[float]:
    """Of the first voxel in Å, along z, y and x."""
    origin = [float(header["origin"][name]) for name in "zyx"]
    if not all(np.isfinite(origin)):
        raise FormatError(f"{path}: its ORIGIN is {origin[::-1]}, expected numbers in Å; write the header again")
    if any(origin):
        return origin
    start = [int(header[name]) for name in ("nzstart", "nystart", "nxstart")]  # of sections, rows and columns
    placed = dict(zip(axes, start))
    return [placed[axis] * sizes[axis] for axis in range(3)]


def write_map(path: Path | str, grid: DensityGrid) -> None:
    """Write a map as float32 in the frame of its models; the file appears under its name when it is whole.

    A first voxel that lies whole voxels from zero is written as NXSTART, NYSTART, NZSTART, which every program
    reads; another one as ORIGIN, which programs of crystallography pass over.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    steps = (grid.origin_angstrom / grid.voxel_size_angstrom).tolist()
    is_whole = all(abs(step - round(step)) < 1e-3 for step in steps)
    try:
        with mrcfile.new(partial) as file:
            file.set_data(grid.voxels.detach().cpu().float().numpy())
            file.set_volume()
            file.voxel_size = grid.voxel_size_angstrom
            z, y, x = steps if is_whole else grid.origin_angstrom.tolist()
            if is_whole:
                file.nstart = (round(x), round(y), round(z))
            else:
                file.header.origin = (x, y, z)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
