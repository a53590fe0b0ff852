"""What is to be docked: a structure as a whole, and the rigid parts that it may come apart into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.predicted_structure import PredictedStructure
from kernels.models.residue_places import places_of_residues
from kernels.models.rigid_body import RigidBody
from tasks.docking.domains import rigid_parts

_STEP_ANGSTROM, _SLACK_ANGSTROM = 3.8, 8.0
"""From one residue of a chain to the next, and what two parts that were placed a little off may add."""


@dataclass(frozen=True)
class Link:
    """Two residues of a chain that lie in different parts, with none of another part between them."""

    first_part: int
    first: int
    """Its number within the part."""
    second_part: int
    second: int
    usual_angstrom: float
    """How far apart they are in the structure."""
    longest_angstrom: float


@dataclass(frozen=True, eq=False)
class Target:
    """A structure to be docked."""

    name: str
    model: AtomicModel
    """What of it is trusted."""
    part: Tensor
    """(residue,) int64, which of its rigid parts each belongs to, the largest is 0."""
    n_copies: int | None
    """None for as many as the density supports."""
    n_untrusted: int = 0

    @property
    def n_parts(self) -> int:
        return int(self.part.max()) + 1

    @property
    def n_bodies(self) -> int:
        """That are looked for: the whole and, where there are several, each part."""
        return 1 if self.n_parts == 1 else self.n_parts + 1

    def rows(self, part: int) -> Tensor:
        """(residue,) of the model, of one part."""
        return torch.nonzero(self.part == part).squeeze(1)

    def part_model(self, part: int) -> AtomicModel:
        """One of its parts."""
        return self.model.take_residues(self.part == part)

    def links(self) -> Iterator[Link]:
        """Where a chain goes from one part on to another."""
        places = places_of_residues(self.model)
        within = torch.zeros(self.model.n_residues, dtype=torch.int64)
        for part in range(self.n_parts):
            rows = self.rows(part)
            within[rows] = torch.arange(len(rows))
        for i, (a, b) in enumerate(zip(self.model.residues, self.model.residues[1:])):
            if a.chain == b.chain and self.part[i] != self.part[i + 1]:
                steps = max(b.number - a.number, 1)
                usual = float((places[i] - places[i + 1]).norm())
                longest = max(steps * _STEP_ANGSTROM, usual) + _SLACK_ANGSTROM
                ends = (int(self.part[i]), int(within[i]), int(self.part[i + 1]), int(within[i + 1]))
                yield Link(*ends, usual, longest)

    def body(self, part: int | None = None) -> RigidBody:
        """The whole, or one of its parts."""
        return RigidBody.of_model(self.model if part is None else self.part_model(part))


def target_of_prediction(
    name: str, predicted: PredictedStructure, n_copies: int | None, least_plddt: float, most_pae_angstrom: float
) -> Target:
    """What an engine is sure of, in the parts that it is sure of as well.

    Raises
    ------
    ValueError
        Where nothing that is large enough is trusted.
    """
    split = rigid_parts(predicted, least_plddt, most_pae_angstrom)
    part = torch.full((predicted.model.n_residues,), -1)
    for number, one in enumerate(split.parts):
        part[one.is_taken] = number
    kept = part >= 0
    return Target(name, predicted.model.take_residues(kept), part[kept], n_copies, split.n_untrusted + split.n_small)


def target_of_model(name: str, model: AtomicModel, n_copies: int | None) -> Target:
    """The polymers of a model that is no prediction; each of its chains may be placed apart from the others.

    Raises
    ------
    ValueError
        Where it has no amino acids or nucleotides.
    """
    polymer = model.take_residues((model.amino_acid >= 0) | (model.base >= 0))
    if polymer.n_residues == 0:
        raise ValueError(f"{name}: has no amino acids or nucleotides; give a model of a protein or a nucleic acid")
    chains = [r.chain for r in polymer.residues]
    by_size = sorted(dict.fromkeys(chains), key=lambda chain: -chains.count(chain))
    part = torch.tensor([by_size.index(chain) for chain in chains])
    return Target(name, polymer, part, n_copies)
