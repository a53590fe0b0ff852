"""Pockets of real protein-ligand complexes: what is really there, and a model as refinement would have left it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.residues import PROTEIN_BACKBONE
from tasks.formats.structure import read_structure
from tests.truth.model_maps import SimulatedMaps, hydrogens_of, protein_of, simulated_maps

_POCKET_ANGSTROM = 12.0
_B_PER_RESOLUTION_SQUARED = 8.0
_ERROR_PER_RESOLUTION = 0.07
"""RMS error of each atom of a refined model over the resolution, 0.21 Å at 3 Å."""
_BARE_SHARE = 0.03
"""Of residues whose side chain the model lacks."""
_KNOWN = {"C", "N", "O", "S", "P", "F", "CL", "BR", "I", "SE"}


@dataclass(frozen=True, eq=False)
class Pocket:
    """The surroundings of one ligand."""

    name: str
    protein: AtomicModel
    ligand: AtomicModel
    """Heavy atoms."""
    n_hydrogens: Tensor
    """(atom,) of the ligand's atoms."""
    molecule: Chem.Mol
    """The ligand with its hydrogens in the order of its file, with bond orders."""

    @cached_property
    def smiles(self) -> str:
        return str(Chem.MolToSmiles(Chem.RemoveHs(self.molecule)))

    def rmsd(self, names_elements: tuple[str, ...], places: Tensor, smiles: str) -> float:
        """RMSD in Å of heavy atoms (atom, 3), in the order of a molecule read from its SMILES, over its symmetries."""
        own = Chem.RemoveAllHs(self.molecule)
        other = Chem.RemoveAllHs(Chem.MolFromSmiles(smiles))
        for one in (own, other):
            for bond in one.GetBonds():
                bond.SetBondType(Chem.BondType.SINGLE)
                bond.SetIsAromatic(False)
            for atom in one.GetAtoms():
                atom.SetIsAromatic(False)
                atom.SetFormalCharge(0)
                atom.SetNoImplicit(True)
                atom.SetNumExplicitHs(0)
                atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
        matches = other.GetSubstructMatches(own, uniquify=False, maxMatches=5000)
        if not matches:
            raise ValueError(f"{self.name}: the ligand of {smiles} has other atoms or bonds than that of the structure")
        moved = places[torch.tensor(matches)]
        return float((moved - self.ligand.coordinates_angstrom).square().sum(-1).mean(-1).sqrt().min())


