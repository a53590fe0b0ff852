"""Models and what is told of them as PDBx/mmCIF, and the dictionary that says what may stand in such a file."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi

from tasks.formats import FormatError

Value = str | int | float | None
Categories = Mapping[str, Sequence[Mapping[str, Value]]]
"""Category without its underscore -> rows of item and value; None is written as unknown."""

_DICTIONARY = ("cif", "dictionaries", "mmcif_pdbx_v50.dic.gz")
"""Below the package iotbx of cctbx-base."""
_KINDS = {
    gemmi.PolymerType.PeptideL: "polypeptide(L)",
    gemmi.PolymerType.Rna: "polyribonucleotide",
    gemmi.PolymerType.Dna: "polydeoxyribonucleotide",
}

_MOST_LISTED = 400
"""Letters of what a dictionary allows."""


class MissingDictionaryError(RuntimeError):
    """There is no dictionary to check a file against."""


@dataclass(frozen=True)
class Entity:
    """A kind of molecule of a model."""

    id: str
    kind: str
    """``polypeptide(L)``, ``polyribonucleotide``, ``polydeoxyribonucleotide``, ``non-polymer`` or ``water``."""
    letters: str
    """Of its whole sequence; of what is no polymer, the name of its monomer."""
    chains: tuple[str, ...]
    n_molecules: int
    weight_dalton: float

    @property
    def is_polymer(self) -> bool:
        return self.kind not in ("non-polymer", "water")


@dataclass(frozen=True, eq=False)
class PdbxModel:
    """A model with its whole sequences, to which categories may be added."""

    structure: gemmi.Structure
    entities: tuple[Entity, ...]
    n_copies: int
    """That the assembly has of what stands in the file."""
    new_chains: Mapping[str, str]
    """Chain of the model -> chain here, of pieces of one molecule that became one chain."""

    @property
    def weight_dalton(self) -> float:
        """Of all polymers of the assembly."""
        return self.n_copies * sum(e.weight_dalton * e.n_molecules for e in self.entities if e.is_polymer)

    @property
    def n_polymer_chains(self) -> int:
        return sum(entity.n_molecules for entity in self.entities if entity.is_polymer)

    @property
    def b_factor_mean_angstrom2(self) -> float:
        values = [site.atom.b_iso for site in self.structure[0].all()]
        return sum(values) / len(values)

    def content(self, entry_id: str, categories: Categories) -> bytes:
        """The file; categories replace those of the same name, but items of entities are added to theirs."""
        self.structure.name = entry_id
        self.structure.info["_entry.id"] = entry_id
        document = self.structure.make_mmcif_document()
        block = document.sole_block()
        for name in ("struct_ref", "struct_ref_seq"):  # written empty by gemmi
            _remove(block, name)
        monomers = block.get_mmcif_category("_chem_comp.")["id"]
        kinds = [_monomer_kind(str(name)) for name in monomers]
        block.set_mmcif_category("_chem_comp.", {"id": monomers, "type": kinds})
        for name, rows in categories.items():
            told = block.get_mmcif_category(f"_{name}.") if name == "entity" else {}
            columns = {item: list(values) for item, values in told.items()} | _columns(rows)
            block.set_mmcif_category(f"_{name}.", columns)
        return _written(document)


def pdbx_model(mmcif: bytes, name: str, sequences: Sequence[str]) -> PdbxModel:
    """A model of `tasks.formats.structure.mmcif_of` with each chain's whole sequence.

    Parameters
    ----------
    sequences
        One-letter codes of what was in the sample; a chain takes the one that fits it best, one that none fits its own
        residues. Chains that can only be pieces of one molecule become one.
    """
    structure = gemmi.make_structure_from_block(gemmi.cif.read_string(mmcif.decode()).sole_block())
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise FormatError(f"{name}: holds no atoms; make the model again")
    _find_entities(structure, sequences)
    new_chains = _pieces(structure)
    if new_chains:
        _join(structure, new_chains)
        structure.entities = gemmi.EntityList([])
        structure.assign_subchains(force=True)
        _find_entities(structure, sequences)
        for generator in [g for a in structure.assemblies for g in a.generators]:
            generator.subchains = [s.subchain_id() for s in structure[0].subchains()]
    operators = [o for a in structure.assemblies[:1] for g in a.generators for o in g.operators]
    return PdbxModel(structure, tuple(_entities(structure)), max(1, len(operators)), new_chains)


def _find_entities(structure: gemmi.Structure, sequences: Sequence[str]) -> None:
    """Kinds of molecules with their whole sequences, numbered from 1."""
    structure.setup_entities()
    structure.clear_sequences()
    structure.assign_best_sequences(list(sequences))
    chains = {entity.name: structure[0].get_subchain(entity.subchains[0]) for entity in structure.entities}
    for entity in structure.entities:
        if entity.entity_type == gemmi.EntityType.Polymer and not entity.full_sequence:
            entity.full_sequence = [residue.name for residue in chains[entity.name]]
    structure.deduplicate_entities()
    for number, entity in enumerate(structure.entities, start=1):
        entity.name = str(number)
    structure.add_entity_ids(overwrite=True)
    structure.assign_label_seq_id(force=True)
    structure.spacegroup_hm = "P 1"


def _positions(structure: gemmi.Structure, subchain: str) -> list[int]:
    """In the whole sequence, from 1."""
    return [residue.label_seq or 0 for residue in structure[0].get_subchain(subchain)]


def _pieces(structure: gemmi.Structure) -> dict[str, str]:
    """Chain -> the chain that it belongs to, of entities of which no position is there twice: there is one of them."""
    owner = {s.subchain_id(): chain.name for chain in structure[0] for s in chain.subchains()}
    found: dict[str, str] = {}
    for entity in structure.entities:
        if entity.entity_type != gemmi.EntityType.Polymer or len(entity.subchains) < 2:
            continue
        places = [p for s in entity.subchains for p in _positions(structure, s)]
        numbers = [str(r.seqid) for s in entity.subchains for r in structure[0].get_subchain(s)]
        if len(set(places)) == len(places) and len(set(numbers)) == len(numbers):
            names = sorted((min(_positions(structure, s)), owner[s]) for s in entity.subchains)
            first = min(name for _, name in names)
            found |= {name: first for _, name in names if name != first}
    return found


def _join(structure: gemmi.Structure, new_chains: Mapping[str, str]) -> None:
    """Chains under their new names, residues in the order of the sequence."""
    model = structure[0]
    for old, new in new_chains.items():
        kept = model[new]
        residues = sorted([*kept, *model[old]], key=lambda r: (r.label_seq is None, r.label_seq or r.seqid.num))
        joined = gemmi.Chain(new)
        for residue in residues:
            joined.add_residue(residue)
        model.remove_chain(old)
        model.remove_chain(new)
        model.add_chain(joined)


def _entities(structure: gemmi.Structure) -> list[Entity]:
    owner = {s.subchain_id(): chain.name for chain in structure[0] for s in chain.subchains()}
    found = []
    for entity in structure.entities:
        chains = tuple(dict.fromkeys(owner[s] for s in entity.subchains))
        if entity.entity_type == gemmi.EntityType.Polymer:
            letters = gemmi.one_letter_code(entity.full_sequence)
            weight = gemmi.calculate_sequence_weight(entity.full_sequence)
            kind = _KINDS.get(entity.polymer_type, "other")
            places = Counter(p for s in entity.subchains for p in _positions(structure, s))
            found.append(Entity(entity.name, kind, letters, chains, max(places.values()), weight))
            continue
        residues = [residue for s in entity.subchains for residue in structure[0].get_subchain(s)]
        kind = "water" if entity.entity_type == gemmi.EntityType.Water else "non-polymer"
        weight = gemmi.calculate_sequence_weight([residues[0].name]) if kind == "water" else _weight(residues[0])
        found.append(Entity(entity.name, kind, residues[0].name, chains, len(residues), weight))
    return found


def _weight(residue: gemmi.Residue) -> float:
    return sum(atom.element.weight for atom in residue)


def _monomer_kind(name: str) -> str:
    about = gemmi.find_tabulated_residue(name)
    if about.is_amino_acid():
        return "PEPTIDE LINKING" if name == "GLY" else "L-PEPTIDE LINKING"
    if about.is_nucleic_acid():
        return "DNA LINKING" if name.startswith("D") else "RNA LINKING"
    return "NON-POLYMER"


def header_content(entry_id: str, categories: Categories) -> bytes:
    """A file of categories alone: what is told of a map."""
    document = gemmi.cif.Document()
    block = document.add_new_block(entry_id)
    block.set_pair("_entry.id", gemmi.cif.quote(entry_id))
    for name, rows in categories.items():
        block.set_mmcif_category(f"_{name}.", _columns(rows))
    return _written(document)


def _columns(rows: Sequence[Mapping[str, Value]]) -> dict[str, list[str | None]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_text(row.get(name)) for row in rows] for name in names}


def _text(value: Value) -> str | None:
    return value if value is None or isinstance(value, str) else f"{value:.10g}"


def _remove(block: gemmi.cif.Block, category: str) -> None:
    table = block.find_mmcif_category(f"_{category}.")
    if table:
        table.erase()


def _written(document: gemmi.cif.Document) -> bytes:
    return document.as_string(gemmi.cif.WriteOptions(gemmi.cif.Style.Pdbx)).encode()


def find_dictionary(path: Path | None = None) -> Path:
    """The PDBx/mmCIF dictionary: a newer one that is given, or that of cctbx.

    Raises
    ------
    MissingDictionaryError
        Where there is none.
    """
    if path is None:
        package = importlib.util.find_spec("iotbx")
        folders = list(package.submodule_search_locations or []) if package is not None else []
        path = next((Path(folder, *_DICTIONARY) for folder in folders), None)
    if path is None or not path.is_file():
        raise MissingDictionaryError(
            f"found no PDBx/mmCIF dictionary{f' at {path}' if path else ''}; install cctbx-base, which has one, or give"
            " the file mmcif_pdbx_v50.dic of mmcif.wwpdb.org (`--dictionary`)"
        )
    return path


class Dictionary:
    """The PDBx/mmCIF dictionary, to check files against."""

    def __init__(self, path: Path) -> None:
        try:
            document = gemmi.cif.read(str(path))
            self.version = gemmi.cif.as_string(document[0].find_value("_dictionary.version"))
        except (OSError, RuntimeError, ValueError, IndexError, TypeError) as error:
            raise FormatError(f"{path}: is no dictionary that can be read ({error}); fetch it again") from error
        self._said: list[str] = []
        self._rules = gemmi.cif.Ddl(
            logger=self._said.append, print_unknown_tags=True, use_context=False, use_linked_groups=False
        )
        self._rules.read_ddl(document)

    def complaints(self, content: bytes, also_allowed: Mapping[str, Sequence[str]]) -> list[str]:
        """What the dictionary has against a file, in words.

        Parameters
        ----------
        also_allowed
            Item -> values that a newer dictionary allows.
        """
        self._said.clear()
        text = content.decode()
        self._rules.validate_cif(gemmi.cif.read_string(text))
        lines = text.splitlines()
        found = [_words(said, lines) for said in self._said]
        spare = [f"{item}: '{value}' is not one" for item, values in also_allowed.items() for value in values]
        return [words for words in found if not words.startswith(tuple(spare))]


def _words(said: str, lines: Sequence[str]) -> str:
    """A complaint in one line that begins with its item; what is allowed is listed as far as it is short."""
    place = re.match(r"string:(\d+) ", said)
    said = re.sub(r"^(string:\d+ )?\[[^]]*\] ", "", said)
    if place and not said.startswith("_"):
        item = lines[int(place[1]) - 1].split()[0]
        said = f"{item}: {said}" if item.startswith("_") else said
    said = re.sub(r"^(_\S+: )?(['\"]?)([^\n]*?)\2 is not one of", r"\1'\3' is not one of", said)
    head, *allowed = said.split("\n")
    listed = ", ".join(one.strip() for one in allowed)
    return f"{head} {listed if len(listed) <= _MOST_LISTED else listed[:_MOST_LISTED] + ' …'}".strip()
