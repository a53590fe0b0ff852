"""One subunit of the simulated cage, its half maps, and restraints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import SimulatedMaps, simulated_maps
from tests.truth.monomers import unpacked_monomers


@pytest.fixture(scope="session")
def monomers(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_monomers(real_data, tmp_path_factory.mktemp("monomers"))


@pytest.fixture(scope="session")
def subunit() -> SimulatedMaps:
    """60 residues at 3 Å, the map's first voxel away from zero."""
    return simulated_maps(cage_subunit(60), 3.0, padding_angstrom=8)
