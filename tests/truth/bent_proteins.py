"""Proteins bent about a hinge, by another model of motion than any that is fitted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.neighbours import pairs_within
from kernels.rotations import from_rotation_vector
from tests.truth.real_maps import superposed

_HINGE_RESIDUES = 3
"""To either side of the hinge, over which the turn grows."""
_WAVE_ANGSTROM, _WAVE_RMS_ANGSTROM = 40.0, 0.6
"""Of the smooth bending of everything."""
_N_AXES = 40
_TOO_NEAR_ANGSTROM = 3.6
_LEAST_SHARE = 0.25
"""Of a chain, in the smaller of the two parts."""


def hinge_moved(model: AtomicModel, rmsd_angstrom: float, generator: torch.Generator) -> AtomicModel:
    """One chain whose two parts are turned against each other, and which is bent smoothly as a whole.

    The hinge is where the parts before and after it touch least; of axes through it drawn at random, the one is taken
    that brings the fewest Cα of both parts too near to each other. The result is laid on the model by all Cα, so that
    its RMSD in Cα is what a rigid fit would leave.
    """
    alpha = model.positions("CA")[:, 0]
    n = len(alpha)
    hinge = hinge_residue(alpha)
    turn = torch.sigmoid((torch.arange(n) - hinge).double() / (_HINGE_RESIDUES / 2))
    axes = torch.nn.functional.normalize(torch.randn(_N_AXES, 3, generator=generator, dtype=torch.float64), dim=-1)
    best: tuple[int, Tensor] | None = None
    for axis in axes:
        moved = _at_rmsd(model, axis, turn, hinge, rmsd_angstrom)
        if moved is None:
            continue
        place = moved[model.atom("CA")[:, 0]]
        i, j, _ = pairs_within(place, place, _TOO_NEAR_ANGSTROM)
        crowding = int((j - i > 2).sum())
        if best is None or crowding < best[0]:
            best = crowding, moved
    if best is None:
        raise ValueError(f"no turn about its hinge moves the chain by {rmsd_angstrom:g} Å; take a longer chain")
    waved = best[1] + _wave(best[1], generator)
    rows = model.atom("CA")[:, 0]
    return model.at(superposed(waved, waved[rows], model.coordinates_angstrom[rows]))


def hinge_residue(alpha: Tensor) -> int:
    """Residue after which the chain is cut with the fewest contacts for the size of its parts."""
    n = len(alpha)
    i, j, _ = pairs_within(alpha, alpha, 8.0)
    kept = j - i > 3
    change = torch.zeros(n + 1)
    change.index_add_(0, i[kept] + 1, torch.ones(int(kept.sum())))
    change.index_add_(0, j[kept] + 1, -torch.ones(int(kept.sum())))
    crossing = change.cumsum(0)[:n]
    rows = torch.arange(n)
    share = torch.minimum(rows, n - rows) / n
    cost = (crossing + 1) / share.clamp(min=0.01)
    cost[share < _LEAST_SHARE] = torch.inf
    return int(cost.argmin())


def _at_rmsd(model: AtomicModel, axis: Tensor, turn: Tensor, hinge: int, rmsd: float) -> Tensor | None:
    """Atoms after the turn about the axis that leaves an RMSD, found by halving; None where none does."""
    place, rows = model.coordinates_angstrom.double(), model.atom("CA")[:, 0]
    pivot = place[rows[hinge]]

    def moved(angle: float) -> Tensor:
        rotation = from_rotation_vector(axis * (angle * turn)[:, None])[model.residue]
        return torch.einsum("aij,aj->ai", rotation, place - pivot) + pivot

    def left(angle: float) -> float:
        there = moved(angle)
        there = superposed(there, there[rows], place[rows])
        return float((there - place)[rows].square().sum(-1).mean().sqrt())

    low, high = 0.0, math.radians(80)
    if left(high) < rmsd:
        return None
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) < rmsd else (low, middle)
    return moved(high)


def _wave(place: Tensor, generator: torch.Generator) -> Tensor:
    """(atom, 3) displacement by a few long waves."""
    vectors = torch.randn(8, 3, generator=generator, dtype=torch.float64) * (math.tau / _WAVE_ANGSTROM / math.sqrt(3))
    phases = torch.rand(8, generator=generator, dtype=torch.float64) * math.tau
    amplitudes = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    wave = torch.sin(place @ vectors.T + phases) @ amplitudes
    return wave * (_WAVE_RMS_ANGSTROM / wave.square().sum(-1).mean().sqrt())
