"""Clashes: atoms, hydrogens included, that stand closer than their radii allow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.bonds import Separation, bonds
from kernels.models.contacts import RADII_ANGSTROM, Contacts
from kernels.models.hydrogen_rotors import turn_rotors
from kernels.models.hydrogens import Hydrogens, place_hydrogens
from kernels.models.mates import Mates, neighbourhood
from kernels.models.neighbours import pairs_within

_LEAST_OVERLAP_ANGSTROM = 0.4
_REACH_ANGSTROM = 6.0
"""Of a model's surroundings: of two atoms that clash, and the hydrogens on them."""
_WATER = {"HOH", "DOD", "WAT", "H2O", "TIP", "SOL"}


@dataclass(frozen=True)
class Clashes:
    """Pairs of atoms that overlap by 0.4 Å or more, the worst first."""

    atom: Tensor
    """(clash, 2) int64 indices of the atoms, or of those that carry the hydrogens."""
    is_hydrogen: Tensor
    """(clash, 2) whether it is a hydrogen of theirs that clashes."""
    overlap_angstrom: Tensor
    """(clash,)"""
    n_atoms: int
    """Hydrogens included, waters not."""

    @property
    def score(self) -> float:
        """Clashes per 1,000 atoms."""
        return 1000 * len(self.overlap_angstrom) / max(1, self.n_atoms)

    def per_residue(self, model: AtomicModel) -> Tensor:
        """(residue,) clashes that each residue of the model takes part in; one within a residue counts once."""
        a, b = model.residue[self.atom].unbind(1)
        count = torch.bincount(a, minlength=model.n_residues) + torch.bincount(b, minlength=model.n_residues)
        return count - torch.bincount(a[a == b], minlength=model.n_residues)


def find_clashes(model: AtomicModel, mates: Mates | None = None) -> Clashes:
    """Clashes of a model as MolProbity counts them, with its mates as well where it has any.

    Hydrogens of the file are left out and placed anew, since programs differ in where they put them; hydroxyls,
    thiols and ammonium groups turn to where they bind best. Amides and imidazoles are judged as they stand, not
    flipped. Atoms up to three bonds apart, four where a hydrogen is one of them, do not clash; a donor's hydrogen
    may reach 0.6 Å into an acceptor, 0.8 Å in a salt bridge. Waters are left out, and so are hydrogens of ligands.

    Source
    ------
    Word et al., J. Mol. Biol. 1999, 285:1711; Williams et al., Protein Sci. 2018, 27:293.
    """
    if mates is None or len(mates) == 1:
        return _clashes(model, len(model))
    around = neighbourhood(model, mates, _REACH_ANGSTROM)
    found = _clashes(around.model, len(model))
    is_own = found.atom < len(model)
    pair = around.atom[found.atom]
    # what clashes with a mate does so once more the other way round, from the mate before to the model
    key = torch.cat([pair.sort(dim=1).values, found.is_hydrogen.sort(dim=1).values], dim=1)
    among = torch.nonzero(is_own.sum(1) == 1).squeeze(1)
    number = torch.unique(key[among], dim=0, return_inverse=True)[1]
    order = number.argsort(stable=True)
    count = torch.bincount(number, minlength=1)
    rank = torch.arange(len(order)) - (count.cumsum(0) - count)[number[order]]
    kept = is_own.all(1)
    kept[among[order[rank % 2 == 0]]] = True
    return Clashes(pair[kept], found.is_hydrogen[kept], found.overlap_angstrom[kept], found.n_atoms)


def _clashes(model: AtomicModel, n_counted: int) -> Clashes:
    """Clashes of all atoms; only the first ones are counted as its size."""
    is_counted = torch.tensor(
        [e in RADII_ANGSTROM and model.residues[r].name not in _WATER for e, r in _atoms(model)], dtype=torch.bool
    )
    index = torch.nonzero(is_counted).squeeze(1)
    heavy = model.take(index)
    if len(heavy) == 0:
        none = torch.zeros(0, 2, dtype=torch.int64)
        return Clashes(none, none.bool(), torch.zeros(0, dtype=torch.float64), 0)
    separation = Separation(bonds(heavy), len(heavy))
    contacts = Contacts(heavy, separation)
    hydrogens = place_hydrogens(heavy, separation.partners)
    hydrogens = turn_rotors(heavy.coordinates_angstrom, hydrogens, contacts)
    parent, is_hydrogen, pair, overlap = _overlaps(heavy, hydrogens, contacts)
    worst = overlap.argsort(descending=True)
    pair, overlap = pair[worst], overlap[worst]
    return Clashes(index[parent[pair]], is_hydrogen[pair], overlap, int((index[parent] < n_counted).sum()))


def _atoms(model: AtomicModel) -> list[tuple[str, int]]:
    return list(zip(model.elements, model.residue.tolist()))


def _overlaps(heavy: AtomicModel, hydrogens: Hydrogens, contacts: Contacts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all atoms: (atom,) parent, (atom,) is hydrogen; of what clashes: (clash, 2) atoms, (clash,) overlap."""
    n = len(heavy)
    place = torch.cat([heavy.coordinates_angstrom, hydrogens.coordinates_angstrom])
    parent = torch.cat([torch.arange(n), hydrogens.parent])
    radius = torch.cat([contacts.radius, contacts.hydrogen_radius(hydrogens.parent, hydrogens.is_flat)])
    is_hydrogen = torch.arange(len(place)) >= n
    i, j, distance = pairs_within(place, place, 2 * float(radius.max()) - _LEAST_OVERLAP_ANGSTROM)
    overlap = radius[i] + radius[j] - distance
    kept = (i < j) & (overlap >= _LEAST_OVERLAP_ANGSTROM)
    i, j, overlap = i[kept], j[kept], overlap[kept]
    is_apart = contacts.is_apart(parent[i], parent[j], is_hydrogen[i].long() + is_hydrogen[j].long())
    # hydrogens come after all others, so the donor of a pair with one of them is the second
    is_mixed = is_hydrogen[j] & ~is_hydrogen[i]
    overlap = overlap - torch.where(is_mixed, contacts.allowed_overlap(parent[j], parent[i]), 0.0)
    kept = is_apart & (overlap >= _LEAST_OVERLAP_ANGSTROM)
    return parent, is_hydrogen, torch.stack([i, j], dim=1)[kept], overlap[kept]
