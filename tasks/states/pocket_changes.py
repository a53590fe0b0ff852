"""Pockets that open, close or change between two states."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.neighbours import pieces
from kernels.models.pockets import Pockets, Probes, pockets, radii
from kernels.models.rigid_domains import RigidDomains
from tasks.records.state_comparison import PocketChange, PocketOfStates, place_of
from tasks.states.same_residues import SameResidues

_SHARED = 0.5
"""Share of the residues around the smaller of two pockets that line the other one as well: they are the same place."""
LEAST_OPENED_ANGSTROM3 = 100.0
"""Three waters; a smaller pocket comes and goes with one side chain."""
LEAST_CHANGE_ANGSTROM3, LEAST_CHANGE_SHARE = 60.0, 0.3
"""Of the larger volume. The grid's own error is 4 % and 6 Å3 (`tests/kernels/models/test_pockets.py`)."""


def pocket_changes(
    first: AtomicModel, second: AtomicModel, same: SameResidues, domains: RigidDomains, probes: Probes
) -> list[PocketOfStates]:
    """Places of pockets in both states, those that change first, the largest change before the others.

    Only atoms that both models have count, without ligands and waters, so that what was not built in one of them opens
    nothing. Pockets that share their residues are told as one place: they may split and join.
    """
    rows_1, rows_2 = _shared_atoms(first, second, same)
    pair = torch.full((first.n_residues,), -1)
    pair[same.first] = torch.arange(len(same))
    residue = pair[first.residue[rows_1]]
    radius = radii(tuple(first.elements[i] for i in rows_1.tolist()))
    found = [
        pockets(places, radius, residue, len(same), probes)
        for places in (
            first.coordinates_angstrom[rows_1],
            domains.returned(second.coordinates_angstrom[rows_2]),
        )
    ]
    return sorted(_changes(first, same, found), key=lambda p: -abs(p.volumes_angstrom3[1] - p.volumes_angstrom3[0]))


def shared_places(model: AtomicModel, same: SameResidues) -> Tensor:
    """(atom, 3) of the residues that both models have, for the size of a search."""
    inside = torch.zeros(model.n_residues, dtype=torch.bool)
    inside[same.first] = True
    return model.coordinates_angstrom[inside[model.residue]]


def _shared_atoms(first: AtomicModel, second: AtomicModel, same: SameResidues) -> tuple[Tensor, Tensor]:
    """Heavy atoms of the same residues and names."""
    of_second = {
        (residue, name): i
        for i, (residue, name, element) in enumerate(zip(second.residue.tolist(), second.names, second.elements))
        if element not in ("H", "D")
    }
    partner = dict(zip(same.first.tolist(), same.second.tolist()))
    pairs = [
        (i, of_second[partner[residue], name])
        for i, (residue, name) in enumerate(zip(first.residue.tolist(), first.names))
        if residue in partner and (partner[residue], name) in of_second
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)  # type: ignore[return-value]


def _changes(first: AtomicModel, same: SameResidues, found: list[Pockets]) -> list[PocketOfStates]:
    lining = torch.cat([one.is_lining for one in found]).double()
    n, n_1 = len(lining), len(found[0])
    state = torch.arange(n) >= n_1
    count = lining.sum(1)
    shared = lining @ lining.T >= _SHARED * torch.minimum(count[:, None], count).clamp(min=1)
    i, j = torch.nonzero(shared & (state[:, None] != state)).unbind(1)
    place = pieces(i, j, n)
    volume = torch.cat([one.volume_angstrom3 for one in found])
    centre = torch.cat([one.centre_angstrom for one in found])
    told = []
    for one in torch.unique(place).tolist():
        own = place == one
        before, after = float(volume[own & ~state].sum()), float(volume[own & state].sum())
        largest = torch.where(own, volume, 0.0).argmax()
        change = _change(before, after)
        if change is None:
            continue
        rows = same.first[lining[own].any(0)]
        told.append(
            PocketOfStates(
                change=change,
                volumes_angstrom3=(round(before, 1), round(after, 1)),
                centre_angstrom=place_of(centre[largest]),
                lining=tuple(str(first.residues[i]) for i in rows.tolist()),
            )
        )
    return told


def _change(before: float, after: float) -> PocketChange | None:
    """None for a pocket that is too small to be told."""
    largest = max(before, after)
    if largest < LEAST_OPENED_ANGSTROM3:
        return None
    if min(before, after) == 0:
        return "opened" if after > 0 else "closed"
    if abs(after - before) < max(LEAST_CHANGE_ANGSTROM3, LEAST_CHANGE_SHARE * largest):
        return "same"
    return "larger" if after > before else "smaller"
