"""Base pairs by the geometry of their bases, and what they tell of types."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.neighbours import pairs_within
from kernels.models.nucleotide_building import model_frames
from kernels.models.residues import BASES

FURTHEST_APART_ANGSTROM = 2.5
LEAST_ANTIPARALLEL = 0.7
"""Of the standard frames of two bases: between their origins, and the cosine of their normals, turned over. Of ten RNA
structures 326 of the 331 pairs of bases that pass are Watson-Crick or GU pairs; those of Watson-Crick pairs lie 0.6 Å
apart, those of GU pairs 2.1 Å."""
NEAREST_IN_CHAIN = 3
"""Nucleotides of one chain that pair, at least so far apart."""
_SHARE = {("A", "U"): 0.11, ("C", "G"): 0.36, ("G", "U"): 0.02}
"""Of base pairs in the same structures, for each of the two ways round; the rest is left to all others."""
_REAL = 0.95
"""Share of pairs found that are pairs."""


@dataclass(frozen=True)
class BasePairs:
    """Pairs of residues of a model, each residue in one pair at most."""

    first: Tensor
    """(pair,) int64, rising"""
    second: Tensor
    """(pair,) int64, larger than `first`"""

    def __len__(self) -> int:
        return len(self.first)


def base_pairs(model: AtomicModel) -> BasePairs:
    """Cis Watson-Crick-like pairs: bases in one plane, edge to edge, whose frames nearly coincide once one is turned.

    Nothing is asked about types or hydrogen bonds, so that pairs can tell types.
    """
    origin, axes = model_frames(model)
    whole = torch.nonzero(~origin.isnan().any(-1)).squeeze(1)
    i, j, apart = pairs_within(origin[whole], origin[whole], FURTHEST_APART_ANGSTROM)
    i, j = whole[i], whole[j]
    turned = -(axes[i, 2] * axes[j, 2]).sum(-1)
    chains = {name: k for k, name in enumerate(dict.fromkeys(r.chain for r in model.residues))}
    chain = torch.tensor([chains[r.chain] for r in model.residues])
    is_near = (chain[i] == chain[j]) & ((i - j).abs() < NEAREST_IN_CHAIN)
    kept = (turned > LEAST_ANTIPARALLEL) & ~is_near
    i, j, apart = i[kept], j[kept], apart[kept]
    nearest = torch.full((model.n_residues,), torch.inf, dtype=apart.dtype).scatter_reduce(0, i, apart, "amin")
    mutual = (apart == nearest[i]) & (apart == nearest[j]) & (i < j)
    return BasePairs(i[mutual], j[mutual])


def paired_types(types: Tensor, pairs: BasePairs) -> Tensor:
    """(residue, 4) probabilities of types, those of paired bases told together.

    Parameters
    ----------
    types
        (residue, 4) probabilities of each by itself, with all types equally likely before.
    """
    table = joint_share().to(types)
    joint = types[pairs.first][:, :, None] * types[pairs.second][:, None] * table
    joint = joint / joint.sum((1, 2), keepdim=True)
    told = types / types.sum(-1, keepdim=True)
    told[pairs.first], told[pairs.second] = joint.sum(2), joint.sum(1)
    return told


def joint_share() -> Tensor:
    """(4, 4) probability of the types of a pair that was found."""
    share = torch.zeros(4, 4, dtype=torch.float64)
    for (a, b), p in _SHARE.items():
        share[BASES.index(a), BASES.index(b)] = share[BASES.index(b), BASES.index(a)] = p
    others = share == 0
    share[others] = (1 - share.sum()) / others.sum()
    return _REAL * share + (1 - _REAL) / 16
