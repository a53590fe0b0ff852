"""Places of residues, Cα or C4', that are missing between two known ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.models.polymers import PROTEIN, Polymer
from kernels.models.tracing import Hands

_N_STEPS = 120


def bridged(before: Hands, after: Hands, missing: int) -> Tensor:
    """(gap, missing, 3) residues between two ends that expect them: a step apart, and no sharper bent than chains are.

    Starts from where the ends expect the first and the last of them, with an arc between.
    """
    if missing == 0:
        return before.alpha_angstrom.new_zeros(len(before), 0, 3)
    ahead = before.alpha_angstrom + before.ahead_angstrom
    back = after.alpha_angstrom + after.back_angstrom
    if missing == 1:
        return relaxed(before.alpha_angstrom, after.alpha_angstrom, ((ahead + back) / 2)[:, None], before.polymer)
    along = torch.linspace(0, 1, missing, dtype=ahead.dtype, device=ahead.device)[None, :, None]
    chord = back - ahead
    # an arc as long as the chain that it must hold, bulging to where both ends point
    outwards = before.ahead_angstrom + after.back_angstrom
    axis = normalize(chord, dim=1)
    outwards = normalize(outwards - (outwards * axis).sum(1, keepdim=True) * axis, dim=1)
    room = (before.polymer.step_angstrom * (missing - 1)) ** 2 - chord.square().sum(1, keepdim=True)
    height = 0.6 * room.clamp(min=0).sqrt() / math.sqrt(2)
    bulge = torch.sin(math.pi * along) * (height * outwards)[:, None]
    inner = ahead[:, None] + along * chord[:, None] + bulge
    return relaxed(before.alpha_angstrom, after.alpha_angstrom, inner, before.polymer)


def relaxed(first: Tensor, last: Tensor, inner: Tensor, polymer: Polymer = PROTEIN) -> Tensor:
    """Inner residues (gap, missing, 3) moved until steps are right and no bend is too sharp; the two ends stay."""
    shortest, _, _, longest = polymer.over_one_angstrom
    place = torch.cat([first[:, None], inner, last[:, None]], 1)
    moves = torch.ones(place.shape[1], 1, dtype=place.dtype, device=place.device)
    moves[[0, -1]] = 0.0
    for _ in range(_N_STEPS):
        place = _pulled(place, moves, 1, polymer.step_angstrom, polymer.step_angstrom)
        if place.shape[1] > 2:
            place = _pulled(place, moves, 2, shortest, longest)
    return place[:, 1:-1]


def _pulled(place: Tensor, moves: Tensor, step: int, shortest: float, longest: float) -> Tensor:
    """Every pair ``step`` apart moved half way towards its permitted distance."""
    vector = place[:, step:] - place[:, :-step]
    length = vector.norm(dim=2, keepdim=True).clamp(min=1e-3)
    push = 0.25 * vector * (1 - length.clamp(shortest, longest) / length)
    moved = place.clone()
    moved[:, :-step] += push * moves[:-step]
    moved[:, step:] -= push * moves[step:]
    return moved
