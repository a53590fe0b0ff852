"""Restraint dictionaries of molecules (CCP4-style monomer CIF) as templates that can be placed in a map."""

from __future__ import annotations

import math
from pathlib import Path

import gemmi
import torch
from torch import Tensor

from kernels.models.ligand_template import LigandTemplate, turning_parts
from tasks.formats import FormatError

_N_DRAWN, _N_CONFORMERS = 2000, 60
_INNER_CLASH_ANGSTROM = 2.8


def read_dictionary(path: Path) -> gemmi.ChemComp:
    """The molecule of a restraint CIF file; of several the last one.

    Raises
    ------
    FormatError
        Where the file cannot be read, or has no restraints or no coordinates.
    """
    try:
        document = gemmi.cif.read(str(path))
        blocks = [b for b in document if b.find_values("_chem_comp_atom.atom_id") and b.name != "comp_list"]
        found = gemmi.make_chemcomp_from_block(blocks[-1]) if blocks else None
    except (OSError, ValueError, RuntimeError) as error:
        raise FormatError(f"{path}: is no restraint CIF that can be read ({error}); save the file again") from error
    if found is None:
        raise FormatError(f"{path}: lists no atoms of a molecule (_chem_comp_atom); give a restraint CIF, SDF or MOL")
    if not found.rt.bonds or any(math.isnan(bond.value) for bond in found.rt.bonds):
        raise FormatError(
            f"{path}: {found.name} has no restraints with lengths of bonds (_chem_comp_bond.value_dist); make them with"
            " AceDRG or Grade, or give the molecule as SMILES, SDF or MOL"
        )
    return found


def dictionary_text(molecule: gemmi.ChemComp) -> str:
    """The molecule with its restraints as a CIF file that refinement programs read."""
    document = gemmi.cif.Document()
    listed = document.add_new_block("comp_list")
    heavy = sum(not atom.is_hydrogen() for atom in molecule.atoms)
    row = [molecule.name, molecule.name, molecule.name, "non-polymer", str(len(molecule.atoms)), str(heavy), "."]
    columns = ["id", "three_letter_code", "name", "group", "number_atoms_all", "number_atoms_nh", "desc_level"]
    listed.init_loop("_chem_comp.", columns).add_row(row)
    block = document.add_new_block(f"comp_{molecule.name}")
    gemmi.add_chemcomp_to_block(molecule, block, [], False)
    return document.as_string()


def template_of(molecule: gemmi.ChemComp, seed: int = 0) -> LigandTemplate:
    """The molecule's heavy atoms; conformers by turning its free bonds from where its coordinates have them.

    Raises
    ------
    FormatError
        Where it has no coordinates.
    """
    heavy = [atom for atom in molecule.atoms if not atom.is_hydrogen()]
    number = {atom.id: i for i, atom in enumerate(heavy)}
    place = torch.tensor([[atom.xyz.z, atom.xyz.y, atom.xyz.x] for atom in heavy], dtype=torch.float64)
    if not heavy or not torch.isfinite(place).all() or (len(heavy) > 1 and float(place.std(0).max()) < 0.1):
        raise FormatError(
            f"{molecule.name}: its dictionary has no coordinates; make it with AceDRG or Grade, or give the molecule as"
            " SMILES, SDF or MOL"
        )
    n_hydrogens = torch.zeros(len(heavy), dtype=torch.int64)
    pairs: list[list[int]] = []
    kinds: list[gemmi.BondType] = []
    for bond in molecule.rt.bonds:
        ends = (bond.id1.atom, bond.id2.atom)
        inside = [number[name] for name in ends if name in number]
        if len(inside) == 2:
            pairs.append(inside)
            kinds.append(bond.type)
        elif len(inside) == 1:
            n_hydrogens[inside[0]] += 1
    bonds = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    elements = tuple(atom.el.name.upper() for atom in heavy)
    axes = _free_axes(elements, bonds, kinds)
    moving = turning_parts(len(heavy), bonds, axes)
    axes, moving = smaller_side(axes, moving)
    lone = LigandTemplate(
        molecule.name, tuple(atom.id for atom in heavy), elements, n_hydrogens, bonds, axes, moving, place[None]
    )
    return with_turned_conformers(lone, seed)


def _free_axes(elements: tuple[str, ...], bonds: Tensor, kinds: list[gemmi.BondType]) -> Tensor:
    """(torsion, 2) single bonds out of rings between atoms that have other bonds; peptide bonds are not free."""
    degree = torch.bincount(bonds.flatten(), minlength=len(elements))
    doubled = {
        end
        for (a, b), kind in zip(bonds.tolist(), kinds)
        if kind in (gemmi.BondType.Double, gemmi.BondType.Deloc) and "O" in (elements[a], elements[b])
        for end in (a, b)
        if elements[end] == "C"
    }
    axes = []
    for row, (a, b) in enumerate(bonds.tolist()):
        is_amide = (a in doubled and elements[b] == "N") or (b in doubled and elements[a] == "N")
        ends = turning_parts(len(elements), bonds, bonds[row : row + 1])[0]
        is_ring = bool(ends[a])
        if kinds[row] == gemmi.BondType.Single and degree[a] > 1 and degree[b] > 1 and not is_amide and not is_ring:
            axes.append([a, b])
    return torch.tensor(axes, dtype=torch.int64).reshape(-1, 2)


def smaller_side(axes: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    """Axes (torsion, 2) and the atoms that turn (torsion, atom), each axis so that fewer atoms turn."""
    axes, moving = axes.clone(), moving.clone()
    for k, (a, b) in enumerate(axes.tolist()):
        if int(moving[k].sum()) > moving.shape[1] / 2:
            rest = ~moving[k]
            rest[a] = rest[b] = False
            axes[k] = torch.tensor([b, a])
            moving[k] = rest
    return axes, moving


def with_turned_conformers(template: LigandTemplate, seed: int = 0) -> LigandTemplate:
    """The template with conformers of free bonds turned at random, no atoms in each other, as different as can be."""
    if not len(template.axes):
        return template
    generator = torch.Generator().manual_seed(seed)
    turned = (torch.rand(_N_DRAWN, len(template.axes), generator=generator) * 2 - 1) * math.pi
    turned[0] = 0
    start = template.conformers_angstrom[:1].expand(_N_DRAWN, -1, -1)
    zero = torch.zeros(_N_DRAWN, 3, dtype=torch.float64)
    place = template.placed(start, zero, turned.double(), zero)
    apart = torch.cdist(place, place) + 10 * ~template.is_apart
    free = apart.amin((1, 2)) > _INNER_CLASH_ANGSTROM
    free[0] = True
    place = place[free]
    return LigandTemplate(
        **{**{name: getattr(template, name) for name in template.__dataclass_fields__},
           "conformers_angstrom": place[_most_different(torch.cdist(place, place), _N_CONFORMERS)]}
    )  # fmt: skip


def _most_different(inner_distances: Tensor, n: int) -> Tensor:
    """Indices of up to n shapes, each the one that differs most from all before, by distances within them."""
    shape = inner_distances.flatten(1).float()
    chosen = [0]
    nearest = (shape - shape[0]).norm(dim=1)
    while len(chosen) < min(n, len(shape)) and float(nearest.max()) > 0:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (shape - shape[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)
