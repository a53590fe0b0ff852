"""Real maps with the models that their authors fitted, and what else of known structure stands in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.superposition import superposed
from kernels.rotations import symmetry_group
from tasks.formats.map_file import read_map
from tasks.formats.structure import read_structure

REAL_DATA = Path(os.environ.get("VITRIFLOW_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
"""Folder of real data; what needs it does without where it is absent, and says so."""


@dataclass(frozen=True, eq=False)
class RealMap:
    """A map, the protein that is to be found in it, and everything known to stand in it."""

    name: str
    resolution_angstrom: float
    grid: DensityGrid
    model: AtomicModel
    """Amino acids of the model that was deposited with the map."""
    surroundings: AtomicModel
    """The same with symmetric copies and the rest of the chain, as far as these are known."""
    map_path: Path
    model_path: Path


def apoferritin(data: Path) -> RealMap:
    """EMD-20026, 1.75 Å: the zone of one subunit, and parts of its neighbours in the point group O."""
    folder = data / "maps" / "EMD-20026_apoferritin_1.75A"
    found = _read("apoferritin, EMD-20026", 1.75, folder / "emd20026_prot.mrc", folder / "3ajo_fitted_refined.pdb")
    centre = torch.full((3,), 109.2, dtype=torch.float64)
    model = found.model
    copies = [
        model.at((model.coordinates_angstrom - centre) @ rotation.double().T + centre)
        for rotation in symmetry_group("O")
    ]
    return RealMap(**{**found.__dict__, "surroundings": joined(copies)})


def vp6(data: Path) -> RealMap:
    """EMD-6272, 2.6 Å: a cut-out around a domain of VP6; the rest of the chain is laid over it."""
    folder = data / "maps" / "EMD-6272_VP6_2.6A"
    found = _read("VP6, EMD-6272", 2.6, folder / "6272.mrc", folder / "6272.pdb")
    whole = _amino_acids(data / "maps" / "VP6_3.8A_docking" / "vp6.pdb")
    numbers = {residue.number: i for i, residue in enumerate(whole.residues)}
    shared = torch.tensor([numbers[residue.number] for residue in found.model.residues])
    fixed, moving = found.model.positions("CA")[:, 0], whole.positions("CA")[shared, 0]
    laid = whole.at(superposed(whole.coordinates_angstrom, moving, fixed))
    return RealMap(**{**found.__dict__, "surroundings": joined([found.model, laid])})


def integrin(data: Path) -> RealMap:
    """EMD-30342, 3.9 Å: the zone of one chain of an integrin."""
    folder = data / "maps" / "EMD-30342_integrin_3.9A"
    return _read("integrin, EMD-30342", 3.9, folder / "390_emd_30342_A_z4.mrc", folder / "390_7cec_A.cif")


def _read(name: str, resolution: float, map_path: Path, model_path: Path) -> RealMap:
    model = _amino_acids(model_path)
    return RealMap(name, resolution, read_map(map_path), model, model, map_path, model_path)


def _amino_acids(path: Path) -> AtomicModel:
    model = read_structure(path)
    return model.take_residues(model.amino_acid >= 0)
