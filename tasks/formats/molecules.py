"""Molecules by their chemistry: SMILES, SDF and MOL files as templates, and restraints for them (RDKit)."""

from __future__ import annotations

from pathlib import Path

import gemmi
import torch
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem, rdDistGeom, rdMolTransforms

from kernels.models.ligand_template import LigandTemplate, turning_parts
from tasks.formats import FormatError
from tasks.formats.chem_comp import smaller_side

RDLogger.DisableLog("rdApp.*")  # what it complains about is raised here, by name

_N_EMBEDDED = (30, 120)
_PER_TORSION = 15
_DIFFERENT_ANGSTROM = 0.6
_SINGLE = Chem.MolFromSmarts("[!D1&!$(*#*)]-&!@[!D1&!$(*#*)]")
_AMIDE = Chem.MolFromSmarts("[NX3]-[CX3]=[OX1,SX1]")
_BOND_SIGMA_ANGSTROM, _ANGLE_SIGMA_DEG, _FLAT_SIGMA_ANGSTROM = 0.02, 2.0, 0.02
_FREE_SIGMA_DEG, _STIFF_SIGMA_DEG = 20.0, 5.0
_BOND_WORDS = {1.0: "single", 2.0: "double", 3.0: "triple", 1.5: "aromatic"}
_MOST_HEAVY = 150


def molecule_of_smiles(smiles: str) -> Chem.Mol:
    """The molecule with all hydrogens.

    Raises
    ------
    FormatError
        For what is no SMILES, has several parts, or more than 150 heavy atoms.
    """
    parser = Chem.SmilesParserParams()
    parser.removeHs = True
    try:
        found = Chem.MolFromSmiles(smiles, parser)
    except RuntimeError:
        found = None
    if found is None:
        raise FormatError(
            f"ligand {smiles!r}: is no SMILES that can be read, no code of the monomer library and no file; check its"
            " brackets, ring numbers and valences, or give a restraint CIF, SDF or MOL file"
        )
    return _checked(found, f"ligand {smiles!r}")


def read_molecule(path: Path) -> Chem.Mol:
    """The first molecule of an SDF or MOL file, with all hydrogens; its atoms' places are not used.

    Raises
    ------
    FormatError
        Where there is none that can be read.
    """
    try:
        found = next(iter(Chem.SDMolSupplier(str(path), removeHs=True)), None)
    except (OSError, RuntimeError):
        found = None
    if found is None:
        raise FormatError(f"{path}: holds no molecule that can be read; expected an SDF or MOL file (V2000 or V3000)")
    if found.GetNumConformers() and found.GetConformer().Is3D():
        Chem.AssignStereochemistryFrom3D(found)
    return _checked(found, str(path))


def _checked(found: Chem.Mol, what: str) -> Chem.Mol:
    n_parts = len(Chem.GetMolFrags(found))
    n_heavy = found.GetNumHeavyAtoms()
    if n_parts != 1:
        raise FormatError(f"{what}: has {n_parts} parts, expected one molecule; leave salts and waters out")
    if not 3 <= n_heavy <= _MOST_HEAVY:
        raise FormatError(
            f"{what}: has {n_heavy} atoms besides hydrogens, expected 3 to {_MOST_HEAVY}; ions are named with --ions,"
            " polymers are built from their sequence"
        )
    return Chem.AddHs(found)


def embedded(molecule: Chem.Mol, what: str, seed: int = 0) -> Chem.Mol:
    """The molecule with conformers, as many as its free bonds ask for.

    Raises
    ------
    FormatError
        Where no place for all atoms is found.

    Source
    ------
    ETKDG version 3: Wang et al., J. Chem. Inf. Model. 2020, 60:2044.
    """
    params = rdDistGeom.ETKDGv3()
    params.randomSeed = seed + 1
    params.pruneRmsThresh = _DIFFERENT_ANGSTROM
    params.useRandomCoords = molecule.GetNumHeavyAtoms() > 60
    n = min(_N_EMBEDDED[1], _N_EMBEDDED[0] + _PER_TORSION * len(_free_bonds(molecule)))
    made = Chem.Mol(molecule)
    if not rdDistGeom.EmbedMultipleConfs(made, n, params):
        params.useRandomCoords = True
        if not rdDistGeom.EmbedMultipleConfs(made, n, params):
            raise FormatError(
                f"{what}: no conformer of it can be made; check its stereochemistry and rings, or give a restraint CIF"
                " with coordinates"
            )
    return made


def _free_bonds(molecule: Chem.Mol) -> list[tuple[int, int]]:
    """Single bonds between heavy atoms that turn; hydrogens come last, so that heavy atoms keep their numbers."""
    bare = Chem.RemoveAllHs(molecule)
    single = {(min(pair), max(pair)) for pair in bare.GetSubstructMatches(_SINGLE)}
    stiff = {(min(a, b), max(a, b)) for a, b, _ in bare.GetSubstructMatches(_AMIDE)}
    return sorted(single - stiff)


