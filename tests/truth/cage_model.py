"""One subunit of the simulated cage as a model: ideal bonds and angles, known torsions."""

from __future__ import annotations

import torch

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.specimen.cage import THREE_LETTERS, Chain, cage_chains


def model_of(chain: Chain, name: str = "A") -> AtomicModel:
    residues = tuple(Residue(name, THREE_LETTERS[letter], i + 1) for i, letter in enumerate(chain.sequence))
    n = len(chain.names)
    return AtomicModel(
        residues,
        chain.residue,
        chain.names,
        chain.elements,
        chain.coordinates_angstrom,
        torch.full((n,), 40.0),
        torch.ones(n),
    )


def cage_subunit(n_residues: int = 156) -> AtomicModel:
    """Its first residues."""
    whole = model_of(cage_chains()[0])
    return whole.take_residues(torch.arange(whole.n_residues) < n_residues)


def smoothly_displaced(model: AtomicModel, rms_angstrom: float, seed: int = 3) -> AtomicModel:
    """Moved by waves of some 50 Å, so that neighbours stay together."""
    generator = torch.Generator().manual_seed(seed)
    place = model.coordinates_angstrom
    shift = torch.zeros_like(place)
    for _ in range(12):
        wave, direction = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        shift += torch.sin(place @ wave / 8)[:, None] * direction
    return model.at(place + rms_angstrom * shift / shift.square().sum(-1).mean().sqrt())


def trace_of(model: AtomicModel, rms_angstrom: float, seed: int = 5) -> AtomicModel:
    """Cα atoms alone, each displaced by itself."""
    n = model.n_residues
    error = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha = model.positions("CA")[:, 0] + rms_angstrom * error / 3**0.5
    ones = torch.ones(n)
    return AtomicModel(model.residues, torch.arange(n), ("CA",) * n, ("C",) * n, alpha, 40 * ones, ones)
