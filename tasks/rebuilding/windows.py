"""The stretches of a model that are built anew, and the part of the model around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.all_atoms import linked_by_trace
from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within
from kernels.models.reliability import TRUST_FROM
from kernels.models.residues import PROTEIN_BACKBONE
from tasks.records.model import ModelValidation

_PADDING = 2
"""Residues on either side of a region that are built anew with it."""
_NEAREST = 1
"""Residues between two windows that are not taken for one."""
_SURROUNDING_ANGSTROM = 9.0


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of residues, one after the other in a chain, that are built anew."""

    window: Tensor
    """(residue,) int64 index of each residue's window, -1 outside of all"""
    is_doubtful: Tensor
    """(residue,) what the validation does not trust"""
    linked: Tensor
    """(residue,) whether a peptide leads on to the next residue"""

    @property
    def n(self) -> int:
        return int(self.window.max()) + 1 if len(self.window) else 0

    def rows(self, number: int) -> Tensor:
        """Residues of a window, rising."""
        return torch.nonzero(self.window == number).squeeze(1)


def doubtful_residues(model: AtomicModel, found: ModelValidation) -> Tensor:
    """(residue,) what the validation does not trust: regions, and single residues whose probability is as low.

    A peptide that is turned over spoils one residue, which its neighbours outvote in a verdict on regions.

    Raises
    ------
    ValueError
        Where the validation is that of another model.
    """
    require_same_residues(model, found)
    return torch.tensor(
        [row.is_doubted or (row.probability or 1.0) < TRUST_FROM for row in found.residues],
        dtype=torch.bool,
    )


def require_same_residues(model: AtomicModel, found: ModelValidation) -> None:
    """Raise ValueError where a validation is that of another model."""
    told = [(row.chain, row.number, row.insertion_code, row.name) for row in found.residues]
    mine = [(r.chain, r.number, r.insertion_code, r.name) for r in model.residues]
    if told != mine:
        wrong = next((i for i, (a, b) in enumerate(zip(told, mine)) if a != b), min(len(told), len(mine)))
        raise ValueError(
            f"the validation is that of another model: {len(told)} residues, the model has {len(mine)}, and they differ"
            f" from the {wrong + 1}th on; validate this model first"
        )


def windows_about(model: AtomicModel, doubtful: Tensor) -> Windows:
    """Windows about doubtful residues (residue,) that have a whole backbone."""
    linked = linked_by_trace(model)
    whole = model.positions(*PROTEIN_BACKBONE).isfinite().all(-1).all(-1) & (model.amino_acid >= 0)
    linked[:-1] &= whole[:-1] & whole[1:]
    linked[-1:] = False
    inside = doubtful & whole
    for _ in range(_PADDING):
        inside = _grown(inside, linked)
    joined = inside
    for _ in range((_NEAREST + 1) // 2):
        joined = _grown(joined, linked)
    stretch = torch.nn.functional.pad((~(joined[1:] & joined[:-1] & linked[:-1])).long().cumsum(0), (1, 0))
    window = torch.full((model.n_residues,), -1, dtype=torch.int64)
    if inside.any():
        window[inside] = torch.unique(stretch[inside], return_inverse=True)[1]
        # residues between two regions of one window belong to it
        first, last = (_of_stretch(stretch, inside, which) for which in ("amin", "amax"))
        index = torch.arange(model.n_residues)
        between = joined & (index > first[stretch]) & (index < last[stretch]) & ~inside
        window[between] = window[first[stretch][between]]
    return Windows(window, doubtful & whole, linked)


def _grown(inside: Tensor, linked: Tensor) -> Tensor:
    grown = inside.clone()
    grown[1:] |= inside[:-1] & linked[:-1]
    grown[:-1] |= inside[1:] & linked[:-1]
    return grown


def _of_stretch(stretch: Tensor, inside: Tensor, which: str) -> Tensor:
    """(stretch,) first or last residue inside of each."""
    index = torch.arange(len(stretch))[inside]
    start = torch.full((int(stretch.max()) + 1,), len(stretch) if which == "amin" else -1)
    return start.scatter_reduce(0, stretch[inside], index, which)


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a model that feels what happens in its windows."""

    model: AtomicModel
    rows: Tensor
    """(residue,) index of each residue in the whole model, rising"""
    window: Tensor
    """(residue,) as in `Windows`"""
    linked: Tensor
    """(residue,)"""

    @property
    def is_free(self) -> Tensor:
        """(atom,) whether it lies in a window."""
        return self.window[self.model.residue] >= 0


def part_of(model: AtomicModel, windows: Windows, mates: Mates | None = None) -> Part:
    """All residues with an atom near one of a window, by themselves or as a copy of a symmetric map."""
    free = windows.window[model.residue] >= 0
    place = model.coordinates_angstrom
    near = torch.zeros(model.n_residues, dtype=torch.bool)
    for operation in range(1 if mates is None else len(mates)):
        copy = place if mates is None else mates.of(place)[operation]
        near[model.residue[pairs_within(copy, place[free], _SURROUNDING_ANGSTROM)[0]]] = True
    rows = torch.nonzero(near).squeeze(1)
    follows = torch.zeros(len(rows), dtype=torch.bool)
    follows[:-1] = rows[1:] == rows[:-1] + 1
    return Part(model.take_residues(near), rows, windows.window[rows], windows.linked[rows] & follows)


def replaced(model: AtomicModel, rows: Tensor, new: AtomicModel) -> AtomicModel:
    """A model in which some residues, rising, are those of another one: their names and all of their atoms."""
    is_old = torch.ones(model.n_residues, dtype=torch.bool)
    is_old[rows] = False
    kept = torch.nonzero(is_old[model.residue]).squeeze(1)
    residue = torch.cat([model.residue[kept], rows[new.residue]])
    order = residue.argsort(stable=True)
    residues = list(model.residues)
    for row, about in zip(rows.tolist(), new.residues):
        residues[row] = about

    def together(old: Sequence[str], added: Sequence[str]) -> tuple[str, ...]:
        both = [*(old[i] for i in kept.tolist()), *added]
        return tuple(both[i] for i in order.tolist())

    return AtomicModel(
        tuple(residues),
        residue[order],
        together(model.names, new.names),
        together(model.elements, new.elements),
        torch.cat([model.coordinates_angstrom[kept], new.coordinates_angstrom])[order],
        torch.cat([model.b_factor_angstrom2[kept], new.b_factor_angstrom2.to(model.b_factor_angstrom2)])[order],
        torch.cat([model.occupancy[kept], new.occupancy.to(model.occupancy)])[order],
    )
