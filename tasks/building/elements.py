"""Helices and strands of a traced model, as records, and which of a known structure's they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.secondary_structure import HELIX
from kernels.models.structure_elements import StructureElement, chain_posterior, structure_elements
from kernels.models.topology import match_topology, segments_of
from tasks.records.model import Element

_LONGEST_STEP_ANGSTROM = 4.6
"""Between Cα of residues that follow one another, with what detections are off."""


@dataclass(frozen=True)
class TracedElements:
    """Elements of a model, and the residues that they are counted in."""

    elements: list[StructureElement]
    residues: list[Residue]

    def records(self) -> list[Element]:
        return [self._record(element) for element in self.elements]

    def _record(self, element: StructureElement) -> Element:
        first, last = (self.residues[i] for i in (element.first, element.first + element.n_residues - 1))
        z, y, x = (round(v, 2) for v in element.start_angstrom.tolist())
        end_z, end_y, end_x = (round(v, 2) for v in element.end_angstrom.tolist())
        return Element(
            kind="helix" if element.kind == HELIX else "strand",
            chain=first.chain,
            first=str(first.number),
            last=str(last.number),
            start_angstrom=(z, y, x),
            end_angstrom=(end_z, end_y, end_x),
            probability=round(element.probability, 3),
        )


def traced_elements(model: AtomicModel, structure_at: Callable[[Tensor], Tensor]) -> TracedElements:
    """Helices and strands of a model's chains, by what the network says of the map around their Cα.

    Parameters
    ----------
    structure_at
        Places (n, 3) in Å -> (n, 3) probability of helix, strand and coil there.
    """
    alpha = model.positions("CA")[:, 0]
    kept = (~alpha.isnan().any(-1) & (model.amino_acid >= 0)).nonzero().squeeze(-1)
    residues, alpha = [model.residues[i] for i in kept.tolist()], alpha[kept]
    if not residues:
        return TracedElements([], [])
    is_linked = torch.zeros(len(alpha), dtype=torch.bool)
    is_near = (alpha[1:] - alpha[:-1]).norm(dim=-1) < _LONGEST_STEP_ANGSTROM
    is_linked[:-1] = is_near & torch.tensor([a.chain == b.chain for a, b in itertools.pairwise(residues)])
    posterior = chain_posterior(structure_at(alpha).cpu(), is_linked)
    return TracedElements(structure_elements(alpha, posterior, is_linked), residues)


def topology_lines(traced: TracedElements, structures: Sequence[str]) -> list[str]:
    """In words, which element of the map is which segment of each known or predicted structure."""
    records, lines = traced.records(), []
    for number, structure in enumerate(structures, start=1):
        segments = segments_of(structure)
        placed, score = match_topology(traced.elements, segments)
        lines.append(f"structure {number}: {len(placed)} of {len(segments)} segments placed, log-odds {score:.1f}")
        for match in placed:
            record, segment = records[match.element], match.segment
            against = ", against its direction" if match.is_reversed else ""
            lines.append(
                f"structure {number}, residues {segment.first + 1} to {segment.first + segment.n_residues}:"
                f" {record.kind} {record.chain} {record.first} to {record.last}{against}"
            )
    return lines
