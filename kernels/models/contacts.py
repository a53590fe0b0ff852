"""Which atoms may touch: radii of van der Waals, donors and acceptors of hydrogen bonds."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.bonds import Separation
from kernels.models.hydrogens import hydrogen_counts

RADII_ANGSTROM = {
    "C": 1.70, "N": 1.55, "O": 1.40, "S": 1.80, "P": 1.80, "F": 1.30, "CL": 1.77, "BR": 1.95, "I": 2.10, "SE": 1.90,
}  # fmt: skip
"""Source: Word et al., J. Mol. Biol. 1999, 285:1711. Metals coordinate; they do not clash."""
CARBONYL_ANGSTROM = 1.65
HYDROGEN_ANGSTROM = 1.22
SMALL_HYDROGEN_ANGSTROM = 1.05
"""On nitrogen, oxygen, sulfur, and on planar carbon."""
_HYDROGEN_BOND_ANGSTROM = 0.6
_SALT_BRIDGE_ANGSTROM = 0.8
"""How far a donor's hydrogen may reach into an acceptor before the overlap counts."""
_CATIONS = {("LYS", "NZ"), ("ARG", "NE"), ("ARG", "NH1"), ("ARG", "NH2")}
_ANIONS = {("ASP", "OD1"), ("ASP", "OD2"), ("GLU", "OE1"), ("GLU", "OE2")}
_ANIONIC_NAMES = {"OXT", "OP1", "OP2", "O1P", "O2P"}


class Contacts:
    """How near the atoms of a model, and the hydrogens that they carry, may come to others.

    Parameters
    ----------
    heavy
        A model of the elements in `RADII_ANGSTROM` alone.
    """

    def __init__(self, heavy: AtomicModel, separation: Separation) -> None:
        self.separation = separation
        n_bound = (separation.partners >= 0).sum(1)
        counts = hydrogen_counts(heavy)
        names = [(heavy.residues[r].name, name) for name, r in zip(heavy.names, heavy.residue.tolist())]
        self.radius = torch.tensor([RADII_ANGSTROM[e] for e in heavy.elements], dtype=torch.float64)
        """(atom,)"""
        is_carbonyl = torch.tensor([name == "C" for name in heavy.names]) & (heavy.amino_acid >= 0)[heavy.residue]
        self.radius[is_carbonyl] = CARBONYL_ANGSTROM
        element = {e: torch.tensor([e == found for found in heavy.elements]) for e in "CNOS"}
        self._is_polar = ~element["C"]
        self._is_acceptor = element["O"] | element["S"] | (element["N"] & (counts == 0) & (n_bound <= 2))
        self._is_cation = torch.tensor([n in _CATIONS for n in names]) | (element["N"] & (counts == 3))
        self._is_anion = torch.tensor([n in _ANIONS or n[1] in _ANIONIC_NAMES for n in names])

    def hydrogen_radius(self, parent: Tensor, is_flat: Tensor) -> Tensor:
        """(hydrogen,) from the atom that carries each, and whether that is a planar carbon."""
        is_small = self._is_polar[parent] | is_flat
        return torch.where(is_small, SMALL_HYDROGEN_ANGSTROM, HYDROGEN_ANGSTROM).double()

    def allowed_overlap(self, donor: Tensor, acceptor: Tensor) -> Tensor:
        """(...) how far a hydrogen of one atom may reach into another atom, as a hydrogen bond does."""
        is_bond = self._is_polar[donor] & self._is_acceptor[acceptor]
        is_charged = self._is_cation[donor] & self._is_anion[acceptor]
        reach = torch.where(is_charged, _SALT_BRIDGE_ANGSTROM, _HYDROGEN_BOND_ANGSTROM)
        return torch.where(is_bond, reach, 0.0).double()

    def is_apart(self, first: Tensor, second: Tensor, n_hydrogens: Tensor) -> Tensor:
        """(...) whether atoms, or hydrogens that they carry, are more bonds apart than bond geometry reaches.

        Three bonds, or four where one of both is a hydrogen.

        Parameters
        ----------
        first, second
            The atoms, or those that carry the hydrogens.
        n_hydrogens
            How many of both are hydrogens.
        """
        return self.separation.between(first, second) + n_hydrogens > torch.where(n_hydrogens > 0, 4, 3)
