"""Atomic models as mmCIF."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import gemmi

from kernels.specimen.cage import THREE_LETTERS, Chain

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


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
