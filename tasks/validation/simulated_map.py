"""A map as a reconstruction would show a model, with the noise that its resolution stands for."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from kernels import fourier
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.map_fit import model_density
from kernels.models.residues import NUCLEIC_BACKBONE, PROTEIN_BACKBONE

_PADDING_ANGSTROM = 10.0
_B_PER_RESOLUTION_SQUARED = 8.0
"""B-factors of models at a resolution d are about this times d²: 50 Å² at 2.5 Å, 130 Å² at 4 Å."""
_FSC_WIDTH_PER_ANGSTROM = 0.03
_BACKBONE = frozenset(PROTEIN_BACKBONE) | frozenset(NUCLEIC_BACKBONE)


def simulate_map(truth: AtomicModel, resolution_angstrom: float, generator: torch.Generator) -> DensityGrid:
    """Sharpened map of a model: B-factors that vary from place to place and along side chains, and noise.

    The half-map FSC falls through 0.143 at the resolution.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    voxel_size = min(max(resolution_angstrom / 3, 0.8), 1.2)
    low, high = truth.coordinates_angstrom.amin(0), truth.coordinates_angstrom.amax(0)
    shape = [fourier.fast_size(math.ceil(float(e) / voxel_size)) for e in high - low + 2 * _PADDING_ANGSTROM]
    origin = (low + high) / 2 - torch.tensor(shape) / 2 * voxel_size
    grid = DensityGrid(torch.zeros(shape), voxel_size, origin)
    mean_b = _B_PER_RESOLUTION_SQUARED * resolution_angstrom**2 * uniform(0.7, 1.3)
    signal = model_density(replace(truth, b_factor_angstrom2=_b_factors(truth, mean_b, generator)), grid).voxels
    frequency = fourier.frequency_length(shape, voxel_size)
    edge = 1 / resolution_angstrom - math.log(6) * _FSC_WIDTH_PER_ANGSTROM
    agreement = torch.sigmoid((edge - frequency) / _FSC_WIDTH_PER_ANGSTROM).clamp(1e-3, 0.9999)
    half = fourier.transform(signal, 3)
    index = fourier.shell_index(shape)
    n_shells = int(index.max()) + 1
    power = fourier.shell_sums(half.abs() ** 2, index, n_shells)
    power = power / fourier.shell_sums(torch.ones_like(frequency), index, n_shells).clamp(min=1)
    white = fourier.transform(torch.randn(shape, generator=generator), 3) / math.sqrt(math.prod(shape))
    noise = white * (power[index] * (1 - agreement) / (2 * agreement)).sqrt()
    last = 1 / (0.9 * resolution_angstrom)
    # beyond the last frequency the sharpening would overflow, and infinity times nothing is no number
    sharpening = torch.exp(uniform(0.4, 1.0) * mean_b * frequency.clamp(max=last) ** 2 / 4)
    weight = (2 * agreement / (1 + agreement)).sqrt() * sharpening * (frequency < last)
    return grid.with_voxels(fourier.inverse((half + noise) * weight, shape))


def _b_factors(truth: AtomicModel, mean: float, generator: torch.Generator) -> torch.Tensor:
    """(atom,) around a mean: smooth over the molecule, different from residue to residue, rising along side chains."""
    place = truth.coordinates_angstrom
    relative = torch.ones(len(truth), dtype=torch.float64)
    for _ in range(3):
        centre = place[int(torch.randint(len(truth), (), generator=generator))]
        height = 0.9 * float(torch.rand((), generator=generator)) - 0.2
        relative += height * torch.exp(-(place - centre).square().sum(-1) / (2 * 12.0**2))
    relative *= 1 + 0.15 * torch.randn(truth.n_residues, generator=generator)[truth.residue].abs()
    alpha = truth.positions("CA")[truth.residue, 0]
    reach = (place - alpha).norm(dim=-1).nan_to_num(nan=0.0)
    is_side_chain = torch.tensor([name not in _BACKBONE for name in truth.names])
    relative += torch.where(is_side_chain, 0.08 * reach, 0.0)
    return (mean * relative).clamp(min=5).float()
