"""The shell correlation of a bundle, computed anew from its half maps, and from its particles."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.maps.fsc import CorrectedFsc, corrected_fsc, resolution_angstrom
from kernels.maps.grid import DensityGrid
from kernels.maps.projection import Accumulator
from kernels.maps.reconstruction import complete, symmetrise, wiener_map
from kernels.maps.refinement import UNFILTERED, back_project
from kernels.particles.expectation import Disc, disc, pack
from kernels.particles.likelihood import Observation, PoseFit
from tasks.deposition.emdb import CURVES, PART_MASK
from tasks.formats import FormatError
from tasks.formats.fsc_xml import FscCurve, read_fsc_xml
from tasks.formats.map_file import read_map
from tasks.formats.star import StarParticles, read_particles

logger = logging.getLogger(__name__)

_CUT_OFF = 0.143
_SAME_BY_HALVES, _SAME_BY_PARTICLES = 0.002, 0.01
"""Largest difference of the correlation inside of the mask, up to the resolution, that still counts as the same: of
half maps that went through a file, and of maps made from particles, whose weights by noise are not in the bundle."""
_LITTLE = 0.01
"""Of a voxel that is a part's, and counts as outside of it: masks that are turned into copies ring."""
_SAME_RESOLUTION, _SAME_SHELL = 0.02, 1.0
"""The resolution may differ by this share, or by a shell: the correction for the mask draws phases at random."""


@dataclass(frozen=True)
class FscCheck:
    """Shell correlations of a bundle against those computed anew."""

    source: str
    """``half maps`` or ``particles``."""
    stated_angstrom: float
    """Where the curve of the bundle crosses 0.143; outside of a part, that of its half maps."""
    found_angstrom: float
    largest_difference: float
    """Of the correlation inside of the mask, of half maps without it as well, up to the stated resolution."""
    is_same: bool
    is_outside_part: bool = False
    """Whether a part was left out, that was refined by itself with poses of its own."""

    @property
    def words(self) -> str:
        verdict = "the same" if self.is_same else "NOT the same"
        told, where, after = f"in {next(iter(CURVES))}", "", ""
        if self.is_outside_part:
            told, where = "from the half maps there", " outside of the part that was refined by itself"
            after = (
                "; the part is not made anew from particles, which lack its own poses, its half maps alone are checked"
            )
        return (
            f"FSC from {self.source}{where}: {verdict}, {self.found_angstrom:.2f} Å ({self.stated_angstrom:.2f} Å"
            f" {told}), largest difference {self.largest_difference:.4f}{after}"
        )


def check_half_maps(emdb: Path, seed: int = 0) -> FscCheck:
    """The correlation of ``half_1.mrc`` and ``half_2.mrc`` inside of ``mask.mrc`` against the curves beside them.

    With the ``seed`` of the refinement its random phases are drawn again.
    """
    half_1, half_2, mask = _maps(emdb)
    found = corrected_fsc(half_1.voxels, half_2, mask, torch.Generator().manual_seed(seed))
    return _compared("half maps", _stated(emdb), found, ("masked", "unmasked"), half_1, _SAME_BY_HALVES)


def check_particles(emdb: Path, particles: Path, symmetry: str, seed: int = 0) -> FscCheck:
    """The same of halves that are made from ``particles.star``, of the half set that it says for each particle.

    Where a part stands in the map that was refined by itself (``part_mask.mrc``), its own poses and what was
    subtracted for them are not in the bundle. Outside of the part, halves made from the particles are then compared
    with the half maps, inside of what is left of the mask; the part itself is known by its half maps alone.
    """
    half_1, half_2, mask = _maps(emdb)
    content = read_particles(particles)
    if "half_set" not in content.particles or "rotation" not in content.particles:
        raise FormatError(f"{particles}: has no half sets or no poses; deposit the particles of a refined map again")
    stated, is_outside_part = _stated(emdb), (emdb / PART_MASK).is_file()
    if is_outside_part:
        mask = mask * (read_map(emdb / PART_MASK).voxels < _LITTLE)
        own = corrected_fsc(half_1.voxels, half_2, mask, torch.Generator().manual_seed(seed))
        stated = {kind: replace(one, correlation=getattr(own, kind).numpy()) for kind, one in stated.items()}
    first, second = (
        map_of_half_set(content, particles.parent, half, symmetry, half_1.voxels.shape[-1]) for half in (1, 2)
    )
    found = corrected_fsc(first, second, mask, torch.Generator().manual_seed(seed))
    # the outermost plane of an even box is nobody's mirror image, so that of a flipped map is left to the mask
    check = _compared("particles", stated, found, ("masked",), half_1, _SAME_BY_PARTICLES)
    return replace(check, is_outside_part=is_outside_part)


