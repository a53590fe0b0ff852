"""From what a network detects in a map to a model of backbones with sequence and confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.backbone import backbone_on_trace, regular_trace
from kernels.models.detections import ProteinDetections
from kernels.models.residues import AMINO_ACIDS
from kernels.models.threading import UNKNOWN
from kernels.models.tracing import Density
from tasks.building.chain_names import BuiltChain, NoChainError, described
from tasks.building.sequences import Target, targets
from tasks.building.thread_chains import ThreadedChain, thread_chains
from tasks.building.trace_in_time import trace_in_time
from tasks.formats.structure import chain_name

LONGEST_STEP_ANGSTROM = 5.5
"""Of two neighbours in sequence that a peptide is laid between; further apart, the chain stays open there."""
UNSEEN = AMINO_ACIDS.index("ALA")
"""Type of a residue that neither a sequence nor a candidate tells."""
_ELEMENTS = {"N": "N", "CA": "C", "C": "C", "O": "O"}


@dataclass(frozen=True)
class BuiltProtein:
    """Backbones of all chains, and what is known of each residue."""

    model: AtomicModel
    """N, CA, C and O; ``b_factor_angstrom2`` holds 100 times the confidence."""
    chains: tuple[BuiltChain, ...]
    targets: tuple[Target, ...]
    candidate: Tensor
    """(residue,) row of the detections, -1 where a residue was put without one"""
    register_probability: Tensor
    """(residue,)"""
    confidence: Tensor
    """(residue,) probability that there is this residue: with a sequence, of this type and number."""
    least_confidence: float | None = None
    """Of the candidates that were traced, where they were too many to trace all."""


def build_chains(
    detections: ProteinDetections,
    sequences: Sequence[str] = (),
    copies: Sequence[int] | None = None,
    density_at: Density | None = None,
    seed: int = 0,
    first_name: int = 0,
) -> BuiltProtein:
    """Trace, thread and place backbones.

    Parameters
    ----------
    sequences
        One-letter codes of the proteins that may be there; without any, residues get the types that they look like.
    copies
        Of each sequence, where known.
    density_at
        Density of the map at positions: helps to tell links.
    first_name
        Number of the name that the first chain gets, where others stand before it.

    Raises
    ------
    NoChainError
        Without detections, or without a chain among them.
    ValueError
        For sequences that cannot be used (see `targets`).
    """
    if len(detections) == 0:
        raise NoChainError(
            "no residues were detected in the map, so no chain can be built; look at its hand, voxel size and"
            " resolution (4 Å or better), and at its sign (protein is positive), or lower the least confidence of"
            " detection"
        )
    wanted = targets(sequences, copies, len(detections))
    traced = trace_in_time(detections, density_at)
    chains = thread_chains(traced.traces, detections, wanted, seed)
    if not chains:
        raise NoChainError(
            f"{len(detections)} residues were detected, but no four of them follow each other as a chain does; look at"
            " the hand, voxel size and resolution (4 Å or better) of the map"
        )
    types = [_types(c, detections, wanted) for c in chains]
    names = [chain_name(first_name + i) for i in range(len(chains))]
    alpha, backbone = _backbone(chains, torch.cat(types), detections)
    register = torch.cat([c.register_probability for c in chains]).float()
    confidence = torch.cat([residue_confidence(c, detections) for c in chains])
    residues = tuple(
        Residue(name, AMINO_ACIDS[t], p + 1)
        for name, chain, own in zip(names, chains, types)
        for p, t in zip(chain.position.tolist(), own.tolist())
    )
    return BuiltProtein(
        _model(residues, alpha, backbone, confidence),
        tuple(described(name, c) for name, c in zip(names, chains)),
        tuple(wanted),
        torch.cat([c.candidate for c in chains]),
        register,
        confidence,
        traced.least_confidence,
    )


def residue_confidence(chain: ThreadedChain, detections: ProteinDetections) -> Tensor:
    """(residue,) probability that within 3 Å lies a residue; with a sequence, that it is this one.

    Without a sequence, being part of a long chain speaks for a candidate; by shares of right residues in simulated
    detections of development structures.
    """
    if chain.sequence is not None:
        return chain.register_probability.float()
    seen = chain.candidate >= 0
    own = torch.logit(detections.confidence[chain.candidate.clamp(min=0)].clamp(0.02, 0.98))
    return torch.sigmoid(0.06 * len(chain) - 0.3 + torch.where(seen, 0.5 * own, -0.7))


def _types(chain: ThreadedChain, detections: ProteinDetections, wanted: Sequence[Target]) -> Tensor:
    likeliest = detections.amino_acid[chain.candidate.clamp(min=0)].argmax(1)
    likeliest = torch.where(chain.candidate >= 0, likeliest, UNSEEN)
    if chain.sequence is None:
        return likeliest
    told = wanted[chain.sequence].types[chain.position]
    return torch.where(told == UNKNOWN, likeliest, told)


def _backbone(chains: Sequence[ThreadedChain], types: Tensor, detections: ProteinDetections) -> tuple[Tensor, Tensor]:
    """(residue, 3) Cα at the distances of peptides, and (residue, 4, 3) N, CA, C, O as the candidates expect them."""
    alpha = torch.cat([c.alpha_angstrom for c in chains]).double()
    candidate, turned = (torch.cat([getattr(c, name) for c in chains]) for name in ("candidate", "is_reversed"))
    linked = torch.zeros(len(alpha), dtype=torch.bool)
    step = torch.cat([torch.cat([c.position.diff(), torch.zeros(1, dtype=torch.int64)]) for c in chains])
    linked[:-1] = (step[:-1] == 1) & (alpha.diff(dim=0).norm(dim=1) < LONGEST_STEP_ANGSTROM)

    def nothing(points: Tensor) -> Tensor:
        return points.new_zeros(points.shape[:-1])

    offset = detections.backbone_offset_angstrom[candidate.clamp(min=0)].double()
    # a candidate that takes the chain for its reverse sees C where N is; of its O nothing can be said
    exchanged = torch.stack([offset[:, 1], offset[:, 0], torch.full_like(offset[:, 2], torch.nan)], 1)
    offset = torch.where(turned[:, None, None], exchanged, offset)
    expected = alpha[:, None] + offset
    expected[candidate < 0] = torch.nan
    place = regular_trace(alpha, linked, types, nothing)
    return place, backbone_on_trace(place, linked, types, nothing, expected).double()


def _model(residues: tuple[Residue, ...], alpha: Tensor, backbone: Tensor, confidence: Tensor) -> AtomicModel:
    n = len(residues)
    b_factor = (100 * confidence).float().repeat_interleave(4)
    return AtomicModel(
        residues,
        torch.arange(n).repeat_interleave(4),
        tuple(_ELEMENTS) * n,
        tuple(_ELEMENTS.values()) * n,
        backbone.reshape(-1, 3),
        b_factor,
        torch.ones(4 * n),
    )
