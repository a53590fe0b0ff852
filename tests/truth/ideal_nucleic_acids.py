"""Double helices of ideal nucleotides as atomic models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.detections import NucleotideDetections
from kernels.models.nucleotide_building import model_frames, nucleotide_model
from kernels.models.nucleotides import (
    A_FORM,
    B_FORM,
    BASE_ATOMS,
    RING,
    atom_names,
    monomer,
    nucleotide_coordinates,
)
from kernels.models.residues import BASES

COMPLEMENT = {"A": "U", "U": "A", "C": "G", "G": "C"}
_HELIX = {
    # twist deg, rise Å, shift of pairs along x Å, inclination deg; of the last two those that close the backbone
    False: (32.7, 2.81, -4.5, 20.0),
    True: (36.0, 3.38, -1.5, 11.0),
}
"""RNA and DNA. Source of twist and rise: Olson et al., J. Mol. Biol. 2001, 313:229."""


def duplex(sequence: str, is_dna: bool = False) -> AtomicModel:
    """A strand in letters A, C, G and U as chain A, and its complement as chain B, in A-form or B-form."""
    strands = []
    for chain, letters in (("A", sequence), ("B", "".join(COMPLEMENT[a] for a in reversed(sequence)))):
        parts = []
        for i, letter in enumerate(letters):
            base = BASES.index(letter)
            own = nucleotide_coordinates(base, is_dna, B_FORM if is_dna else A_FORM)[:-1]
            level = i if chain == "A" else len(letters) - 1 - i
            if chain == "B":
                own = own * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
            parts.append(_in_helix(own, level, is_dna).flip(-1))
        names = [monomer(BASES.index(a), is_dna) for a in letters]
        strands.append(nucleotide_model(tuple(Residue(chain, n, i + 1) for i, n in enumerate(names)), parts))
    return joined(strands)


def of_other_bases(model: AtomicModel, base: Tensor) -> AtomicModel:
    """The model of RNA with bases (residue,) laid into the planes of its own."""
    origin, axes = model_frames(model)
    residues, parts = [], []
    for i, about in enumerate(model.residues):
        letter = BASES[int(base[i])]
        names = atom_names(int(base[i]), False)
        own = model.positions(*names)[i]
        flat = BASE_ATOMS[letter]
        laid = [(origin[i] + flat[n][0] * axes[i, 0] + flat[n][1] * axes[i, 1]).flip(0) for n in names if n in flat]
        parts.append(torch.stack([*own[[n not in flat for n in names]], *laid]))
        residues.append(Residue(about.chain, letter, about.number))
    return nucleotide_model(tuple(residues), parts)


def _in_helix(points: Tensor, level: int, is_dna: bool) -> Tensor:
    """(atom, 3) (x, y, z) in the standard frame of a pair, put where the pair of this number stands."""
    twist, rise, shift, inclination = _HELIX[is_dna]
    tilted = points @ _rotation(0, inclination).T + torch.tensor([shift, 0.0, 0.0], dtype=torch.float64)
    return tilted @ _rotation(2, twist * level).T + torch.tensor([0.0, 0.0, rise * level], dtype=torch.float64)


def _rotation(axis: int, angle_deg: float) -> Tensor:
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    found = torch.eye(3, dtype=torch.float64)
    found[first, first] = found[second, second] = cosine
    found[first, second], found[second, first] = -sine, sine
    return found


def seen_nucleotides(model: AtomicModel, error_angstrom: float = 0.5, seed: int = 0) -> NucleotideDetections:
    """What a detector would tell of nucleotides if it knew nothing of their bases; no order is left."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(model.n_residues, generator=generator)

    def noisy(values: Tensor) -> Tensor:
        return (values + error_angstrom * torch.randn(values.shape, generator=generator))[order].float()

    sugar, phosphate = model.positions("C4'", "P").unbind(1)
    ring = model.positions(*RING).mean(1)
    ahead, back = torch.zeros_like(sugar), torch.zeros_like(sugar)
    for chain in dict.fromkeys(r.chain for r in model.residues):
        own = torch.tensor([i for i, r in enumerate(model.residues) if r.chain == chain])
        ahead[own[:-1]], back[own[1:]] = sugar[own].diff(dim=0), -sugar[own].diff(dim=0)
        ahead[own[-1]], back[own[0]] = ahead[own[-2]], back[own[1]]
    n = model.n_residues
    return NucleotideDetections(
        noisy(sugar), torch.full((n,), 0.6), noisy(phosphate - sugar), noisy(ring - sugar), noisy(ahead), noisy(back),
        torch.full((n, 4), 0.25),
    )  # fmt: skip
