"""Hydrogens that turn about a bond: hydroxyls, thiols and ammonium groups, each where it binds best."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from kernels.models.contacts import SMALL_HYDROGEN_ANGSTROM, Contacts
from kernels.models.hydrogens import Hydrogens, about_bond
from kernels.models.neighbours import nearest_first, pairs_within

_STEPS = 36
_REACH_ANGSTROM = 4.0
"""From the atom that carries the hydrogen to what may touch it."""
_CLASH_WEIGHT = 10.0


def turn_rotors(place: Tensor, hydrogens: Hydrogens, contacts: Contacts) -> Hydrogens:
    """Hydrogens with the turning ones where they make hydrogen bonds and overlap least.

    Each is turned in steps of 10 degrees against all that stands still, and then in turns against the others.

    Parameters
    ----------
    place
        (atom, 3) of the atoms that carry them, and all others but hydrogens, in Å.
    """
    rows = torch.nonzero(hydrogens.rotor >= 0).squeeze(1)
    if len(rows) == 0:
        return hydrogens
    rows = rows[hydrogens.parent[rows].argsort(stable=True)]
    parents, n_on = torch.unique_consecutive(hydrogens.parent[rows], return_counts=True)
    first = n_on.cumsum(0) - n_on
    turned = _turned(place, hydrogens.coordinates_angstrom[rows[first]], parents, contacts)
    score = _score_of_fixed(place, hydrogens, contacts, parents, turned)
    score = torch.where((n_on == 3)[:, None], _together(score), score)
    best = _settled(turned, n_on, score, contacts, parents)
    moved = hydrogens.coordinates_angstrom.clone()
    for k in range(int(n_on.max())):
        has = n_on > k
        moved[rows[first[has] + k]] = turned[has, (best[has] + k * (_STEPS // 3)) % _STEPS]
    return replace(hydrogens, coordinates_angstrom=moved)


def _turned(place: Tensor, start: Tensor, parents: Tensor, contacts: Contacts) -> Tensor:
    """(rotor, step, 3) where the first hydrogen of each rotor can stand."""
    partners = contacts.separation.partners
    arm = start - place[parents]
    length = arm.norm(dim=-1)
    axis = torch.nn.functional.normalize(place[parents] - place[partners[parents, 0]], dim=-1)
    angle = math.pi - torch.arccos((arm / length[:, None] * axis).sum(-1).clamp(-1, 1))
    turns = torch.arange(_STEPS, dtype=place.dtype) * (math.tau / _STEPS)
    padded = torch.cat([place, place.new_full((1, 3), math.nan)])
    directions = about_bond(padded, partners, parents, angle, turns)
    return place[parents, None] + length[:, None, None] * directions


def _score_of_fixed(place: Tensor, hydrogens: Hydrogens, contacts: Contacts, parents: Tensor, turned: Tensor) -> Tensor:
    """(rotor, step) bonds made, less overlaps, with all that does not turn."""
    n = len(place)
    still = hydrogens.rotor < 0
    carrier = hydrogens.parent[still]
    around = torch.cat([place, hydrogens.coordinates_angstrom[still]])
    around_parent = torch.cat([torch.arange(n), carrier])
    radius = torch.cat([contacts.radius, contacts.hydrogen_radius(carrier, hydrogens.is_flat[still])])
    i, j, distance = pairs_within(place[parents], around, _REACH_ANGSTROM)
    apart = contacts.is_apart(parents[i], around_parent[j], 1 + (j >= n).long())
    near, _ = nearest_first(i[apart], j[apart], distance[apart], len(parents))
    known = near.clamp(min=0)
    allowed = contacts.allowed_overlap(parents[:, None].expand_as(near), known.clamp(max=n - 1))
    allowed = torch.where(known < n, allowed, 0.0)[:, None]
    gap = torch.cdist(turned, around[known], compute_mode="donot_use_mm_for_euclid_dist")
    overlap = (SMALL_HYDROGEN_ANGSTROM + radius[known][:, None] - gap).clamp(min=0)
    each = overlap.minimum(allowed) - _CLASH_WEIGHT * (overlap - allowed).clamp(min=0)
    return (each * (near >= 0)[:, None]).sum(-1)


def _together(score: Tensor) -> Tensor:
    """Scores of rotors with three hydrogens, which stand 120 degrees apart."""
    return score.unflatten(1, (3, _STEPS // 3)).sum(1).repeat(1, 3)


def _settled(turned: Tensor, n_on: Tensor, score: Tensor, contacts: Contacts, parents: Tensor) -> Tensor:
    """(rotor,) steps chosen when each rotor has also seen where its neighbours point.

    Rotors take turns by the digits of their numbers, so that no two neighbours turn at once in every round.
    """
    best = score.argmax(1)
    i, j, _ = pairs_within(turned[:, 0], turned[:, 0], 2 * _REACH_ANGSTROM)
    apart = (i != j) & contacts.is_apart(parents[i], parents[j], torch.full_like(i, 2))
    i, j = i[apart], j[apart]
    for digit in range(len(parents).bit_length()):
        for value in (0, 1):
            against = torch.zeros_like(score)
            for k in range(3):  # hydrogens of the neighbour
                has = n_on[j] > k
                other = turned[j[has], (best[j[has]] + k * (_STEPS // 3)) % _STEPS]
                gap = (turned[i[has]] - other[:, None]).norm(dim=-1)
                overlap = (2 * SMALL_HYDROGEN_ANGSTROM - gap).clamp(min=0)
                against.index_add_(0, i[has], _CLASH_WEIGHT * overlap)
            against = torch.where((n_on == 3)[:, None], _together(against), against)
            is_mine = (torch.arange(len(parents)) >> digit) % 2 == value
            best = torch.where(is_mine, (score - against).argmax(1), best)
    return best
