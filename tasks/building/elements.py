"""Helices and strands of a traced model, as records."""

from __future__ import annotations

import itertools

import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.residues import SECONDARY_STRUCTURES
from kernels.models.structure_elements import chain_posterior, structure_elements
from kernels.networks.detection import MapDetections
from tasks.records.model import Element

_LONGEST_STEP_ANGSTROM = 4.6
"""Between Cα of residues that follow one another, with what detections are off."""


def elements_of(model: AtomicModel, found: MapDetections) -> list[Element]:
    """Helices and strands of a model's chains, by what the network says of the map around their Cα."""
    alpha = model.positions("CA")[:, 0]
    kept = ~alpha.isnan().any(-1)
    kept &= model.amino_acid >= 0
    residues, alpha = [model.residues[i] for i in kept.nonzero().squeeze(-1).tolist()], alpha[kept]
    if not residues:
        return []
    is_linked = torch.zeros(len(alpha), dtype=torch.bool)
    is_near = (alpha[1:] - alpha[:-1]).norm(dim=-1) < _LONGEST_STEP_ANGSTROM
    same = torch.tensor([a.chain == b.chain for a, b in itertools.pairwise(residues)], dtype=torch.bool)
    is_linked[:-1] = is_near & same
    posterior = chain_posterior(found.structure_at(alpha).cpu(), is_linked)
    return [
        Element(
            kind="helix" if SECONDARY_STRUCTURES[element.kind] == "helix" else "strand",
            chain=residues[element.first].chain,
            first=str(residues[element.first].number),
            last=str(residues[element.first + element.n_residues - 1].number),
            start_angstrom=tuple(round(x, 2) for x in element.start_angstrom.tolist()),
            end_angstrom=tuple(round(x, 2) for x in element.end_angstrom.tolist()),
            probability=round(element.probability, 3),
        )
        for element in structure_elements(alpha, posterior, is_linked)
    ]
