"""The monomer library of the real data folder, unpacked for a test."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest


def unpacked_monomers(real_data: Path, folder: Path) -> Path:
    """Folder of the library; the test skips where the data folder does not have it."""
    archive = real_data / "restraints" / "coot_monomers.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent; a monomer library is needed for this test")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "monomers"
