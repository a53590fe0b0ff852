"""Hydrogens that ride on the atoms that carry them, and how near they let other atoms come."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.bonds import Separation, bonds
from kernels.models.contacts import RADII_ANGSTROM, Contacts
from kernels.models.hydrogen_rotors import turn_rotors
from kernels.models.hydrogens import place_hydrogens
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within

_TOLERATED_ANGSTROM = 0.25
"""Overlap that costs nothing; from 0.4 Å on it counts as a clash."""
_LIST_REACH_ANGSTROM = 0.8
"""Pairs this much further apart than they need room are listed, since atoms move between lists."""


@dataclass(frozen=True, eq=False)
class Meetings:
    """Pairs of atoms or hydrogens, one of them a hydrogen at least, that are near each other."""

    first: Tensor
    """(meeting,) int64 row of atoms followed by hydrogens."""
    second: Tensor
    """(meeting,) int64, of the copy that ``operation`` makes."""
    operation: Tensor
    """(meeting,) int64, 0 where the second is no copy."""
    room_angstrom: Tensor
    """(meeting,) that they want between them."""
    share: Tensor
    """(meeting,) one half where a meeting with a copy is listed from both sides."""

    def take(self, index: Tensor) -> Meetings:
        """Some of them."""
        return Meetings(
            self.first[index], self.second[index], self.operation[index], self.room_angstrom[index], self.share[index]
        )


@dataclass(frozen=True, eq=False)
class RidingHydrogens:
    """Hydrogens as they stand in the frames of the atoms around them; those frames hardly change their shape."""

    frame: Tensor
    """(hydrogen, 3) int64 the atom that carries it, and two near it."""
    share: Tensor
    """(hydrogen, 3) of the way to both and of their cross product."""
    contacts: Contacts
    radius: Tensor
    """(atom + hydrogen,) Å"""

    @staticmethod
    def of(model: AtomicModel) -> RidingHydrogens:
        """Hydrogens of a model of heavy atoms, placed where bonds and neighbours want them.

        Raises
        ------
        ValueError
            For elements whose radius is not known.
        """
        unknown = {element for element in model.elements if element not in RADII_ANGSTROM}
        if unknown:
            raise ValueError(
                f"found atoms of {', '.join(sorted(unknown))}, expected those of proteins and nucleic acids"
            )
        separation = Separation(bonds(model), len(model))
        contacts = Contacts(model, separation)
        placed = place_hydrogens(model, separation.partners)
        placed = turn_rotors(model.coordinates_angstrom, placed, contacts)
        frame = _frames(separation.partners, placed.parent)
        known = (frame >= 0).all(1)
        frame, parent = frame[known], placed.parent[known]
        own = placed.coordinates_angstrom[known] - model.coordinates_angstrom[parent]
        axes = _axes(model.coordinates_angstrom, frame)
        share = (torch.linalg.pinv(axes.transpose(1, 2)) @ own[..., None]).squeeze(-1)
        of_hydrogens = contacts.hydrogen_radius(parent, placed.is_flat[known])
        return RidingHydrogens(frame, share, contacts, torch.cat([contacts.radius, of_hydrogens]))

    @property
    def carrier(self) -> Tensor:
        """(atom + hydrogen,) each atom itself, and the atom that each hydrogen is on."""
        return torch.cat([torch.arange(len(self.radius) - len(self.frame)), self.frame[:, 0]])

    def places(self, place: Tensor) -> Tensor:
        """(atom + hydrogen, 3) atoms at (atom, 3), and their hydrogens; with gradients."""
        along = (self.share[..., None] * _axes(place, self.frame)).sum(1)
        return torch.cat([place, place[self.frame[:, 0]] + along])

    def meetings(self, place: Tensor, mates: Mates | None = None) -> Meetings:
        """Who is near whom where the atoms stand at (atom, 3), copies of a symmetric map included."""
        everywhere, carrier, n = self.places(place), self.carrier, len(place)
        reach = 2 * float(self.radius.max()) + _LIST_REACH_ANGSTROM
        i, j, distance = pairs_within(everywhere, everywhere, reach)
        kept = (i < j) & (j >= n)  # hydrogens come last
        i, j, distance = i[kept], j[kept], distance[kept]
        apart = self.contacts.is_apart(carrier[i], carrier[j], (i >= n).long() + 1)
        found = [(i[apart], j[apart], torch.zeros_like(i[apart]), distance[apart])]
        if mates is not None and len(mates) > 1:
            copies = mates.of(everywhere)[1:].flatten(0, 1)
            i, row, distance = pairs_within(everywhere, copies, reach)
            j, operation = row % len(everywhere), row // len(everywhere) + 1
            kept = (i >= n) | (j >= n)
            found.append((i[kept], j[kept], operation[kept], distance[kept]))
        i, j, operation, distance = (torch.cat(parts) for parts in zip(*found))
        room = self.radius[i] + self.radius[j] - _TOLERATED_ANGSTROM - self._allowed(i, j, n)
        near = distance < room + _LIST_REACH_ANGSTROM
        share = torch.where(operation > 0, 0.5, 1.0).double()
        return Meetings(i[near], j[near], operation[near], room[near], share[near])

    def _allowed(self, i: Tensor, j: Tensor, n: int) -> Tensor:
        """(meeting,) how far a hydrogen bond lets a hydrogen into an atom; hydrogens do not bind each other."""
        donor, acceptor = torch.where(i >= n, i, j), torch.where(i >= n, j, i)
        is_mixed = (i >= n) != (j >= n)
        carrier = self.carrier
        return torch.where(is_mixed, self.contacts.allowed_overlap(carrier[donor], carrier[acceptor]), 0.0)


def _frames(partners: Tensor, parent: Tensor) -> Tensor:
    """(hydrogen, 3) the parent, an atom bound to it, and another one bound to either; -1 where there is none."""
    padded = torch.cat([partners, partners.new_full((1, partners.shape[1]), -1)])
    first, second = partners[parent, 0], partners[parent, 1]
    beyond = padded[first]
    is_other = (beyond >= 0) & (beyond != parent[:, None])
    third = beyond.gather(1, is_other.int().argmax(1, keepdim=True)).squeeze(1)
    third = torch.where(is_other.any(1), third, -1)
    return torch.stack([parent, first, torch.where(second >= 0, second, third)], 1)


def _axes(place: Tensor, frame: Tensor) -> Tensor:
    """(hydrogen, 3, 3) from the parent to both atoms of its frame, and across."""
    parent, first, second = place[frame].unbind(1)
    first, second = first - parent, second - parent
    return torch.stack([first, second, torch.linalg.cross(first, second)], 1)
