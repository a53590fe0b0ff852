"""From candidates to chains: traced, threaded where sequences are given, and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count, product
from string import ascii_uppercase

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.detections import ProteinDetections
from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS
from kernels.models.tracing import Density
from tasks.building.sequences import targets
from tasks.building.thread_chains import ThreadedChain, thread_chains
from tasks.building.trace_chains import trace_chains

_ATOMS = ("N", "CA", "C", "O")


@dataclass(frozen=True, eq=False)
class Chains:
    """N, CA, C and O as the network places them, and what is known of the residues."""

    model: AtomicModel
    confidence: Tensor
    """(residue,) of the candidate that it stands for, 0 where it was put between two."""
    register_probability: Tensor
    """(residue,) that the residue is this one of its sequence; 0 where it has none."""
    n_traces: int
    """Stretches, before sequences joined them."""


def chains_of(
    candidates: ProteinDetections,
    density_at: Density,
    sequences: Sequence[str] = (),
    copies: Sequence[int] | None = None,
) -> Chains:
    """Trace candidates, thread the sequences through the traces, and name what came of it.

    Threaded residues have the numbers of their sequence; others are numbered from 1 and have the likeliest type.

    Raises
    ------
    ValueError
        For sequences that cannot be in the map, see `sequences.targets`.
    """
    known = targets(sequences, copies, len(candidates))
    candidates = ProteinDetections(*(getattr(candidates, field.name).float().cpu() for field in fields(candidates)))
    traces = trace_chains(candidates, density_at)
    found = thread_chains(traces, candidates, known)
    rows = [torch.cat([getattr(chain, name) for chain in found]) if found else torch.zeros(0) for name in _COLUMNS]
    candidate, is_reversed, alpha, probability = rows
    candidate = candidate.long()
    names = _likeliest(candidates, candidate)
    residues: list[Residue] = []
    for chain_name, chain in zip(_chain_names(), found):
        for position in chain.position.tolist():
            own = names[len(residues)]
            if chain.sequence is not None:
                letter = known[chain.sequence].letters[position]
                own = AMINO_ACIDS[AMINO_ACID_LETTERS.index(letter)] if letter in AMINO_ACID_LETTERS else own
            residues.append(Residue(chain_name, own, position + 1))
    has_candidate = candidate >= 0
    confidence = torch.where(has_candidate, candidates.confidence[candidate.clamp(min=0)], 0.0).float()
    model = _atoms(tuple(residues), candidates, candidate, is_reversed.bool(), alpha)
    return Chains(model, confidence, probability.float(), len(traces))


_COLUMNS = ("candidate", "is_reversed", "alpha_angstrom", "register_probability")
assert set(_COLUMNS) <= set(ThreadedChain.__dataclass_fields__)


def _likeliest(candidates: ProteinDetections, candidate: Tensor) -> list[str]:
    """Type by the network; alanine where nothing was seen."""
    best = candidates.amino_acid.argmax(-1) if len(candidates) else torch.zeros(1, dtype=torch.int64)
    return [AMINO_ACIDS[int(best[i])] if i >= 0 else "ALA" for i in candidate.tolist()]


def _chain_names() -> Iterator[str]:
    """A to Z, AA to ZZ, and so on."""
    return ("".join(letters) for length in count(1) for letters in product(ascii_uppercase, repeat=length))


def _atoms(
    residues: tuple[Residue, ...], candidates: ProteinDetections, candidate: Tensor, is_reversed: Tensor, alpha: Tensor
) -> AtomicModel:
    """Where a residue was put between two, or is told backwards, it has a CA alone."""
    n = len(residues)
    has_frame = (candidate >= 0) & ~is_reversed
    place = torch.full((n, len(_ATOMS), 3), torch.nan, dtype=torch.float64)
    place[:, 1] = alpha.double().reshape(n, 3)
    offsets = candidates.backbone_offset_angstrom[candidate.clamp(min=0)].double() if len(candidates) else place[:, :3]
    place[:, [0, 2, 3]] = torch.where(has_frame[:, None, None], place[:, 1:2] + offsets, torch.nan)
    is_there = ~place.isnan().any(-1)
    residue, atom = torch.nonzero(is_there, as_tuple=True)
    ones = torch.ones(len(residue))
    names = tuple(_ATOMS[i] for i in atom.tolist())
    return AtomicModel(residues, residue, names, tuple(n[0] for n in names), place[is_there], 30 * ones, ones)
