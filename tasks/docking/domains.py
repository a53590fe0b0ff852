"""Rigid parts of a prediction: what its engine is sure of, residue by residue and of residues to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import average, fcluster
from scipy.spatial.distance import squareform
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.predicted_structure import PredictedStructure

LEAST_PLDDT = 70.0
"""Backbones below it are usually wrong or disordered (Tunyasuvunakool et al. 2021, Nature 596:590)."""
MOST_PAE_ANGSTROM = 5.0
"""Mean between two parts that are one rigid body. In a prediction of three domains with an error of 3 to 4 Å within
each, 4 to 6 Å tell them apart and 8 Å joins two that touch at one end."""
FEWEST_RESIDUES = 25
"""Residues of a part that a map of intermediate resolution can place."""
_SHORTEST_STRETCH = 4
_LONGEST_GAP = 3
"""Residues of less confidence between two stretches of a part that stay with it."""


@dataclass(frozen=True, eq=False)
class RigidPart:
    """Some residues of a prediction that move together."""

    model: AtomicModel
    is_taken: Tensor
    """(residue,) of the whole prediction."""
    plddt: float
    """Mean."""
    pae_angstrom: float | None
    """Mean within the part; None where the engine tells none."""


@dataclass(frozen=True, eq=False)
class SplitPrediction:
    """A prediction in its rigid parts, the largest first."""

    parts: tuple[RigidPart, ...]
    n_untrusted: int
    """Residues below the confidence."""
    n_small: int
    """Residues that the engine is sure of, in parts too small to be placed."""


def rigid_parts(
    predicted: PredictedStructure,
    least_plddt: float = LEAST_PLDDT,
    most_pae_angstrom: float = MOST_PAE_ANGSTROM,
    fewest: int = FEWEST_RESIDUES,
) -> SplitPrediction:
    """Split a prediction where its parts may move against each other; what is not trusted is left out.

    Parts are joined, the surest first, while the mean PAE between them is small (average linkage). Without a PAE each
    chain is one part.

    Raises
    ------
    ValueError
        Where nothing that is large enough is trusted.

    Memory: 40 bytes a pair of trusted residues.
    """
    model, n = predicted.model, predicted.model.n_residues
    chains = torch.tensor([_number(model)[r.chain] for r in model.residues])
    is_polymer = (model.amino_acid >= 0) | (model.base >= 0)
    trusted = _without_crumbs((predicted.plddt >= least_plddt) & is_polymer, chains)
    rows = torch.nonzero(trusted).squeeze(1)
    part = torch.full((n,), -1)
    if len(rows) > 1:
        part[rows] = (
            chains[rows]
            if predicted.pae_angstrom is None
            else _joined(predicted.pae_angstrom[rows][:, rows], most_pae_angstrom)
        )
    found, n_small = [], 0
    for number in range(int(part.max()) + 1):
        own = part == number
        if int(own.sum()) < fewest:
            n_small += int(own.sum())
            continue
        taken = _with_gaps(own, chains, part, is_polymer)
        pae = None if predicted.pae_angstrom is None else float(predicted.pae_angstrom[own][:, own].mean())
        found.append(RigidPart(model.take_residues(taken), taken, float(predicted.plddt[own].mean()), pae))
    if not found:
        raise ValueError(
            f"of {n} residues {int(trusted.sum())} have a pLDDT of {least_plddt:g} or more, in parts of less than"
            f" {fewest} residues; expected one such part at least; lower `least_plddt`, or take another prediction"
        )
    found.sort(key=lambda p: -int(p.is_taken.sum()))
    return SplitPrediction(tuple(found), int((is_polymer & ~trusted).sum()), n_small)


def _number(model: AtomicModel) -> dict[str, int]:
    return {chain: i for i, chain in enumerate(dict.fromkeys(r.chain for r in model.residues))}


def _runs(mask: Tensor, chains: Tensor) -> list[tuple[int, int]]:
    """First and end of stretches of a mask along chains."""
    padded = torch.cat([torch.tensor([False]), mask, torch.tensor([False])])
    breaks = torch.cat([torch.tensor([True]), chains[1:] != chains[:-1], torch.tensor([True])])
    starts = torch.nonzero(mask & (~padded[:-2] | breaks[:-1])).squeeze(1).tolist()
    ends = torch.nonzero(mask & (~padded[2:] | breaks[1:])).squeeze(1).tolist()
    return [(first, last + 1) for first, last in zip(starts, ends)]


def _without_crumbs(mask: Tensor, chains: Tensor) -> Tensor:
    kept = mask.clone()
    for first, end in _runs(mask, chains):
        if end - first < _SHORTEST_STRETCH:
            kept[first:end] = False
    return kept


def _joined(pae: Tensor, most: float) -> Tensor:
    """(residue,) number of the part of each."""
    distance = torch.minimum(pae, pae.T).double().numpy().copy()
    np.fill_diagonal(distance, 0)
    clusters = fcluster(average(squareform(distance, checks=False)), most, "distance")
    return torch.from_numpy(clusters.astype(np.int64)) - 1


def _with_gaps(own: Tensor, chains: Tensor, part: Tensor, is_polymer: Tensor) -> Tensor:
    """With short stretches between two of its own that belong to no other part."""
    taken = own.clone()
    for first, end in _runs(~own & is_polymer, chains):
        is_between = first > 0 and end < len(own) and bool(own[first - 1] & own[end])
        is_one_chain = is_between and chains[first - 1] == chains[end]
        if is_one_chain and end - first <= _LONGEST_GAP and bool((part[first:end] < 0).all()):
            taken[first:end] = True
    return taken
