"""Proteins and nucleic acids bent about a hinge, by another model of motion than any that is fitted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.neighbours import pairs_within
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import superposed
from kernels.rotations import from_rotation_vector

_HINGE_RESIDUES = 3
"""To either side of the hinge, over which the turn grows."""
_WAVE_ANGSTROM, _WAVE_RMS_ANGSTROM = 40.0, 0.6
"""Of the smooth bending of everything."""
_N_AXES = 40
_TOO_NEAR_ANGSTROM = 3.6
_LEAST_SHARE = 0.25
"""Of a chain, in the smaller of the two parts."""
_FOLD_ANGSTROM = 10.0
"""To either side of the plane that a model is folded at, over which the turn grows."""
_MOST_RAD = math.radians(80)


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
    pivot = model.coordinates_angstrom.double()[model.atom("CA")[hinge, 0]]
    for axis in axes:
        moved = _at_rmsd(model, axis, turn[model.residue], pivot, rmsd_angstrom)
        if moved is None:
            continue
        place = moved[model.atom("CA")[:, 0]]
        i, j, _ = pairs_within(place, place, _TOO_NEAR_ANGSTROM)
        crowding = int((j - i > 2).sum())
        if best is None or crowding < best[0]:
            best = crowding, moved
    if best is None:
        raise ValueError(f"no turn about its hinge moves the chain by {rmsd_angstrom:g} Å; take a longer chain")
    return model.at(_laid(model, best[1] + _wave(best[1], generator)))


def folded(model: AtomicModel, rmsd_angstrom: float, generator: torch.Generator) -> AtomicModel:
    """A model whose ends are turned against each other about a plane across its longest axis, and bent as a whole.

    Unlike a hinge between residues it cuts no helix of a nucleic acid, both strands of which turn. The result is laid
    on the model by all residues, so that its RMSD in C4' or Cα is what a rigid fit would leave.
    """
    places = places_of_residues(model)
    middle = places.mean(0)
    long = torch.linalg.svd(places - middle, full_matrices=False)[2][0]
    drawn = torch.randn(3, generator=generator, dtype=torch.float64)
    axis = torch.nn.functional.normalize(drawn - (drawn @ long) * long, dim=0)
    turn = torch.sigmoid((model.coordinates_angstrom.double() - middle) @ long / _FOLD_ANGSTROM)
    moved = _at_rmsd(model, axis, turn, middle, rmsd_angstrom)
    if moved is None:
        raise ValueError(f"no fold moves the model by {rmsd_angstrom:g} Å; take a larger one")
    return model.at(_laid(model, moved + _wave(moved, generator)))


def _laid(model: AtomicModel, moved: Tensor) -> Tensor:
    """(atom, 3) laid on the model by its residues."""
    return superposed(moved, places_of_residues(model.at(moved)), places_of_residues(model))


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


def _at_rmsd(model: AtomicModel, axis: Tensor, turn: Tensor, pivot: Tensor, rmsd: float) -> Tensor | None:
    """Atoms after the turn about the axis that leaves an RMSD, found by halving; None where none does.

    ``turn`` (atom,) is the share of the angle that each takes.
    """
    place, rest = model.coordinates_angstrom.double(), places_of_residues(model)

    def moved(angle: float) -> Tensor:
        rotation = from_rotation_vector(axis * (angle * turn)[:, None])
        return torch.einsum("aij,aj->ai", rotation, place - pivot) + pivot

    def left(angle: float) -> float:
        there = model.at(_laid(model, moved(angle)))
        return float((places_of_residues(there) - rest).square().sum(-1).mean().sqrt())

    low, high = 0.0, _MOST_RAD
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
