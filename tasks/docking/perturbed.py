"""Predictions that are not quite the structure in the map: bent, or with a domain that swung about a hinge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.predicted_structure import PredictedStructure
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import least_rmsd
from kernels.rotations import from_rotation_vector, random_rotations

_CONTACT_ANGSTROM = 8.0
_OUTER_SHARE = 0.28
"""Of a chain at each end where no hinge is looked for."""
_N_AXES = 12
_N_HALVINGS = 14
_WAVE_ANGSTROM, _RIPPLE_ANGSTROM = 14.0, 0.35
"""Of the local errors that every prediction has: how far they reach, and their height."""
_PAE_WITHIN, _PAE_ACROSS = (1.0, 0.03), (7.0, 0.05)
"""Å at no distance, and what each Å of distance adds, within a part and between parts."""
_PLDDT = 88.0


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A prediction of a structure, in a frame of its own."""

    prediction: PredictedStructure
    part: Tensor
    """(residue,) int64, which of its rigid parts each belongs to."""
    rmsd_angstrom: float
    """To the structure, laid over it as one body."""


def bent(truth: AtomicModel, rmsd_angstrom: float, generator: torch.Generator) -> Perturbed:
    """The whole bends and winds about its long axis, ever more from one end to the other."""
    centred = truth.coordinates_angstrom - truth.coordinates_angstrom.mean(0)
    long = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    along = centred @ long
    axis = torch.randn(3, generator=generator, dtype=torch.float64)
    axis = axis / axis.norm()

    def turned(angle_per_angstrom: float) -> Tensor:
        rotation = from_rotation_vector((angle_per_angstrom * along)[:, None] * axis)
        return torch.einsum("nij,nj->ni", rotation, centred)

    return _made(truth, turned, 0.06, rmsd_angstrom, torch.zeros(truth.n_residues, dtype=torch.int64), generator)


def hinged(truth: AtomicModel, rmsd_angstrom: float, generator: torch.Generator) -> Perturbed:
    """What follows the residue with the fewest contacts across it swings about that residue.

    Of several axes the one is taken along which the parts run into each other least.
    """
    places = places_of_residues(truth)
    cut = _hinge(places)
    part = (torch.arange(truth.n_residues) >= cut).long()
    moves = part[truth.residue] == 1
    around = truth.coordinates_angstrom - places[cut]

    def about(axis: Tensor) -> Callable[[float], Tensor]:
        return lambda angle: torch.where(moves[:, None], around @ from_rotation_vector(axis * angle).T, around)

    axes = torch.randn(_N_AXES, 3, generator=generator, dtype=torch.float64)
    tried: list[tuple[int, int, Callable[[float], Tensor]]] = []
    for axis in axes / axes.norm(dim=1, keepdim=True):
        angle = _amount(truth, about(axis), math.pi / 2, rmsd_angstrom)
        moved = places_of_residues(truth.at(about(axis)(angle)))
        tried.append((int((torch.cdist(moved[:cut], moved[cut:]) < 4.0).sum()), len(tried), about(axis)))
    return _made(truth, min(tried)[2], math.pi / 2, rmsd_angstrom, part, generator)


def _hinge(places: Tensor) -> int:
    near = (torch.cdist(places, places) < _CONTACT_ANGSTROM).double()
    n = len(places)
    cuts = range(max(1, int(_OUTER_SHARE * n)), max(2, int((1 - _OUTER_SHARE) * n)))
    return min(cuts, key=lambda k: float(near[:k, k:].sum()) / min(k, n - k))


def _amount(truth: AtomicModel, moved: Callable[[float], Tensor], most: float, wanted: float) -> float:
    """How far to go until the structure is off by what is wanted, or as far as allowed."""
    known, low, high = places_of_residues(truth), 0.0, most
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        far = least_rmsd(places_of_residues(truth.at(moved(middle))), known)
        low, high = (middle, high) if far < wanted else (low, middle)
    return low


def _made(
    truth: AtomicModel,
    moved: Callable[[float], Tensor],
    most: float,
    wanted: float,
    part: Tensor,
    generator: torch.Generator,
) -> Perturbed:
    place = moved(_amount(truth, moved, most, wanted))
    place = place + _ripples(truth.coordinates_angstrom, generator)
    rotation = random_rotations(1, generator)[0].double()
    away = 200.0 * torch.randn(3, generator=generator, dtype=torch.float64)
    model = truth.at(place @ rotation.T + away)
    distance = torch.cdist(places_of_residues(model), places_of_residues(model))
    same = part[:, None] == part
    base, slope = (torch.where(same, w, a) for w, a in zip(_PAE_WITHIN, _PAE_ACROSS))
    scatter = torch.rand(distance.shape, generator=generator, dtype=torch.float64)
    pae = ((base + slope * distance) * (0.7 + 0.6 * scatter)).clamp(max=31)
    plddt = (_PLDDT + 5 * torch.randn(truth.n_residues, generator=generator)).clamp(50, 99)
    found = PredictedStructure(model, plddt, pae.float())
    return Perturbed(found, part, least_rmsd(places_of_residues(model), places_of_residues(truth)))


def _ripples(place: Tensor, generator: torch.Generator) -> Tensor:
    """(atom, 3) errors that neighbours share."""
    waves = torch.randn(6, 3, generator=generator, dtype=torch.float64) * (2 * math.pi / _WAVE_ANGSTROM)
    phases = 2 * math.pi * torch.rand(6, generator=generator, dtype=torch.float64)
    heights = torch.randn(6, 3, generator=generator, dtype=torch.float64) * _RIPPLE_ANGSTROM
    return torch.sin(place @ waves.T + phases) @ heights
