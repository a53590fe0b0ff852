"""Sequences as they are given, checked and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from kernels.models.polymers import NUCLEIC_ACID, PROTEIN, Polymer
from kernels.models.threading import UNKNOWN

Kind = Literal["protein", "rna", "dna"]
LONGEST_PER_CANDIDATE = 8
"""Residues of a sequence for each that was detected; beyond it the sequence belongs to something else."""
FEWEST_NUCLEOTIDES = 8
"""A shorter sequence of nothing but A, C, G, T, U and N is taken for a peptide unless it is said to be none."""


@dataclass(frozen=True)
class Target:
    """A sequence that the map may hold."""

    letters: str
    copies: int | None
    """How often; None where that is not known."""
    kind: Kind = "protein"

    @property
    def polymer(self) -> Polymer:
        """What its letters stand for."""
        return PROTEIN if self.kind == "protein" else NUCLEIC_ACID

    @property
    def types(self) -> Tensor:
        """(position,) int64 index into the polymer's letters, `threading.UNKNOWN` where the letter leaves it open."""
        polymer = self.polymer
        letters = (polymer.stands_for.get(a, a) for a in self.letters)
        return torch.tensor([UNKNOWN if a in polymer.ambiguous else polymer.letters.index(a) for a in letters])


def told_kind(given: str) -> tuple[Kind, str]:
    """Whether a sequence is one of a protein, of RNA or of DNA; and its letters, without blanks and a final ``*``.

    ``protein:``, ``rna:`` or ``dna:`` in front says so. Without it, eight or more letters of nothing but A, C, G, T, U
    and N are a nucleic acid, DNA where there is a T; everything else is a protein.

    Raises
    ------
    ValueError
        For another word in front.
    """
    word, mark, rest = given.rpartition(":")
    letters = "".join(rest.split()).upper().removesuffix("*")
    if mark:
        said = word.strip().lower()
        for kind in get_args(Kind):
            if said == kind:
                return kind, letters
        raise ValueError(f"a sequence is said to be {word.strip()!r}; expected {', '.join(get_args(Kind))}, or nothing")
    if len(letters) >= FEWEST_NUCLEOTIDES and set(letters) <= set("ACGTUN"):
        return ("dna" if "T" in letters else "rna"), letters
    return "protein", letters


def require_letters(sequences: Sequence[str]) -> None:
    """Raise ValueError where a sequence is empty, has letters that stand for nothing, or is said to be unknown."""
    for index, given in enumerate(sequences):
        kind, letters = told_kind(given)
        _check_letters(letters, kind, index + 1)


def sequences_of(
    polymer: Polymer, sequences: Sequence[str], copies: Sequence[int] | None
) -> tuple[list[str], list[int] | None]:
    """Those of one kind of chain, each with what it is in front, and their numbers of copies.

    Raises
    ------
    ValueError
        For copies that are no positive number for each sequence, or a sequence that is said to be something unknown.
    """
    if copies is not None and (len(copies) != len(sequences) or min(copies, default=1) < 1):
        raise ValueError(f"copies {list(copies)} for {len(sequences)} sequences; give one positive number for each")
    told = [told_kind(given) for given in sequences]
    own = [i for i, (kind, _) in enumerate(told) if (kind == "protein") == (polymer is PROTEIN)]
    return [":".join(told[i]) for i in own], None if copies is None else [copies[i] for i in own]


def targets(sequences: Sequence[str], copies: Sequence[int] | None, n_detected: int) -> list[Target]:
    """Different sequences with their numbers of copies; one that is given twice is there twice.

    Parameters
    ----------
    sequences
        One-letter codes, all of proteins or all of nucleic acids (see `told_kind`).
    copies
        Of each; None where they are not known.
    n_detected
        Candidates that the map shows.

    Raises
    ------
    ValueError
        For letters that stand for nothing, for a sequence much longer than what the map shows, for copies that are no
        positive number, for sequences of both kinds.
    """
    if copies is not None and (len(copies) != len(sequences) or min(copies, default=1) < 1):
        raise ValueError(f"copies {list(copies)} for {len(sequences)} sequences; give one positive number for each")
    found: dict[tuple[str, Kind], int | None] = {}
    for index, given in enumerate(sequences):
        kind, letters = told_kind(given)
        _check(letters, kind, index + 1, n_detected)
        before = found.get((letters, kind), 0)
        found[letters, kind] = None if copies is None or before is None else before + copies[index]
    wanted = [Target(letters, n, kind) for (letters, kind), n in found.items()]
    if len({t.polymer.name for t in wanted}) > 1:
        raise ValueError(
            "found sequences of proteins and of nucleic acids, expected those of one; thread them apart, as build_model"
            " does"
        )
    return wanted


def _check_letters(letters: str, kind: Kind, number: int) -> None:
    if not letters:
        raise ValueError(f"sequence {number} is empty; give its one-letter code or leave it out")
    polymer = PROTEIN if kind == "protein" else NUCLEIC_ACID
    what = "amino acid" if kind == "protein" else "nucleotide"
    known = polymer.letters + polymer.ambiguous + "".join(polymer.stands_for)
    wrong = [(i, a) for i, a in enumerate(letters) if a not in known]
    if wrong:
        where = ", ".join(f"{a!r} at position {i + 1}" for i, a in wrong[:5])
        raise ValueError(
            f"sequence {number} has letters that stand for no {what}: {where}; expected the one-letter code of a"
            f" {'protein' if kind == 'protein' else 'nucleic acid'} without headers or gaps"
        )


def _check(letters: str, kind: Kind, number: int, n_detected: int) -> None:
    _check_letters(letters, kind, number)
    if len(letters) > LONGEST_PER_CANDIDATE * max(n_detected, 1):
        raise ValueError(
            f"sequence {number} has {len(letters)} residues, but the map shows {n_detected}, fewer than one in"
            f" {LONGEST_PER_CANDIDATE}; give the sequence of what the map holds, or a map that holds the whole chain"
        )
