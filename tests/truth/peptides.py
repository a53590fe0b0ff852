"""Small models whose backbone is known: helices and hairpins of ideal geometry, as files and as arrays."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.specimen.cage import THREE_LETTERS, build_chain
from tasks.formats.structure import write_structure

HELIX_DEG, STRAND_DEG = (-63.0, -42.0), (-120.0, 135.0)


def peptide(sequence: str, torsions_deg: Tensor, chain: str = "A") -> AtomicModel:
    """A model of ideal bonds with (residue, 2) phi and psi; proline is not known here."""
    built = build_chain(sequence, torsions_deg, [0] * len(sequence))
    ones = torch.ones(len(built.names))
    return AtomicModel(
        tuple(Residue(chain, THREE_LETTERS[code], i + 1) for i, code in enumerate(sequence)),
        built.residue,
        tuple(built.names),
        tuple(built.elements),
        built.coordinates_angstrom.double(),
        30 * ones,
        ones,
    )


def helix(sequence: str, chain: str = "A") -> AtomicModel:
    """An alpha helix."""
    return peptide(sequence, torch.tensor([HELIX_DEG] * len(sequence)), chain)


def write_helices(folder: Path, sequences: list[str]) -> None:
    """A file for each of some helices."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, sequence in enumerate(sequences):
        write_structure(folder / f"helix_{i}.cif", helix(sequence))
