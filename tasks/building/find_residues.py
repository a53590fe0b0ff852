"""Residues of a map as the network finds them; of a symmetric map those of one unit, looked for where one unit lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.asymmetric_unit import one_of_each, symmetry_correlations, unit_of_map
from kernels.models.detections import ProteinDetections
from kernels.models.mates import Mates
from kernels.models.tracing import Density
from kernels.networks.detection import MapDetections
from tasks.building.compact_unit import compact
from tasks.building.detector import ResidueNetworks

LEAST_CORRELATION = 0.5
"""Of a map with itself turned: 1 where symmetry was imposed, 0.88 with noise of half the map's own strength on top,
0.63 with as much noise as map, 0.1 to 0.5 with axes half a voxel or one voxel off, 0.05 with a wrong symmetry (a
simulated cage at 3.6 Å)."""


@dataclass(frozen=True, eq=False)
class FoundResidues:
    """What chains are traced through."""

    candidates: ProteinDetections
    """On the CPU, the surest first; of a symmetric map, no one a mate of another."""
    density_at: Density
    """Density of the map at positions in Å."""
    structure_at: Callable[[Tensor], Tensor]
    """Places (n, 3) in Å -> (n, 3) probability of helix, strand and coil there."""
    looked_at: ProteinDetections
    """All that the network found where it looked, however unsure."""
    detected: MapDetections | None
    """All that the network tells; None of a symmetric map, in which nucleotides are not looked for."""


def find_residues(
    networks: ResidueNetworks, grid: DensityGrid, mates: Mates, n_turns: int, least_confidence: float
) -> FoundResidues:
    """Candidates for residues of one asymmetric unit, standing together as their chains do."""
    coefficients = spline_coefficients(grid.voxels.float())

    def density_at(places: Tensor) -> Tensor:
        return sampled(coefficients, grid.to_voxels(places))

    if len(mates) == 1:
        found = networks.detect(grid, n_turns)
        candidates = found.protein.surest(least_confidence).on_cpu()
        return FoundResidues(candidates, density_at, found.structure_at, found.protein, found)
    unit = unit_of_map(grid, mates)
    found = networks.detect(unit.grid, n_turns, is_wanted=unit.holds)
    candidates = one_of_each(found.protein.surest(least_confidence).on_cpu(), mates)

    def structure_at(places: Tensor) -> Tensor:
        everywhere = mates.of(places)
        looked_at = unit.holds(everywhere).int().argmax(0)
        return found.structure_at(everywhere[looked_at, torch.arange(len(places))])

    return FoundResidues(compact(candidates, mates, density_at), density_at, structure_at, found.protein, None)


def require_symmetry(grid: DensityGrid, mates: Mates, symmetry: str) -> None:
    """Raise ValueError where the map turned by an operation of its symmetry is another map."""
    if len(mates) == 1:
        return
    correlation = symmetry_correlations(grid, mates)
    worst = float(correlation.min())
    if not worst >= LEAST_CORRELATION:
        z, y, x = mates.centre_angstrom.tolist()
        fitting = int((correlation >= LEAST_CORRELATION).sum())
        raise ValueError(
            f"is said to have symmetry {symmetry}, but correlates with itself turned by it to {worst:.2f}, expected"
            f" {LEAST_CORRELATION:g} at least ({fitting} of {len(mates)} operations fit); give the symmetry that it"
            " has, C1 for none, or move the map so that the axes meet in voxel n // 2 of each side, at"
            f" ({x:.2f}, {y:.2f}, {z:.2f}) Å (x, y, z), with the highest axis along z"
        )
