"""What the detection network is to answer for a simulated patch, and how far it was off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kernels.networks.residue_detector import CELL_VOXELS, CellPredictions, cell_centres
from kernels.specimen.map_simulation import SimulatedPatch
from kernels.specimen.molecule import NUCLEIC, OTHER, PROTEIN

NEAR_ANGSTROM = 1.9
"""A cell answers for the Cα (C4') that lies so near to its centre: one to seven cells for each."""
_SQUARED_BELOW = 0.3
_MARGIN_VOXELS = 5
"""At the borders of a patch a network sees too little to be judged."""


@dataclass(frozen=True, eq=False)
class CellTargets:
    """For each cell of a patch; offsets in Å from the centre of the cell, NaN where nothing is to be told."""

    is_judged: Tensor
    """(...) whether the cell counts."""
    has_alpha: Tensor
    """(...) bool"""
    backbone: Tensor
    """(..., 12)"""
    neighbours: Tensor
    """(..., 6)"""
    amino_acid: Tensor
    """(...) index, -1 for none."""
    secondary_structure: Tensor
    """(...) index, -1 for none."""
    has_sugar: Tensor
    nucleotide: Tensor
    nucleotide_neighbours: Tensor
    base: Tensor
    content: Tensor
    """(..., 3) bool"""


def targets_of(patch: SimulatedPatch) -> CellTargets:
    """What is true of the cells of a patch. Memory: about 2 kB a residue."""
    molecule, shape = patch.molecule, tuple(patch.density.shape)
    device = patch.density.device
    centres = cell_centres(shape, device=device)
    cells = centres.shape[:-1]
    flat = centres.reshape(-1, 3)
    judged = ((flat >= _MARGIN_VOXELS) & (flat <= torch.tensor(shape, device=device) - 1 - _MARGIN_VOXELS)).all(-1)
    alpha = torch.where(patch.is_visible[:, None], molecule.backbone_angstrom[:, 1], torch.nan)
    residue, has_alpha = _nearest(flat, alpha)
    sugar = torch.where(patch.is_visible[:, None], molecule.nucleotide_angstrom[:, 0], torch.nan)
    nucleotide, has_sugar = _nearest(flat, sugar)
    hidden = torch.zeros(len(molecule.chain), dtype=torch.bool, device=device)
    hidden[~patch.is_visible] = True  # something of it may be left: nothing is asked there
    _, near_hidden = _nearest(flat, torch.where(hidden[:, None], molecule.backbone_angstrom[:, 1], torch.nan), 6.0)
    judged &= ~(near_hidden & ~has_alpha & ~has_sugar)
    return CellTargets(
        judged.reshape(cells),
        has_alpha.reshape(cells),
        _offsets(flat, molecule.backbone_angstrom, residue, has_alpha).reshape(*cells, 12),
        _neighbours(flat, alpha, molecule.next_residue, molecule.previous_residue, residue, has_alpha).reshape(
            *cells, 6
        ),
        torch.where(has_alpha, molecule.amino_acid[residue], -1).reshape(cells),
        torch.where(has_alpha, molecule.secondary_structure[residue], -1).reshape(cells),
        has_sugar.reshape(cells),
        _offsets(flat, molecule.nucleotide_angstrom, nucleotide, has_sugar).reshape(*cells, 9),
        _neighbours(flat, sugar, molecule.next_residue, molecule.previous_residue, nucleotide, has_sugar).reshape(
            *cells, 6
        ),
        torch.where(has_sugar, molecule.base[nucleotide], -1).reshape(cells),
        _content(flat, patch).reshape(*cells, 3),
    )


def _nearest(flat: Tensor, positions: Tensor, near_angstrom: float = NEAR_ANGSTROM) -> tuple[Tensor, Tensor]:
    """(cell,) index of the position that lies nearest, and whether it is near; NaN is nowhere."""
    low, high = flat.amin(0), flat.amax(0)
    here = ((positions > low - near_angstrom) & (positions < high + near_angstrom)).all(-1)
    index = torch.nonzero(here).squeeze(1)
    cells = ((high - low) / CELL_VOXELS).round().long() + 1
    reach = math.ceil(near_angstrom / CELL_VOXELS)
    steps = torch.arange(-reach, reach + 1, device=flat.device)
    around = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
    cell = ((positions[index] - low) / CELL_VOXELS).round().long()[:, None] + around
    distance = (low + cell * float(CELL_VOXELS) - positions[index][:, None]).norm(dim=-1)
    usable = ((cell >= 0) & (cell < cells)).all(-1) & (distance < near_angstrom)
    number = (cell[..., 0] * cells[1] + cell[..., 1]) * cells[2] + cell[..., 2]
    number, distance = number[usable], distance[usable]
    owner = index[:, None].expand(-1, len(around))[usable]
    least = torch.full((len(flat),), torch.inf, device=flat.device).scatter_reduce(0, number, distance, "amin")
    wins = distance == least[number]
    nearest = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)
    nearest[number[wins]] = owner[wins]
    return nearest, least < torch.inf


