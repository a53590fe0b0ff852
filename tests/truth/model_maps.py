"""Half maps of atomic models: electron scattering, B-factors that vary, and noise of a known FSC."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.fsc import fsc
from kernels.maps.grid import DensityGrid
from kernels.maps.sharpening import sharpened
from kernels.models.atomic_model import AtomicModel
from kernels.models.internal_coordinates import HYDROGENS
from kernels.specimen.potential import Atoms, density_map

_B_STEP_ANGSTROM2 = 15.0


@dataclass(frozen=True)
class SimulatedMaps:
    """Half maps, what a user would look at, and the model that they show."""

    half_1: DensityGrid
    half_2: DensityGrid
    sharpened: DensityGrid
    """Mean of the halves, sharpened and weighted by FSC."""
    model: AtomicModel
    """In the frame of the maps."""
    resolution_angstrom: float


def simulated_maps(
    model: AtomicModel,
    resolution_angstrom: float,
    voxel_size_angstrom: float = 1.0,
    padding_angstrom: float = 12.0,
    b_factor_angstrom2: float = 60.0,
    b_spread_angstrom2: float = 25.0,
    seed: int = 0,
    centre_angstrom: Tensor | None = None,
    own_b_factors: bool = False,
    n_hydrogens: Tensor | None = None,
) -> SimulatedMaps:
    """Half maps in a cubic box whose FSC falls through 0.143 at the resolution.

    B-factors rise from the middle of the model to its surface, and each residue has its own share. Noise is white,
    of a strength that follows from the signal's power on the shell of the resolution. Voxel ``n // 2`` lies in
    the middle of the model, or at ``centre_angstrom`` (3,).

    Parameters
    ----------
    own_b_factors
        Those of the model instead, which may be any.
    n_hydrogens
        (atom,) that each atom carries; without them, those of amino acids.
    """
    generator = torch.Generator().manual_seed(seed)
    place = model.coordinates_angstrom
    low, high = place.amin(0), place.amax(0)
    middle = (low + high) / 2 if centre_angstrom is None else centre_angstrom.to(place)
    reach = float(torch.maximum(high - middle, middle - low).max())
    n = fourier.fast_size(math.ceil(2 * (reach + padding_angstrom) / voxel_size_angstrom))
    origin = (middle - (n // 2) * voxel_size_angstrom).round(decimals=3)
    centre = origin + (n // 2) * voxel_size_angstrom
    radius = (place - place.mean(0)).norm(dim=-1)
    share = torch.randn(model.n_residues, generator=generator)[model.residue]
    b_factor = b_factor_angstrom2 + b_spread_angstrom2 * (radius / radius.std() - radius.mean() / radius.std())
    b_factor = (b_factor + 0.3 * b_spread_angstrom2 * share).clamp(min=15)
    if own_b_factors:
        b_factor = model.b_factor_angstrom2.double()
    level = (b_factor / _B_STEP_ANGSTROM2).round().long()
    hydrogens = hydrogens_of(model) if n_hydrogens is None else n_hydrogens
    density = torch.zeros(n, n, n)
    for step in level.unique().tolist():
        chosen = torch.nonzero(level == step).squeeze(1)
        atoms = Atoms(
            (place[chosen] - centre).float(),
            tuple(model.elements[i] for i in chosen.tolist()),
            hydrogens[chosen],
            step * _B_STEP_ANGSTROM2,
        )
        density += density_map(atoms, n, voxel_size_angstrom)
    index = fourier.shell_index((n,) * 3)
    weights = fourier.hermitian_weights((n,) * 3).expand(index.shape)
    n_shells = n // 2 + 1
    power = fourier.shell_sums(fourier.transform(density, 3).abs() ** 2 * weights, index, n_shells)
    power = power / fourier.shell_sums(weights, index, n_shells)
    shell = min(round(n * voxel_size_angstrom / resolution_angstrom), n_shells - 2)
    # FSC = S / (S + N) = 0.143 of one half; the power of white noise is n³ variance
    noise = math.sqrt(float(power[shell - 1 : shell + 2].mean()) * (1 / 0.143 - 1) / n**3)
    halves = [density + noise * torch.randn(density.shape, generator=generator) for _ in range(2)]
    curve = fsc(*halves)
    mean_b = float(b_factor.mean()) if own_b_factors else b_factor_angstrom2
    final = sharpened((halves[0] + halves[1]) / 2, voxel_size_angstrom, -mean_b, curve, resolution_angstrom)
    grid = DensityGrid(halves[0], voxel_size_angstrom, origin)
    known = AtomicModel(
        model.residues, model.residue, model.names, model.elements, place, b_factor.float(), torch.ones(len(model))
    )
    return SimulatedMaps(grid, grid.with_voxels(halves[1]), grid.with_voxels(final), known, resolution_angstrom)


def protein_of(model: AtomicModel) -> AtomicModel:
    """Heavy atoms of the 20 amino acids."""
    return model.take(
        torch.tensor([(model.residues[r].name, n) in HYDROGENS for r, n in zip(model.residue, model.names)])
    )


def hydrogens_of(model: AtomicModel) -> Tensor:
    """(atom,) hydrogens on each heavy atom of an amino acid, those of the chain's inside; 0 where the atom is none."""
    found = []
    for name, residue in zip(model.names, model.residue.tolist()):
        found.append(HYDROGENS.get((model.residues[residue].name, name), 0))
    return torch.tensor(found)
