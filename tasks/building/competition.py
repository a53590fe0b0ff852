"""Protein or nucleic acid: no place of a map is both."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from kernels.models.atomic_model import AtomicModel
from kernels.models.detections import NucleotideDetections, ProteinDetections
from kernels.models.neighbours import pairs_within
from kernels.networks.detection import MapDetections

LEAST_EXCESS = -0.12
"""Of the probability of nucleic acid over that of protein around a nucleotide. With the network's weights of 53
CPU-minutes, nucleotides on a protein beside an RNA have -0.2, right ones 0, at 3 Å."""
_WINDOW_CELLS = 5
TAKEN_ANGSTROM = 3.5
"""Nearer to an atom of a nucleotide than a Cα comes."""


def nucleic_excess(found: MapDetections, places_angstrom: Tensor) -> Tensor:
    """(n,) probability of nucleic acid less that of protein, mean over the cells within 5 Å along each axis."""
    content = found.content[..., 1] - found.content[..., 0]
    smooth = avg_pool3d(content[None, None], _WINDOW_CELLS, 1, _WINDOW_CELLS // 2, count_include_pad=False)[0, 0]
    shape = torch.tensor(smooth.shape, device=smooth.device)
    first = found.cell_angstrom[0, 0, 0]
    step = (found.cell_angstrom[-1, -1, -1] - first) / (shape - 1).clamp(min=1)
    index = ((places_angstrom.to(first) - first) / step.clamp(min=1e-6)).round().long()
    z, y, x = index.clamp(min=0).minimum(shape - 1).unbind(-1)
    return smooth[z, y, x]


def nucleotides_beside_protein(found: MapDetections, nucleotides: NucleotideDetections) -> NucleotideDetections:
    """Those that do not stand where the network sees protein."""
    return nucleotides.take(nucleic_excess(found, nucleotides.sugar_angstrom) > LEAST_EXCESS)


def residues_beside(model: AtomicModel, residues: ProteinDetections) -> ProteinDetections:
    """Amino acids that are not where a nucleotide stands that was built.

    Candidates for amino acids are many on a nucleic acid, those for nucleotides few on a protein: nucleotides that
    have density for all their atoms come first.
    """
    atoms = model.coordinates_angstrom.float()
    taken, _, _ = pairs_within(residues.alpha_angstrom.float(), atoms, TAKEN_ANGSTROM)
    free = torch.ones(len(residues), dtype=torch.bool)
    free[taken] = False
    return residues.take(free)
