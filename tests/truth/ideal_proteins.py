"""Short proteins of ideal bonds and angles as atomic models."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.specimen.cage import THREE_LETTERS, build_chain

HELIX_DEG = (-63.0, -42.0)
STRAND_DEG = (-120.0, 130.0)


def ideal_protein(
    sequence: str, torsions_deg: Sequence[tuple[float, float]] | tuple[float, float] = HELIX_DEG, chain: str = "A"
) -> AtomicModel:
    """One chain, first rotamers; phi and psi for all residues or for each."""
    torsions = torch.tensor(torsions_deg, dtype=torch.float64).expand(len(sequence), 2)
    built = build_chain(sequence, torsions, [0] * len(sequence))
    n = len(built.names)
    return AtomicModel(
        tuple(Residue(chain, THREE_LETTERS[letter], i + 1) for i, letter in enumerate(sequence)),
        built.residue,
        built.names,
        built.elements,
        built.coordinates_angstrom,
        torch.full((n,), 30.0),
        torch.ones(n),
    )
