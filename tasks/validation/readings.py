"""Models made comparable: settled in a map, and each residue with how probable the map makes it."""

from __future__ import annotations

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.assessment import assess
from kernels.models.atomic_model import AtomicModel
from kernels.models.map_likelihood import map_likelihood
from kernels.models.mates import Mates
from kernels.models.merging import Reading
from kernels.models.real_space import refined_in_real_space
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.validation.residue_rows import residue_probability

_N_STEPS = 60


def settled(model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, mates: Mates) -> AtomicModel:
    """Refined in real space for a moment, as a model that was built has been."""
    likelihood = map_likelihood(grid, model, resolution_angstrom)
    return refined_in_real_space(model, likelihood, n_steps=_N_STEPS, mates=mates).model


def judged(model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, mates: Mates) -> Reading:
    """A model with how probable each of its residues is, as `validate_model` tells it."""
    everywhere = torch.full((model.n_residues,), resolution_angstrom, dtype=torch.float64)
    return Reading(model, residue_probability(assess(model, grid, everywhere, ramachandran_tables(), mates)))