def _offsets(flat: Tensor, positions: Tensor, residue: Tensor, is_told: Tensor) -> Tensor:
    offsets = positions[residue] - flat[:, None]
    offsets[~is_told] = torch.nan
    return offsets.reshape(len(flat), -1)


def _neighbours(
    flat: Tensor, positions: Tensor, following: Tensor, before: Tensor, residue: Tensor, is_told: Tensor
) -> Tensor:
    pairs = []
    for neighbour in (following[residue], before[residue]):
        offset = positions[neighbour] - flat
        offset[(neighbour < 0) | ~is_told] = torch.nan
        pairs.append(offset)
    return torch.cat(pairs, dim=-1)


def _content(flat: Tensor, patch: SimulatedPatch) -> Tensor:
    molecule = patch.molecule
    is_seen = patch.is_visible[molecule.residue] | (molecule.kind == OTHER)
    cells = torch.tensor(patch.density.shape, device=flat.device) // CELL_VOXELS
    cell = ((molecule.atom_angstrom - flat[0]) / CELL_VOXELS).round().long()
    is_seen &= ((cell >= 0) & (cell < cells)).all(-1)
    number = (cell[:, 0] * cells[1] + cell[:, 1]) * cells[2] + cell[:, 2]
    found = torch.zeros(3, len(flat), dtype=torch.bool, device=flat.device)
    for kind in (PROTEIN, NUCLEIC, OTHER):
        found[kind, number[is_seen & (molecule.kind == kind)]] = True
    return found.T


def losses(predicted: CellPredictions, target: CellTargets) -> dict[str, Tensor]:
    """Loss of each kind, each a mean over the cells that tell it; zero where none does."""
    judged = target.is_judged
    alpha, sugar = judged & target.has_alpha, judged & target.has_sugar
    return {
        "alpha": _binary(predicted.alpha.squeeze(-1)[judged], target.has_alpha[judged]),
        "backbone": _distance(predicted.backbone[alpha], target.backbone[alpha]),
        "neighbours": _distance(predicted.neighbours[alpha], target.neighbours[alpha]),
        "amino_acid": _choice(predicted.amino_acid[alpha], target.amino_acid[alpha]),
        "secondary_structure": _choice(predicted.secondary_structure[alpha], target.secondary_structure[alpha]),
        "sugar": _binary(predicted.sugar.squeeze(-1)[judged], target.has_sugar[judged]),
        "nucleotide": _distance(predicted.nucleotide[sugar], target.nucleotide[sugar]),
        "nucleotide_neighbours": _distance(predicted.nucleotide_neighbours[sugar], target.nucleotide_neighbours[sugar]),
        "base": _choice(predicted.base[sugar], target.base[sugar]),
        "content": _binary(predicted.content[judged], target.content[judged]),
    }


WEIGHTS = {
    "alpha": 8.0, "backbone": 1.0, "neighbours": 0.5, "amino_acid": 0.6, "secondary_structure": 0.3,
    "sugar": 4.0, "nucleotide": 0.5, "nucleotide_neighbours": 0.25, "base": 0.3, "content": 1.0,
}  # fmt: skip
"""Of the losses in their sum, so that each counts about alike once training is under way."""


def _binary(logit: Tensor, truth: Tensor) -> Tensor:
    if not logit.numel():
        return logit.sum()
    return functional.binary_cross_entropy_with_logits(logit.float(), truth.float())


def _choice(logits: Tensor, truth: Tensor) -> Tensor:
    known = truth >= 0
    if not known.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits[known].float(), truth[known])


def _distance(offsets: Tensor, truth: Tensor) -> Tensor:
    """Mean error in Å of the coordinates that are known, squared where it is small."""
    known = ~truth.isnan()
    if not known.any():
        return offsets.sum() * 0
    return functional.huber_loss(offsets.float()[known], truth[known], delta=_SQUARED_BELOW) / _SQUARED_BELOW
