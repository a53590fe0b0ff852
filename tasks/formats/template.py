"""Templates: structures that an engine is shown beside the sequences that it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import gemmi
import torch

from kernels.models.atomic_model import AtomicModel
from tasks.formats.structure import to_gemmi

_NO_DATE = "1970-01-01"
"""Before any limit that an engine sets to the age of templates."""


@dataclass(frozen=True, eq=False)
class TemplateChain:
    """What an engine is shown for one of its chains."""

    name: str
    """Of the chain that is predicted, and of the template's."""
    letters: str
    """Of the protein as a whole."""
    model: AtomicModel
    """Residues that are shown, each numbered by its place among the letters, the first of which is 1."""


def template_mmcif(chains: Sequence[TemplateChain], name: str, has_all_residues: bool = False) -> bytes:
    """Chains as an mmCIF file of proteins whose sequences are known, as the archive writes it.

    Residues are placed by their number in the sequence of their entity, and both names of a chain are its own:
    AlphaFold asks for the authors', Boltz for the label. ColabFold takes no file without the kinds of its monomers, its
    chains, its sequences and a date.

    Parameters
    ----------
    has_all_residues
        Those that are not shown get one hydrogen, which engines pass over: for those that search a sequence among the
        residues that have atoms, and find two templates where it has a long gap.
    """
    structure = gemmi.Structure()
    structure.name = name
    model = gemmi.Model(1)
    entities: dict[str, gemmi.Entity] = {}
    for chain in chains:
        if chain.letters not in entities:
            entities[chain.letters] = _entity(str(len(entities) + 1), chain.letters)
        entity = entities[chain.letters]
        entity.subchains = [*entity.subchains, chain.name]
        model.add_chain(_chain(chain, entity, has_all_residues))
    structure.add_model(model)
    structure.entities = gemmi.EntityList(list(entities.values()))
    document = structure.make_mmcif_document()
    _complete(document.sole_block(), sorted({name for entity in entities.values() for name in entity.full_sequence}))
    return document.as_string().encode()


def _entity(name: str, letters: str) -> gemmi.Entity:
    entity = gemmi.Entity(name)
    entity.entity_type = gemmi.EntityType.Polymer
    entity.polymer_type = gemmi.PolymerType.PeptideL
    entity.full_sequence = gemmi.expand_one_letter_sequence(letters, gemmi.ResidueKind.AA)
    return entity


def _chain(chain: TemplateChain, entity: gemmi.Entity, has_all_residues: bool) -> gemmi.Chain:
    shown = {residue.seqid.num: residue for residue in to_gemmi(_renamed(chain))[0][0]}
    written = gemmi.Chain(chain.name)
    for number, monomer in enumerate(entity.full_sequence, start=1):
        residue = shown.get(number)
        if residue is None and not has_all_residues:
            continue
        residue = _bare(monomer, number) if residue is None else residue.clone()
        residue.label_seq, residue.subchain, residue.entity_id = number, chain.name, entity.name
        residue.entity_type = gemmi.EntityType.Polymer
        written.add_residue(residue)
    return written


def _renamed(chain: TemplateChain) -> AtomicModel:
    """Heavy atoms of what is shown, under the name of the chain."""
    renamed = tuple(replace(residue, chain=chain.name) for residue in chain.model.residues)
    heavy = [i for i, element in enumerate(chain.model.elements) if element not in ("H", "D")]
    return replace(chain.model, residues=renamed).take(torch.tensor(heavy))


def _bare(monomer: str, number: int) -> gemmi.Residue:
    residue, atom = gemmi.Residue(), gemmi.Atom()
    residue.name, residue.seqid = monomer, gemmi.SeqId(number, " ")
    atom.name, atom.element = "H", gemmi.Element("H")
    residue.add_atom(atom)
    return residue


def _complete(block: gemmi.cif.Block, monomers: Sequence[str]) -> None:
    kinds = block.init_loop("_chem_comp.", ["id", "type"])
    for monomer in monomers:
        kinds.add_row([monomer, "'PEPTIDE LINKING'" if monomer in ("GLY", "UNK") else "'L-PEPTIDE LINKING'"])
    block.init_loop(
        "_pdbx_audit_revision_history.",
        ["ordinal", "data_content_type", "major_revision", "minor_revision", "revision_date"],
    ).add_row(["1", "'Structure model'", "1", "0", _NO_DATE])
