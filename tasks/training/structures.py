"""Structures to train on, split so that no relative of a test protein is trained on."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from kernels.models.atomic_model import AtomicModel
from kernels.specimen.molecule import Molecule, molecule_of
from tasks.formats import FormatError
from tasks.formats.structure import read_structure

logger = logging.getLogger(__name__)

_SUFFIXES = (".pdb", ".cif", ".ent", ".pdb.gz", ".cif.gz", ".ent.gz")
_WORD, _NUCLEIC_WORD = 4, 10
_FEWEST_SHARED_WORDS = 5
_LEAST_SHARED_FRACTION = 0.05
"""Of the words of the shorter chain: unrelated proteins of 300 residues share 0.2 %, those of 40 % identity 5 %."""


@dataclass(frozen=True, eq=False)
class TrainingStructure:
    """A structure, and the cluster of relatives that it belongs to."""

    name: str
    molecule: Molecule
    cluster: str
    """Name of its alphabetically first relative."""

    @property
    def is_held_out(self) -> bool:
        """Whether its whole cluster is kept for validation: one cluster in ten, by the hash of its name."""
        return sha256(self.cluster.encode()).digest()[0] < 26


def read_structures(folders: Sequence[Path], excluded: Sequence[Path] = ()) -> list[TrainingStructure]:
    """Structures below the folders, without the relatives of the excluded ones.

    Relatives are chains that share words of four letters: single linkage over chains, and over the chains of a file.
    Nucleic acids are compared in the same way.

    Raises
    ------
    FormatError
        Where a folder holds no structures.
    """
    found: dict[str, AtomicModel] = {}
    for folder in folders:
        paths = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(_SUFFIXES))
        if not paths:
            raise FormatError(f"{folder}: holds no structures; expected files ending in {', '.join(_SUFFIXES)}")
        for path in paths:
            found[f"{folder.name}/{path.name}"] = read_structure(path)
    barred = {f"excluded/{path.name}": read_structure(path) for path in excluded}
    clusters = _clusters({name: sorted(set(m.sequences.values())) for name, m in [*found.items(), *barred.items()]})
    barred_clusters = {clusters[name] for name in barred}
    kept = [name for name in found if clusters[name] not in barred_clusters]
    logger.info(
        "%d structures, %d left out as relatives of %d excluded ones", len(found), len(found) - len(kept), len(barred)
    )
    return [TrainingStructure(name, molecule_of(found[name]), clusters[name]) for name in kept]


def _clusters(chains: dict[str, list[str]]) -> dict[str, str]:
    """Structure -> first name of its cluster."""
    structures_of: dict[str, list[str]] = defaultdict(list)
    for name, sequences in chains.items():
        for sequence in sequences:
            structures_of[sequence].append(name)
    parent = {name: name for name in chains}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def join(names: Iterable[str]) -> None:
        first, *others = {root(name) for name in names}
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low

    for names in structures_of.values():
        join(names)
    words = {sequence: _words(sequence) for sequence in structures_of}
    having: dict[str, list[str]] = defaultdict(list)
    for sequence, parts in words.items():
        shared: dict[str, int] = defaultdict(int)
        for word in parts:
            for other in having[word]:
                shared[other] += 1
            having[word].append(sequence)
        for other, n in shared.items():
            if n >= max(_FEWEST_SHARED_WORDS, _LEAST_SHARED_FRACTION * min(len(parts), len(words[other]))):
                join([structures_of[sequence][0], structures_of[other][0]])
    return {name: root(name) for name in chains}


def _words(sequence: str) -> set[str]:
    length = _NUCLEIC_WORD if sequence.islower() else _WORD  # there are 256 words of four nucleotides only
    return {sequence[i : i + length] for i in range(len(sequence) - length + 1)}


def sampling_weights(structures: Sequence[TrainingStructure], nucleic_share: float) -> torch.Tensor:
    """(structure,) how often each is drawn: by the root of its size, and nucleic acids a fixed share of the time."""
    n_residues = torch.tensor(
        [float(((s.molecule.amino_acid >= 0) | (s.molecule.base >= 0)).sum()) for s in structures]
    )
    is_nucleic = torch.tensor([bool((s.molecule.base >= 0).any()) for s in structures])
    weights = n_residues.sqrt()
    for chosen, share in ((is_nucleic, nucleic_share), (~is_nucleic, 1 - nucleic_share)):
        if chosen.any():
            weights[chosen] *= share / weights[chosen].sum()
    return weights / weights.sum()
