"""Covalent bonds of a model, and how many of them lie between two atoms."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.neighbours import nearest_first, pairs_within

_COVALENT_ANGSTROM = {
    "H": 0.32, "B": 0.84, "C": 0.77, "N": 0.75, "O": 0.73, "F": 0.71, "P": 1.06, "S": 1.02, "CL": 0.99, "SE": 1.16,
    "BR": 1.14, "I": 1.33,
}  # fmt: skip
"""Radii of atoms that bind covalently; metals coordinate, and have none."""
_SLACK_ANGSTROM = 0.35
_LONGEST_ANGSTROM = 3.0
_MOST_BONDS = 6
_DISULFIDE_ANGSTROM = 2.5


def bonds(model: AtomicModel) -> Tensor:
    """(bond, 2) indices of atoms that are bound, the smaller first.

    Within a residue distance tells; between residues the polymer's own links, disulfides, and what binds a residue
    that is neither amino acid nor nucleotide. So two residues that run into each other are not made one.
    """
    radius = torch.tensor([_COVALENT_ANGSTROM.get(e, -10.0) for e in model.elements], dtype=torch.float64)
    place = model.coordinates_angstrom
    i, j, distance = pairs_within(place, place, _LONGEST_ANGSTROM)
    upper = i < j
    i, j, distance = i[upper], j[upper], distance[upper]
    is_near = distance < radius[i] + radius[j] + _SLACK_ANGSTROM
    a, b = model.residue[i], model.residue[j]
    is_other = (model.amino_acid < 0) & (model.base < 0)
    sulfur = torch.tensor([name == "SG" for name in model.names], dtype=torch.bool)
    is_disulfide = sulfur[i] & sulfur[j] & (distance < _DISULFIDE_ANGSTROM)
    is_tight = distance < radius[i] + radius[j] + _SLACK_ANGSTROM / 2
    kept = is_near & ((a == b) | ((is_other[a] | is_other[b]) & is_tight)) | is_disulfide
    linked = torch.nonzero(model.is_linked()).squeeze(1)
    found = [torch.stack([i[kept], j[kept]], dim=1)]
    for end, start in (("C", "N"), ("O3'", "P")):
        pairs = torch.stack([model.atom(end)[linked, 0], model.atom(start)[linked + 1, 0]], dim=1)
        found.append(pairs[(pairs >= 0).all(1)])
    return torch.unique(torch.cat(found).sort(dim=1).values, dim=0)


class Separation:
    """How many bonds lie between atoms, up to three."""

    def __init__(self, bond: Tensor, n_atoms: int) -> None:
        """(bond, 2) indices as `bonds` gives them."""
        self._n = n_atoms
        self.partners = _partners(bond, n_atoms)
        padded = torch.cat([self.partners, self.partners.new_full((1, self.partners.shape[1]), -1)])
        atoms = torch.arange(n_atoms)
        reached = atoms[:, None]
        keys, depths = [self._key(atoms, atoms)], [torch.zeros(n_atoms, dtype=torch.int64)]
        for depth in (1, 2, 3):
            reached = padded[reached].flatten(1)
            pairs = torch.nonzero(reached >= 0)
            found = torch.unique(self._key(pairs[:, 0], reached[pairs[:, 0], pairs[:, 1]]))
            keys.append(found)
            depths.append(torch.full_like(found, depth))
        key, depth_of = torch.cat(keys), torch.cat(depths)
        order = (key * 4 + depth_of).argsort()
        key, depth_of = key[order], depth_of[order]
        is_first = torch.ones_like(key, dtype=torch.bool)
        is_first[1:] = key[1:] != key[:-1]
        self._keys, self._depths = key[is_first], depth_of[is_first]

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """(...) bonds between atoms of equal shapes; 4 where there are more than three, or no way at all."""
        key = self._key(first, second)
        at = torch.searchsorted(self._keys, key).clamp(max=len(self._keys) - 1)
        return torch.where(self._keys[at] == key, self._depths[at], 4)

    def _key(self, first: Tensor, second: Tensor) -> Tensor:
        return first * self._n + second


def _partners(bond: Tensor, n_atoms: int) -> Tensor:
    """(atom, 6) bound atoms, -1 where there are fewer."""
    both = torch.cat([bond, bond.flip(1)])
    both = both[both[:, 0].argsort(stable=True)]
    partners, _ = nearest_first(both[:, 0], both[:, 1], torch.zeros(len(both)), n_atoms)
    partners = partners[:, :_MOST_BONDS]
    return torch.nn.functional.pad(partners, (0, _MOST_BONDS - partners.shape[1]), value=-1)
