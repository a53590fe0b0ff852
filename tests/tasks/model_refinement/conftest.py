"""One subunit of the simulated cage, its half maps, and restraints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.specimen.cage import THREE_LETTERS, cage_chains
from tests.truth.model_maps import SimulatedMaps, simulated_maps
from tests.truth.monomers import unpacked_monomers


@pytest.fixture(scope="session")
def monomers(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_monomers(real_data, tmp_path_factory.mktemp("monomers"))


@pytest.fixture(scope="session")
def subunit() -> SimulatedMaps:
    """60 residues at 3 Å, the map's first voxel away from zero."""
    chain = cage_chains()[0]
    residues = tuple(Residue("A", THREE_LETTERS[letter], i + 1) for i, letter in enumerate(chain.sequence))
    n = len(chain.names)
    whole = AtomicModel(
        residues,
        chain.residue,
        chain.names,
        chain.elements,
        chain.coordinates_angstrom,
        torch.full((n,), 40.0),
        torch.ones(n),
    )
    return simulated_maps(whole.take_residues(torch.arange(len(residues)) < 60), 3.0, padding_angstrom=8)
