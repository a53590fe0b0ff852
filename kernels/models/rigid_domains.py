"""What moves as one body between two states of a molecule, without knowing beforehand what that is.

The surroundings of every residue tell one motion each; the motion that most residues follow is a domain, and so on
with the others. What follows none of them is flexible.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.neighbours import pairs_within, pieces
from kernels.models.superposition import superposition

FEWEST_OF_DOMAIN = 20
"""Residues of the smallest domain, as DynDom takes them."""
_N_NEAR = 12
"""Residues whose motion is told together: about one turn of a helix and what it packs against."""
_LEAST_TOLERANCE_ANGSTROM, _MOST_TOLERANCE_ANGSTROM = 1.0, 2.0
_TOLERANCE_OF_ERROR = 2.0
"""Of the root mean square distance of a rigid part's residues: 99 % of them lie within, where errors are normal."""
_MOST_CANDIDATES, _N_REFITTED = 1500, 24
_N_FITS = 12
_TOUCHING_ANGSTROM = 8.0
"""Between the places of residues of one piece of a domain."""
_FEWEST_OF_PIECE = 6
"""Residues in a row or beside each other that can follow a motion by chance: shorter stretches of it are left out."""
_MERGED_SHARE = 0.95
"""Of two domains together that one motion explains: they are one."""
_CHUNK = 2_000_000
"""Distances in memory at a time."""


@dataclass(frozen=True, eq=False)
class RigidDomains:
    """Domains, the largest first, and how each moves from the first state to the second one."""

    domain: Tensor
    """(residue,) int64, -1 where a residue is flexible."""
    rotation: Tensor
    """(domain, 3, 3) float64; places as rows times it, plus the shift, are those of the second state."""
    shift: Tensor
    """(domain, 1, 3) Å"""
    tolerance_angstrom: float
    """Within which residues lie that follow a motion."""
    error_angstrom: float
    """Root mean square distance of residues after their surroundings were laid on each other, the median."""

    def __len__(self) -> int:
        return len(self.rotation)

    def moved(self, places: Tensor, domain: int = 0) -> Tensor:
        """Places (..., 3) of the first state as they lie where one domain is in the second one."""
        return places @ self.rotation[domain] + self.shift[domain]

    def returned(self, places: Tensor, domain: int = 0) -> Tensor:
        """Places (..., 3) of the second state in the frame of the first one, one domain laid on itself."""
        return (places - self.shift[domain]) @ self.rotation[domain].T


def rigid_domains(
    first: Tensor, second: Tensor, tolerance_angstrom: float | None = None, fewest: int = FEWEST_OF_DOMAIN
) -> RigidDomains:
    """Domains between two states.

    Parameters
    ----------
    first, second
        (residue, 3) places of the same residues in two states, finite, in Å; their frames may differ.
    tolerance_angstrom
        Within which residues lie that follow a motion; None for twice what residues differ by among their neighbours,
        between 1 and 2 Å.

    Raises
    ------
    ValueError
        For fewer residues than a domain has, or where none is found.

    Memory: 1 kB a residue and 100 MB.

    Source
    ------
    Domains are told as in DynDom (Hayward & Berendsen, Proteins 1998, 30:144) by the motions of short parts, which are
    the surroundings of each residue here, so that domains may be of several chains; they are gathered by consensus as
    in Fischler & Bolles, Commun. ACM 1981, 24:381, but with all candidates in place of random ones.
    """
    if len(first) < fewest:
        raise ValueError(f"{len(first)} residues in both states; expected {fewest} at least, the fewest of a domain")
    first, second = first.double(), second.double()
    rotation, shift, error = _local_motions(first, second)
    if tolerance_angstrom is None:
        tolerance_angstrom = min(max(_TOLERANCE_OF_ERROR * error, _LEAST_TOLERANCE_ANGSTROM), _MOST_TOLERANCE_ANGSTROM)
    search = _Search(first, second, tolerance_angstrom, fewest)
    domain = search.settled(search.merged(search.gathered(rotation, shift)))
    if int(domain.max()) < 0:
        raise ValueError(
            f"no {fewest} residues keep their distances within {tolerance_angstrom:.1f} Å from one state to the other;"
            " expected models of the same molecule; give a wider tolerance"
        )
    return RigidDomains(domain, *search.fitted(domain), tolerance_angstrom, error)


