"""Proteins and nucleic acids as chains: alphabets, and how far it is from one residue to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from kernels.models.residues import AMINO_ACID_LETTERS, BASES

PolymerName = Literal["protein", "nucleic acid"]


@dataclass(frozen=True)
class Polymer:
    """A kind of chain, told by one atom of each residue: Cα of a protein, C4' of a nucleic acid."""

    name: PolymerName
    letters: str
    """The order of its types."""
    stands_for: dict[str, str] = field(hash=False)
    """Letters that are read as another."""
    ambiguous: str
    """Letters that leave the type open."""
    per_cent: tuple[float, ...]
    """How common each type is."""
    step_angstrom: float
    """From one residue to the next."""
    rare_step_angstrom: float
    """The same of the few that are shorter."""
    rare_share: float
    step_spread_angstrom: float
    """Standard deviation of the step itself."""
    longest_step_angstrom: float
    shortest_link_angstrom: float
    longest_link_angstrom: float
    """Of linked candidates, with their errors."""
    farthest_apart_angstrom: tuple[float, ...]
    """Ends with 1, 2 or 3 residues missing between them, with room for errors; the first is not used."""
    over_one_angstrom: tuple[float, float, float, float]
    """Over one residue between: shortest, mean, standard deviation, longest."""
    crowded_angstrom: float
    """Closer than any two residues that are not linked."""
    hint_weights: tuple[float, float, float, float]
    """Of the directions that a link is told by: those to and from the neighbours, and two of the backbone, which repeat
    in part what the first say."""
    between_mean_angstrom: tuple[float, ...]
    """Mean distance by how far two residues lie apart in sequence; hardly more beyond."""
    between_spread_angstrom: tuple[float, ...]
    """Standard deviation of the same."""

    @property
    def background(self) -> tuple[float, ...]:
        """Share of each type."""
        return tuple(p / sum(self.per_cent) for p in self.per_cent)


PROTEIN = Polymer(
    name="protein",
    letters=AMINO_ACID_LETTERS,
    stands_for={"U": "C", "O": "K"},
    ambiguous="XBZJ",
    # composition of UniProtKB/Swiss-Prot, release statistics
    per_cent=(
        8.25, 5.53, 4.06, 5.46, 1.38, 3.93, 6.72, 7.07, 2.27, 5.91, 9.65, 5.80, 2.41, 3.86, 4.74, 6.65, 5.36, 1.10,
        2.92, 6.86,
    ),
    step_angstrom=3.80,
    rare_step_angstrom=2.95,
    # cis, of all peptides: Jabs, Weiss & Hilgenfeld, J. Mol. Biol. 1999, 286:291 (5 % before proline)
    rare_share=0.005,
    step_spread_angstrom=0.0,
    longest_step_angstrom=3.80,
    shortest_link_angstrom=2.0,
    longest_link_angstrom=6.5,
    farthest_apart_angstrom=(math.nan, 9.5, 13.0, 17.0),
    # from tight turns to straight strands
    over_one_angstrom=(5.0, 6.2, 0.6, 7.3),
    crowded_angstrom=2.8,
    hint_weights=(1.0, 1.0, 0.5, 0.5),
    # measured on 80 structures
    between_mean_angstrom=(
        0.0, 3.81, 6.02, 7.49, 9.16, 11.04, 12.54, 13.76, 15.00, 16.14, 17.06, 17.85, 18.58, 19.19, 19.68, 20.09, 20.43,
        20.69, 20.88, 21.02, 21.11,
    ),
    between_spread_angstrom=(
        0.1, 0.06, 0.63, 2.03, 2.82, 3.24, 3.82, 4.47, 4.96, 5.39, 5.82, 6.19, 6.51, 6.80, 7.05, 7.26, 7.46, 7.64, 7.79,
        7.94, 8.08,
    ),
)  # fmt: skip

NUCLEIC_ACID = Polymer(
    name="nucleic acid",
    letters="".join(BASES),
    stands_for={"T": "U", "I": "G"},
    ambiguous="NXRYSWKMBDHV",
    per_cent=(25.0, 25.0, 25.0, 25.0),
    # this and the following: ten RNA structures of 1,010 nucleotides, 986 steps
    step_angstrom=6.13,
    rare_step_angstrom=5.0,
    rare_share=0.05,
    step_spread_angstrom=0.25,
    longest_step_angstrom=7.0,
    shortest_link_angstrom=3.5,
    longest_link_angstrom=8.5,
    farthest_apart_angstrom=(math.nan, 14.5, 20.0, 25.0),
    over_one_angstrom=(7.0, 11.36, 1.14, 12.8),
    crowded_angstrom=3.6,
    # the network tells where the phosphate is, which lies on the way to the nucleotide before
    hint_weights=(1.0, 1.0, 0.0, 0.5),
    between_mean_angstrom=(
        0.0, 6.13, 11.36, 15.73, 19.18, 21.81, 23.74, 25.16, 26.31, 27.34, 28.42, 29.62, 30.90, 32.23, 33.51, 34.68,
        35.54, 36.21, 36.78, 37.24, 37.67,
    ),
    between_spread_angstrom=(
        0.1, 0.38, 1.14, 1.93, 2.71, 3.49, 4.33, 5.26, 6.19, 7.10, 7.95, 8.82, 9.69, 10.56, 11.41, 12.19, 12.88, 13.41,
        13.81, 14.13, 14.46,
    ),
)  # fmt: skip
