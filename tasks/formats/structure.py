"""Atomic models as PDB and mmCIF files."""

from __future__ import annotations

import string
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import torch

from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.mates import Mates
from kernels.specimen.cage import THREE_LETTERS, Chain
from tasks.formats import FormatError

_COLUMNS_OF_1992 = 72
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def read_structure(path: Path | str) -> AtomicModel:
    """First model of a PDB or mmCIF file, gzipped or not; of alternative conformations the most occupied one.

    Raises
    ------
    FormatError
        Where the file cannot be read or has no atoms.
    """
    return _model(_read(str(path)), str(path))


def parse_mmcif(content: bytes, name: str) -> AtomicModel:
    """The model of an mmCIF file that `mmcif_of` made; ``name`` is for messages."""
    try:
        structure = gemmi.make_structure_from_block(gemmi.cif.read_string(content.decode()).sole_block())
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{name}: is no mmCIF that can be read ({error}); make the model again") from error
    return _model(structure, name)


def parse_structure(content: bytes, path: str) -> AtomicModel:
    """The first model of the content of a PDB or mmCIF file, which the ending of its path tells.

    Raises
    ------
    FormatError
        Where it cannot be read, has no atoms, or fewer residues than it says: it was cut short.
    """
    is_pdb = path.lower().endswith((".pdb", ".ent"))
    try:
        text = content.decode()
        if is_pdb:
            structure = gemmi.read_pdb_string(text)
        else:
            structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: is no {'PDB' if is_pdb else 'mmCIF'} that can be read ({error}); fetch the file again"
        ) from error
    structure.merge_chain_parts()
    model = _model(structure, path)
    expected = sum(len(entity.full_sequence) * len(entity.subchains) for entity in structure.entities)
    if expected > model.n_residues:
        raise FormatError(
            f"{path}: has {model.n_residues} residues, but tells of {expected}; the file was cut short, or is of an"
            " experiment, which does not see them all; fetch the file again, or give a predicted one"
        )
    return model


def mmcif_of(model: AtomicModel, name: str = "model", mates: Mates | None = None) -> bytes:
    """The model as an mmCIF file; with mates, the file says that they make up the assembly."""
    structure = to_gemmi(model, name)
    if mates is not None and len(mates) > 1:
        structure.assemblies = gemmi.AssemblyList([_assembly(structure, mates)])
    return structure.make_mmcif_document().as_string().encode()


def _assembly(structure: gemmi.Structure, mates: Mates) -> gemmi.Assembly:
    generator = gemmi.Assembly.Gen()
    generator.subchains = [s.subchain_id() for s in structure[0].subchains()]
    for number, transform in enumerate(_transforms(mates), start=1):
        operator = gemmi.Assembly.Operator()
        operator.name = str(number)
        operator.type = "identity operation" if number == 1 else "point symmetry operation"
        operator.transform = transform
        generator.operators.append(operator)
    assembly = gemmi.Assembly("1")
    assembly.author_determined = True
    assembly.generators.append(generator)
    return assembly


def _transforms(mates: Mates) -> list[gemmi.Transform]:
    """Operations as they act on x, y, z."""
    found = []
    centre = mates.centre_angstrom.flip(0)
    for rotation in mates.rotation.flip(-2, -1):
        transform = gemmi.Transform()
        transform.mat.fromlist(rotation.round(decimals=12).tolist())
        transform.vec.fromlist((centre - rotation @ centre).round(decimals=9).tolist())
        found.append(transform)
    return found


def parse_assembly(content: bytes, name: str) -> AtomicModel | None:
    """All copies that an mmCIF file of `mmcif_of` tells of, its chains named A, B … in turn; None where it tells none.

    The first copy is the model as it stands in the file.
    """
    structure = gemmi.make_structure_from_block(gemmi.cif.read_string(content.decode()).sole_block())
    operators = [o.transform for a in structure.assemblies[:1] for g in a.generators for o in g.operators]
    if len(operators) < 2:
        return None
    model = _model(structure, name)
    chains = list(dict.fromkeys(r.chain for r in model.residues))
    parts = []
    for k, transform in enumerate(operators):
        rotation, shift = (torch.tensor(v.tolist(), dtype=torch.float64) for v in (transform.mat, transform.vec))
        place = (model.coordinates_angstrom.flip(-1) @ rotation.T + shift).flip(-1)
        names = {chain: chain_name(k * len(chains) + i) for i, chain in enumerate(chains)}
        parts.append(replace(model, residues=tuple(replace(r, chain=names[r.chain]) for r in model.residues)).at(place))
    return joined(parts)


def chain_name(index: int) -> str:
    """A, B … Z, AA, AB …"""
    name = ""
    while True:
        name = string.ascii_uppercase[index % 26] + name
        index = index // 26 - 1
        if index < 0:
            return name


def _model(structure: gemmi.Structure, path: str) -> AtomicModel:
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise FormatError(f"{path}: holds no atoms; expected a model in PDB or mmCIF format")
    residues: list[Residue] = []
    residue: list[int] = []
    names: list[str] = []
    elements: list[str] = []
    rows: list[tuple[float, ...]] = []
    for chain in structure[0]:
        for found in chain:
            first = len(names)
            for atom in _most_occupied(found):
                residue.append(len(residues))
                names.append(atom.name)
                elements.append(atom.element.name.upper())
                rows.append((atom.pos.z, atom.pos.y, atom.pos.x, atom.b_iso, atom.occ))
            if len(names) > first:
                number, code = found.seqid.num, found.seqid.icode.strip()
                residues.append(Residue(chain.name, found.name, number if number is not None else 0, code))
    table = torch.from_numpy(np.array(rows, dtype=np.float64))
    index = torch.tensor(residue, dtype=torch.int64)
    return AtomicModel(
        tuple(residues), index, tuple(names), tuple(elements), table[:, :3], table[:, 3].float(), table[:, 4].float()
    )