def _maps(emdb: Path) -> tuple[DensityGrid, Tensor, Tensor]:
    """Half maps and their mask."""
    half_1, half_2, mask = (read_map(emdb / name) for name in ("half_1.mrc", "half_2.mrc", "mask.mrc"))
    if not half_1.voxels.shape == half_2.voxels.shape == mask.voxels.shape:
        raise FormatError(
            f"{emdb}: half maps are {tuple(half_1.voxels.shape)} and {tuple(half_2.voxels.shape)}, the mask"
            f" {tuple(mask.voxels.shape)}; deposit again"
        )
    return half_1, half_2.voxels, mask.voxels


def _stated(emdb: Path) -> dict[str, FscCurve]:
    return {kind: read_fsc_xml(emdb / name) for name, kind in CURVES.items()}


def _compared(
    source: str,
    curves: Mapping[str, FscCurve],
    found: CorrectedFsc,
    kinds: Sequence[str],
    grid: DensityGrid,
    tolerance: float,
) -> FscCheck:
    """Curves by their kind, and those found, inside of the same mask."""
    stated = _resolution(curves["corrected"], grid)
    anew = _resolution(FscCurve("", curves["corrected"].frequency_per_angstrom, found.corrected.numpy()), grid)
    shells = curves["masked"].frequency_per_angstrom <= (1 / stated if math.isfinite(stated) else math.inf)
    differences = [_difference(curves[kind], getattr(found, kind), shells) for kind in kinds]
    side = max(grid.voxels.shape) * grid.voxel_size_angstrom
    is_near = (
        anew == stated or abs(anew / stated - 1) <= _SAME_RESOLUTION or abs(side / anew - side / stated) <= _SAME_SHELL
    )
    is_same = max(differences) <= tolerance and is_near
    return FscCheck(source, round(stated, 3), round(anew, 3), round(max(differences), 5), is_same)


def _resolution(curve: FscCurve, grid: DensityGrid) -> float:
    values = torch.from_numpy(curve.correlation.astype(np.float32))
    return resolution_angstrom(values, max(grid.voxels.shape), grid.voxel_size_angstrom, _CUT_OFF)


def _difference(curve: FscCurve, found: Tensor, shells: NDArray[np.bool_]) -> float:
    if len(curve.correlation) != len(found):
        raise FormatError(f"{curve.title}: has {len(curve.correlation)} shells, the half maps {len(found)}")
    return float(np.abs(curve.correlation - found.numpy())[shells].max())


def map_of_half_set(content: StarParticles, folder: Path, half: int, symmetry: str, box: int) -> Tensor:
    """(z, y, x) unfiltered map of one half set, on the scale of its images; one stack in memory at a time."""
    coefficients = disc(box, box // 2 - 1)
    total: Accumulator | None = None
    for number in np.unique(content.stack):
        rows = np.flatnonzero((content.stack == number) & (content.particles["half_set"] == half))
        if not len(rows):
            continue
        path = folder / content.stacks[number]
        with mrcfile.mmap(path, mode="r") as file:
            images = np.asarray(file.data[content.particles["stack_index"][rows]], dtype=np.float32)
        if images.shape[-1] != box:
            raise FormatError(f"{path}: images of {images.shape[-1]} px, the half maps have {box}; deposit again")
        part = _sums(content, rows, -images, coefficients)  # protein is white in the file
        total = part if total is None else total + part
    if total is None:
        raise FormatError(f"{folder}: no particle belongs to half set {half}; deposit again")
    return wiener_map(symmetrise(complete(total), symmetry), UNFILTERED, box)


def _sums(content: StarParticles, rows: NDArray, images: NDArray, coefficients: Disc) -> Accumulator:
    particles = content.particles.select(rows)
    optics = content.optics_groups[int(particles["optics_group"][0])].optics
    box, pixel_size = coefficients.n, optics.pixel_size_angstrom
    frequency = coefficients.points.float() / (box * pixel_size)
    names = ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_rad", "phase_shift_rad")
    defocus = Defocus(*(torch.from_numpy(particles[name].copy()) for name in names))
    observation = Observation(
        pack(fourier.transform(torch.from_numpy(images)), coefficients) / box,
        ctf(frequency, defocus, optics),
        torch.ones(len(coefficients.shell)),
    )
    nothing = torch.zeros(len(rows))
    poses = PoseFit(
        torch.from_numpy(particles["rotation"]),
        torch.from_numpy(particles["shift_angstrom"]) / pixel_size,
        nothing,
        nothing,
        nothing,
    )
    return back_project(observation, coefficients, poses, box // 2 - 1)