def named(molecule: Chem.Mol) -> list[str]:
    """Names of all atoms: element and number, heavy atoms and hydrogens each from 1."""
    counts: dict[str, int] = {}
    names = []
    for atom in molecule.GetAtoms():
        symbol = atom.GetSymbol().upper()
        counts[symbol] = counts.get(symbol, 0) + 1
        names.append(f"{symbol}{counts[symbol]}")
    return names


def template_of_molecule(molecule: Chem.Mol, code: str) -> LigandTemplate:
    """Heavy atoms and conformers of an embedded molecule."""
    heavy = [a.GetIdx() for a in molecule.GetAtoms() if a.GetAtomicNum() > 1]
    number = {index: i for i, index in enumerate(heavy)}
    names = named(molecule)
    bonds = torch.tensor(
        [[number[b.GetBeginAtomIdx()], number[b.GetEndAtomIdx()]] for b in molecule.GetBonds()
         if b.GetBeginAtomIdx() in number and b.GetEndAtomIdx() in number], dtype=torch.int64,
    ).reshape(-1, 2)  # fmt: skip
    axes = torch.tensor(_free_bonds(molecule), dtype=torch.int64).reshape(-1, 2)
    axes, moving = smaller_side(axes, turning_parts(len(heavy), bonds, axes))
    places = [torch.from_numpy(c.GetPositions()[heavy][:, ::-1].copy()) for c in molecule.GetConformers()]
    return LigandTemplate(
        code,
        tuple(names[i] for i in heavy),
        tuple(molecule.GetAtomWithIdx(i).GetSymbol().upper() for i in heavy),
        torch.tensor([molecule.GetAtomWithIdx(i).GetTotalNumHs(includeNeighbors=True) for i in heavy]),
        bonds,
        axes,
        moving,
        torch.stack(places).double(),
    )


def dictionary_of(molecule: Chem.Mol, code: str) -> gemmi.ChemComp:
    """Restraints of an embedded molecule: bonds and angles as the MMFF94 force field, or else the embedding, has them.

    They are no match for those of AceDRG, which knows crystal structures of small molecules; the refinement of a
    ligand at a resolution of cryo-EM does not depend on the difference.
    """
    shaped = Chem.Mol(molecule, confId=molecule.GetConformer().GetId())
    if AllChem.MMFFHasAllMoleculeParams(shaped):
        AllChem.MMFFOptimizeMolecule(shaped, maxIters=1000)
    place = shaped.GetConformer()
    names = named(shaped)
    found = gemmi.ChemComp()
    found.name, found.group = code, gemmi.ChemComp.Group.NonPolymer
    for atom, name in zip(shaped.GetAtoms(), names):
        added = gemmi.ChemComp.Atom()
        added.id, added.el = name, gemmi.Element(atom.GetSymbol())
        added.charge, added.chem_type = float(atom.GetFormalCharge()), _energy_type(atom)
        at = place.GetAtomPosition(atom.GetIdx())
        added.xyz = gemmi.Position(at.x, at.y, at.z)
        found.atoms.append(added)
    ids = [gemmi.Restraints.AtomId(name) for name in names]
    _add_bonds(found, shaped, ids)
    _add_angles(found, shaped, ids)
    _add_torsions(found, shaped, ids)
    _add_shape(found, shaped, ids)
    return found


def _add_bonds(found: gemmi.ChemComp, molecule: Chem.Mol, ids: list) -> None:
    place = molecule.GetConformer()
    for bond in molecule.GetBonds():
        a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        added = gemmi.Restraints.Bond()
        added.id1, added.id2 = ids[a], ids[b]
        added.type = getattr(gemmi.BondType, _BOND_WORDS.get(bond.GetBondTypeAsDouble(), "single").capitalize())
        added.aromatic = bond.GetIsAromatic()
        added.value = added.value_nucleus = rdMolTransforms.GetBondLength(place, a, b)
        added.esd = added.esd_nucleus = _BOND_SIGMA_ANGSTROM
        found.rt.bonds.append(added)


def _add_angles(found: gemmi.ChemComp, molecule: Chem.Mol, ids: list) -> None:
    place = molecule.GetConformer()
    for atom in molecule.GetAtoms():
        near = [n.GetIdx() for n in atom.GetNeighbors()]
        for i, first in enumerate(near):
            for last in near[i + 1 :]:
                added = gemmi.Restraints.Angle()
                added.id1, added.id2, added.id3 = ids[first], ids[atom.GetIdx()], ids[last]
                added.value = rdMolTransforms.GetAngleDeg(place, first, atom.GetIdx(), last)
                added.esd = _ANGLE_SIGMA_DEG
                found.rt.angles.append(added)


