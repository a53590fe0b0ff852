"""A small protein with a ligand, a water and an ion beside it, whose places are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.ligand_template import LigandTemplate
from tasks.formats.molecules import embedded, molecule_of_smiles, template_of_molecule
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import hydrogens_of

PHENYLALANINOL = "OC[C@@H](N)Cc1ccccc1"
_GAP_ANGSTROM = 3.6


@dataclass(frozen=True, eq=False)
class Solvated:
    """What is really there."""

    protein: AtomicModel
    ligand: AtomicModel
    water: AtomicModel
    n_hydrogens: Tensor
    """(atom,) of all, in the order protein, ligand, water."""

    @property
    def whole(self) -> AtomicModel:
        return joined([self.protein, self.ligand, self.water])


@lru_cache
def template_of_smiles(smiles: str, code: str = "LIG") -> LigandTemplate:
    return template_of_molecule(embedded(molecule_of_smiles(smiles), smiles), code)


def hetero(name: str, atoms: tuple[str, ...], elements: tuple[str, ...], places: Tensor, chain: str) -> AtomicModel:
    n = len(atoms)
    return AtomicModel(
        (Residue(chain, name, 1),), torch.zeros(n, dtype=torch.int64), atoms, elements, places.double(),
        torch.full((n,), 40.0), torch.ones(n),
    )  # fmt: skip


def solvated(n_residues: int = 40) -> Solvated:
    """The ligand lies on the outside of the protein, the water 2.8 Å from an oxygen on another side."""
    protein = cage_subunit(n_residues)
    template = template_of_smiles(PHENYLALANINOL)
    place = protein.coordinates_angstrom
    middle = place.mean(0)
    shape = template.conformers_angstrom[3] - template.conformers_angstrom[3].mean(0)
    towards = torch.tensor([1.0, 0.3, 0.2], dtype=torch.float64)
    ligand = _pushed(shape, place, middle, towards / towards.norm())
    oxygen = [i for i, e in enumerate(protein.elements) if e == "O"]
    water = _beside(place, oxygen, ligand)
    parts = (
        protein,
        hetero("LIG", template.names, template.elements, ligand, "L"),
        hetero("HOH", ("O",), ("O",), water[None], "W"),
    )
    hydrogens = torch.cat([hydrogens_of(protein), template.n_hydrogens, torch.tensor([2])])
    return Solvated(*parts, hydrogens)


def _pushed(shape: Tensor, place: Tensor, middle: Tensor, towards: Tensor) -> Tensor:
    """The shape moved out along a direction until it has room."""
    step = 0.0
    while float(torch.cdist(shape + middle + step * towards, place).min()) < _GAP_ANGSTROM:
        step += 0.2
    return shape + middle + step * towards


def _beside(place: Tensor, oxygen: list[int], ligand: Tensor) -> Tensor:
    """2.8 Å from the first oxygen that has room for a water on its outer side."""
    around = torch.cat([place, ligand])
    for i in oxygen:
        for towards in torch.nn.functional.normalize(place[i] - place[:: max(1, len(place) // 50)] + 1e-9, dim=-1):
            spot = place[i] + 2.8 * towards
            apart = (around - spot).norm(dim=1)
            apart[i] = 10.0
            if float(apart.min()) > 3.6:
                return spot
    raise ValueError("no oxygen of the protein has room for a water")