def held_out(name: str) -> bool:
    """Whether a complex belongs to the half that no parameter was chosen on."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def complex_names(data: Path) -> list[str]:
    """All complexes, in an order that says nothing of them."""
    names = [path.name.removesuffix(".pdb.gz") for path in (data / "complexes_posebusters").glob("*.pdb.gz")]
    return sorted(names, key=lambda name: hashlib.sha256(("order" + name).encode()).hexdigest())


def read_pocket(data: Path, name: str) -> Pocket:
    """The first copy of the ligand, with all residues of the protein that come near it.

    Raises
    ------
    ValueError
        Where bond orders cannot be told from its atoms, its hydrogens are not given, or it has rare elements.
    """
    whole = read_structure(data / "complexes_posebusters" / f"{name}.pdb.gz")
    code = name.split("_")[1]
    first = next(i for i, residue in enumerate(whole.residues) if residue.name == code)
    complete = whole.take(whole.residue == first)
    is_heavy = torch.tensor([e not in ("H", "D") for e in complete.elements])
    ligand = complete.take(is_heavy)
    if len(ligand) == len(complete):
        raise ValueError(f"{name}: its file has no hydrogens of the ligand, which tell bond orders")
    if not set(ligand.elements) <= _KNOWN:
        raise ValueError(f"{name}: its ligand has elements {sorted(set(ligand.elements))}")
    protein = protein_of(whole)
    near = torch.cdist(protein.coordinates_angstrom, ligand.coordinates_angstrom).amin(1) < _POCKET_ANGSTROM
    chosen = torch.zeros(protein.n_residues, dtype=torch.bool)
    chosen[protein.residue[near]] = True
    heavy = complete.coordinates_angstrom[is_heavy]
    hydrogens = complete.coordinates_angstrom[~is_heavy]
    carrier = torch.cdist(hydrogens, heavy).argmin(1)
    return Pocket(
        name,
        protein.take_residues(chosen),
        ligand,
        torch.bincount(carrier, minlength=len(ligand)),
        _with_bond_orders(complete, name),
    )


def _with_bond_orders(ligand: AtomicModel, name: str) -> Chem.Mol:
    lines = [str(len(ligand)), name]
    for element, (z, y, x) in zip(ligand.elements, ligand.coordinates_angstrom.tolist()):
        lines.append(f"{element.capitalize() if element != 'D' else 'H'} {x:.3f} {y:.3f} {z:.3f}")
    for charge in (0, -1, 1, -2, 2, -3, -4):
        molecule = Chem.MolFromXYZBlock("\n".join(lines) + "\n")
        try:
            rdDetermineBonds.DetermineBonds(molecule, charge=charge, embedChiral=True, maxIterations=20000)
        except (ValueError, RuntimeError):
            continue
        if not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
            return molecule
    raise ValueError(f"{name}: the bond orders of its ligand cannot be told from its atoms' places")


@dataclass(frozen=True, eq=False)
class PocketMaps:
    """Simulated maps of a pocket, and the model of the protein that goes with them."""

    maps: SimulatedMaps
    model: AtomicModel
    """The protein as a refinement leaves it: atoms and B-factors a little off, some side chains lacking."""


def pocket_maps(pocket: Pocket, resolution_angstrom: float, seed: int = 0, has_ligand: bool = True) -> PocketMaps:
    """Half maps of a pocket, B-factors those of the crystal scaled to 8 Å² times the square of the resolution."""
    generator = torch.Generator().manual_seed(seed)
    protein = pocket.protein
    parts = [protein, pocket.ligand] if has_ligand else [protein]
    truth = joined(parts)
    scale = _B_PER_RESOLUTION_SQUARED * resolution_angstrom**2 / float(protein.b_factor_angstrom2.mean().clamp(min=1))
    b_factor = (truth.b_factor_angstrom2 * scale).clamp(15, 250)
    truth = replace(truth, b_factor_angstrom2=b_factor, occupancy=torch.ones(len(truth)))
    counts = hydrogens_of(protein)
    hydrogens = torch.cat([counts, pocket.n_hydrogens]) if has_ligand else counts
    voxel = min(1.0, resolution_angstrom / 2.5)
    maps = simulated_maps(truth, resolution_angstrom, voxel, 8.0, seed=seed, own_b_factors=True, n_hydrogens=hydrogens)
    return PocketMaps(maps, refined_like(protein, b_factor[: len(protein)], resolution_angstrom, generator))


def refined_like(
    truth: AtomicModel, b_factor: Tensor, resolution_angstrom: float, generator: torch.Generator
) -> AtomicModel:
    """The true structure with the errors of a good refinement."""
    error = torch.randn(len(truth), 3, generator=generator, dtype=torch.float64)
    moved = truth.coordinates_angstrom + _ERROR_PER_RESOLUTION * resolution_angstrom * error / 3**0.5
    spread = torch.exp(0.2 * torch.randn(truth.n_residues, generator=generator))[truth.residue]
    bare = (torch.rand(truth.n_residues, generator=generator) < _BARE_SHARE)[truth.residue]
    is_side_chain = torch.tensor([name not in (*PROTEIN_BACKBONE, "CB") for name in truth.names])
    model = replace(truth, coordinates_angstrom=moved, b_factor_angstrom2=b_factor * spread)
    return model.take(~(bare & is_side_chain))