def _add_torsions(found: gemmi.ChemComp, molecule: Chem.Mol, ids: list) -> None:
    """One of each bond between atoms that have more: stiff in rings and double bonds, threefold and free else."""
    place = molecule.GetConformer()
    count = 0
    for bond in molecule.GetBonds():
        b, c = bond.GetBeginAtom(), bond.GetEndAtom()
        before = [n.GetIdx() for n in b.GetNeighbors() if n.GetIdx() != c.GetIdx()]
        after = [n.GetIdx() for n in c.GetNeighbors() if n.GetIdx() != b.GetIdx()]
        if not before or not after or _is_straight(b) or _is_straight(c):
            continue
        count += 1
        added = gemmi.Restraints.Torsion()
        added.label = f"tor_{count}"
        a, d = before[0], after[0]
        added.id1, added.id2, added.id3, added.id4 = ids[a], ids[b.GetIdx()], ids[c.GetIdx()], ids[d]
        added.value = rdMolTransforms.GetDihedralDeg(place, a, b.GetIdx(), c.GetIdx(), d)
        is_stiff = bond.GetIsConjugated() or bond.GetBondTypeAsDouble() > 1
        added.esd = _STIFF_SIGMA_DEG if is_stiff else _FREE_SIGMA_DEG
        added.period = 1 if bond.IsInRing() else 2 if is_stiff else 3
        found.rt.torsions.append(added)


def _is_straight(atom: Chem.Atom) -> bool:
    return atom.GetHybridization() == Chem.HybridizationType.SP


def _add_shape(found: gemmi.ChemComp, molecule: Chem.Mol, ids: list) -> None:
    """Handedness of centres, and planes about flat rings and atoms."""
    place = molecule.GetConformer().GetPositions()
    for atom in molecule.GetAtoms():
        near = sorted(
            (n.GetIdx() for n in atom.GetNeighbors()), key=lambda i: molecule.GetAtomWithIdx(i).GetAtomicNum()
        )
        if atom.HasProp("_CIPCode") and len(near) > 2:
            three = near[-3:]
            a, b, c = (place[i] - place[atom.GetIdx()] for i in three)
            volume = float((a * _cross(b, c)).sum())
            added = gemmi.Restraints.Chirality()
            added.id_ctr = ids[atom.GetIdx()]
            added.id1, added.id2, added.id3 = (ids[i] for i in three)
            added.sign = gemmi.ChiralityType.Positive if volume > 0 else gemmi.ChiralityType.Negative
            found.rt.chirs.append(added)
    for number, members in enumerate(_flat_groups(molecule), start=1):
        plane = gemmi.Restraints.Plane()
        plane.label, plane.esd = f"plan-{number}", _FLAT_SIGMA_ANGSTROM
        plane.ids = [ids[i] for i in sorted(members)]
        found.rt.planes.append(plane)


def _cross(a, b):  # type: ignore[no-untyped-def]
    return a[[1, 2, 0]] * b[[2, 0, 1]] - a[[2, 0, 1]] * b[[1, 2, 0]]


def _flat_groups(molecule: Chem.Mol) -> list[set[int]]:
    """Aromatic rings with what they carry, and flat atoms outside of them with their neighbours."""
    groups = []
    in_ring: set[int] = set()
    for ring in molecule.GetRingInfo().AtomRings():
        if all(molecule.GetAtomWithIdx(i).GetIsAromatic() for i in ring):
            around = {n.GetIdx() for i in ring for n in molecule.GetAtomWithIdx(i).GetNeighbors()}
            groups.append(set(ring) | around)
            in_ring |= set(ring)
    for atom in molecule.GetAtoms():
        is_flat = atom.GetHybridization() == Chem.HybridizationType.SP2 and atom.GetDegree() == 3
        if is_flat and atom.GetIdx() not in in_ring:
            groups.append({atom.GetIdx(), *(n.GetIdx() for n in atom.GetNeighbors())})
    return groups


def _energy_type(atom: Chem.Atom) -> str:
    """Type of the atom in the library's table of contacts, which tells its radius and whether it binds hydrogens."""
    symbol, n = atom.GetSymbol().upper(), atom.GetTotalNumHs(includeNeighbors=True)
    is_flat = atom.GetHybridization() == Chem.HybridizationType.SP2 or atom.GetIsAromatic()
    if symbol == "C" and is_flat:
        return {0: "CR6", 1: "CR16"}.get(n, "C2") if atom.GetIsAromatic() else {0: "C", 1: "C1"}.get(n, "C2")
    if symbol == "C":
        return "CSP" if _is_straight(atom) else {0: "CT", 1: "CH1", 2: "CH2"}.get(n, "CH3")
    if symbol == "N":
        return {0: "NRD6" if is_flat else "NT", 1: "NH1", 2: "NH2"}.get(n, "NT3")
    if symbol == "O":
        return "OH1" if n else "O" if atom.GetDegree() == 1 else "O2"
    if symbol == "S":
        return "SH1" if n else "S2"
    return symbol