def _local_motions(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, float]:
    """Motions of the surroundings of some residues, evenly spread, and the median of what is left of them."""
    n = len(first)
    step = -(-n // _MOST_CANDIDATES)
    rows = torch.arange(0, n, step, device=first.device)
    near = [
        torch.maximum(torch.cdist(first[part], first), torch.cdist(second[part], second))
        .topk(min(_N_NEAR, n), largest=False)
        .indices
        for part in rows.split(max(1, _CHUNK // n))
    ]
    moving, fixed = first[torch.cat(near)], second[torch.cat(near)]
    rotation, shift = superposition(moving, fixed, moving.new_ones(moving.shape[:-1]))
    # three coordinates of each residue, less the six of a motion
    spread = (moving @ rotation + shift - fixed).square().sum((-1, -2)) / (moving.shape[1] - 2)
    return rotation, shift, float(spread.sqrt().median())


@dataclass(frozen=True, eq=False)
class _Search:
    """Two states, and what a domain has to be."""

    first: Tensor
    second: Tensor
    tolerance: float
    fewest: int

    def off(self, rotation: Tensor, shift: Tensor) -> Tensor:
        """(motion, residue) distances to where motions bring the residues."""
        return (self.first @ rotation + shift - self.second).norm(dim=-1)

    def touching(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of some residues, as indices into these, that are beside each other in the first state."""
        i, j, _ = pairs_within(self.first[rows], self.first[rows], _TOUCHING_ANGSTROM)
        return i[i < j], j[i < j]

    def without_crumbs(self, inside: Tensor) -> Tensor:
        """A mask of residues less its small pieces."""
        rows = torch.nonzero(inside).squeeze(1)
        piece = pieces(*self.touching(rows), len(rows))
        kept = torch.zeros_like(inside)
        kept[rows[torch.bincount(piece, minlength=len(rows))[piece] >= _FEWEST_OF_PIECE]] = True
        return kept

    def gathered(self, rotation: Tensor, shift: Tensor) -> Tensor:
        """(residue,) domains, the one of most residues first, and again without these."""
        domain = torch.full((len(self.first),), -1, device=self.first.device)
        count = 0
        while True:
            found = self.largest(rotation, shift, domain < 0)
            if int(found.sum()) < self.fewest:
                return domain
            domain[found] = count
            count += 1

    def largest(self, rotation: Tensor, shift: Tensor, free: Tensor) -> Tensor:
        """Free residues that follow one motion, the most of them."""
        size = max(1, _CHUNK // (3 * len(self.first)))
        votes = torch.cat(
            [((self.off(r, t) < self.tolerance) & free).sum(1) for r, t in zip(rotation.split(size), shift.split(size))]
        )
        best = votes.argsort(descending=True, stable=True)[:_N_REFITTED]
        rotation, shift = rotation[best], shift[best]
        for _ in range(_N_FITS):
            follows = (self.off(rotation, shift) < self.tolerance) & free
            enough = follows.sum(1) >= 4
            if not enough.any():
                return torch.zeros_like(free)
            follows = follows[enough]
            rotation, shift = superposition(self.first, self.second, follows.double())
        kept = [self.without_crumbs(one) for one in (self.off(rotation, shift) < self.tolerance) & free]
        return max(kept, key=lambda one: int(one.sum()))

    def fitted(self, domain: Tensor) -> tuple[Tensor, Tensor]:
        """The motion of each domain."""
        own = torch.arange(int(domain.max()) + 1, device=domain.device)[:, None] == domain
        return superposition(self.first, self.second, own.double())

    def merged(self, domain: Tensor) -> Tensor:
        """Domains of which two are one wherever one motion explains both; the largest first."""
        n = int(domain.max()) + 1
        for a in range(n):
            for b in range(a + 1, n):
                both = (domain == a) | (domain == b)
                if (domain == a).any() and (domain == b).any() and self._is_one(both):
                    domain = torch.where(both, a, domain)
        return _by_size(domain, self.fewest)

    def _is_one(self, both: Tensor) -> bool:
        off = self.off(*superposition(self.first, self.second, both.double()))
        return float((off[both] < self.tolerance).double().mean()) >= _MERGED_SHARE

    def settled(self, domain: Tensor) -> Tensor:
        """Every residue in the domain that its neighbours follow best of those it follows, until nothing changes."""
        every = torch.arange(len(domain), device=domain.device)
        i, j = self.touching(every)
        for _ in range(_N_FITS):
            if int(domain.max()) < 0:
                return domain
            off = self.off(*self.fitted(domain))
            square = off.square().clamp(max=(2 * self.tolerance) ** 2)
            total, count = square.clone(), torch.ones_like(square[0])
            for end, other in ((i, j), (j, i)):
                total.index_add_(1, end, square[:, other])
                count.index_add_(0, end, torch.ones_like(end, dtype=count.dtype))
            mean, best = torch.where(off < self.tolerance, total / count, torch.inf).min(0)
            found = torch.where(mean.isfinite(), best, -1)
            for one in range(len(off)):
                own = found == one
                found[own & ~self.without_crumbs(own)] = -1
            found = self.merged(_by_size(found, self.fewest))
            if torch.equal(found, domain):
                return domain
            domain = found
        return domain


def _by_size(domain: Tensor, fewest: int) -> Tensor:
    """Domains numbered anew, the largest first, without those that are too small."""
    count = torch.bincount(domain[domain >= 0], minlength=1)
    order = count.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank[count < fewest] = -1
    return torch.where(domain >= 0, rank[domain.clamp(min=0)], -1)