def _read(path: str) -> gemmi.Structure:
    try:
        return gemmi.read_structure(path, merge_chain_parts=True)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        if "charge" in str(error):  # PDB files from before 1996 number their lines there
            return gemmi.read_pdb(path, max_line_length=_COLUMNS_OF_1992)
        raise FormatError(
            f"{path}: is no PDB or mmCIF file that can be read ({error}); save the model again"
        ) from error


def _most_occupied(residue: gemmi.Residue) -> list[gemmi.Atom]:
    """One atom of each name; all from one conformation where they differ by no more than their letters."""
    total: dict[str, float] = {}
    for atom in residue:
        if atom.has_altloc():
            total[atom.altloc] = total.get(atom.altloc, 0.0) + atom.occ
    best = max(total, key=lambda letter: total[letter], default="")
    chosen: dict[str, gemmi.Atom] = {}
    for atom in residue:
        if atom.name not in chosen or atom.altloc == best:
            chosen[atom.name] = atom
    return list(chosen.values())


def write_structure(path: Path | str, model: AtomicModel, name: str = "model", mates: Mates | None = None) -> None:
    """Write a model as mmCIF, or as PDB where the path ends so; the file appears under its name when it is whole.

    Mates are written as copies by strict non-crystallographic symmetry that programs make themselves.

    Raises
    ------
    ValueError
        For a PDB file of chains with longer names, or more atoms, than that format can hold.
    """
    path = Path(path)
    structure = to_gemmi(model, name)
    for number, transform in enumerate([] if mates is None else _transforms(mates)[1:], start=2):
        structure.ncs.append(gemmi.NcsOp(transform, str(number), False))
    is_pdb = path.suffix.lower() in (".pdb", ".ent")
    longest = max((len(r.chain) for r in model.residues), default=0)
    if is_pdb and (longest > 2 or len(model) > 99_999):
        raise ValueError(
            f"{path}: a PDB file holds 99,999 atoms and chain names of 2 letters, found {len(model)} atoms and names"
            f" of {longest}; write mmCIF (.cif)"
        )
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        if is_pdb:
            structure.write_pdb(str(partial))
        else:
            structure.make_mmcif_document().write_file(str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def to_gemmi(model: AtomicModel, name: str = "model") -> gemmi.Structure:
    """The model as gemmi holds it, with its entities found."""
    structure = gemmi.Structure()
    structure.name = name
    written = gemmi.Model(1)
    bounds = torch.searchsorted(model.residue, torch.arange(model.n_residues + 1)).tolist()
    coordinates = model.coordinates_angstrom.tolist()
    b_factors, occupancies = model.b_factor_angstrom2.tolist(), model.occupancy.tolist()
    chain: gemmi.Chain | None = None
    for about, first, end in zip(model.residues, bounds, bounds[1:]):
        if chain is None or chain.name != about.chain:
            if chain is not None:
                written.add_chain(chain)
            chain = gemmi.Chain(about.chain)
        residue = gemmi.Residue()
        residue.name = about.name
        residue.seqid = gemmi.SeqId(about.number, about.insertion_code or " ")
        for i in range(first, end):
            atom = gemmi.Atom()
            z, y, x = coordinates[i]
            atom.name, atom.element, atom.pos = (
                model.names[i],
                gemmi.Element(model.elements[i]),
                gemmi.Position(x, y, z),
            )
            atom.b_iso, atom.occ = b_factors[i], occupancies[i]
            residue.add_atom(atom)
        chain.add_residue(residue)
    if chain is not None:
        written.add_chain(chain)
    structure.add_model(written)
    structure.merge_chain_parts()
    structure.setup_entities()
    return structure


def write_chains(
    path: Path | str, chains: Sequence[Chain], origin_angstrom: Sequence[float], b_factor_angstrom2: float, name: str
) -> None:
    """Write chains as one model; ``origin_angstrom`` (z, y, x) is added, so that the model lies in its map.

    The file appears under its name when it is whole.
    """
    path = Path(path)
    model = gemmi.Model(1)
    z0, y0, x0 = origin_angstrom
    for letter, chain in zip(_LETTERS, chains):
        written = gemmi.Chain(letter)
        residues = [gemmi.Residue() for _ in chain.sequence]
        for i, (residue, code) in enumerate(zip(residues, chain.sequence)):
            residue.name = THREE_LETTERS[code]
            residue.seqid = gemmi.SeqId(i + 1, " ")
            residue.label_seq = i + 1
            residue.entity_type = gemmi.EntityType.Polymer
            residue.subchain = letter
            residue.entity_id = "1"
        for index, atom_name, element, (z, y, x) in zip(
            chain.residue.tolist(), chain.names, chain.elements, chain.coordinates_angstrom.tolist()
        ):
            atom = gemmi.Atom()
            atom.name, atom.element = atom_name, gemmi.Element(element)
            atom.pos = gemmi.Position(x + x0, y + y0, z + z0)
            atom.occ, atom.b_iso = 1.0, b_factor_angstrom2
            residues[index].add_atom(atom)
        for residue in residues:
            written.add_residue(residue)
        model.add_chain(written)
    structure = gemmi.Structure()
    structure.name = name
    structure.add_model(model)
    entity = gemmi.Entity("1")
    entity.entity_type = gemmi.EntityType.Polymer
    entity.polymer_type = gemmi.PolymerType.PeptideL
    entity.subchains = list(_LETTERS[: len(chains)])
    entity.full_sequence = [THREE_LETTERS[code] for code in chains[0].sequence] if chains else []
    structure.entities = gemmi.EntityList([entity])
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        structure.make_mmcif_document().write_file(str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
