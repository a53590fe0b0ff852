"""Sequences as they are given, checked and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.residues import AMINO_ACID_LETTERS
from kernels.models.threading import UNKNOWN

_STANDS_FOR = {"U": "C", "O": "K"}
_AMBIGUOUS = "XBZJ"
LONGEST_PER_CANDIDATE = 8
"""Residues of a sequence for each that was detected; beyond it the sequence belongs to something else."""


@dataclass(frozen=True)
class Target:
    """A sequence that the map may hold."""

    letters: str
    copies: int | None
    """How often; None where that is not known."""

    @property
    def types(self) -> Tensor:
        """(position,) int64 index into `residues.AMINO_ACIDS`, `threading.UNKNOWN` where the letter leaves it open."""
        letters = (_STANDS_FOR.get(a, a) for a in self.letters)
        return torch.tensor([UNKNOWN if a in _AMBIGUOUS else AMINO_ACID_LETTERS.index(a) for a in letters])


def targets(sequences: Sequence[str], copies: Sequence[int] | None, n_detected: int) -> list[Target]:
    """Different sequences with their numbers of copies; one that is given twice is there twice.

    Parameters
    ----------
    sequences
        One-letter codes; blanks, line ends and a final ``*`` are ignored.
    copies
        Of each; None where they are not known.
    n_detected
        Candidates that the map shows.

    Raises
    ------
    ValueError
        For letters that stand for no amino acid, for a sequence much longer than what the map shows, for copies that
        are no positive number.
    """
    if copies is not None and (len(copies) != len(sequences) or min(copies, default=1) < 1):
        raise ValueError(f"copies {list(copies)} for {len(sequences)} sequences; give one positive number for each")
    found: dict[str, int | None] = {}
    for index, given in enumerate(sequences):
        letters = "".join(given.split()).upper().removesuffix("*")
        _check(letters, index + 1, n_detected)
        before = found.get(letters, 0)
        found[letters] = None if copies is None or before is None else before + copies[index]
    return [Target(letters, n) for letters, n in found.items()]


def _check(letters: str, number: int, n_detected: int) -> None:
    if not letters:
        raise ValueError(f"sequence {number} is empty; give the one-letter code of a protein or leave it out")
    known = AMINO_ACID_LETTERS + _AMBIGUOUS + "".join(_STANDS_FOR)
    wrong = [(i, a) for i, a in enumerate(letters) if a not in known]
    if wrong:
        where = ", ".join(f"{a!r} at position {i + 1}" for i, a in wrong[:5])
        raise ValueError(
            f"sequence {number} has letters that stand for no amino acid: {where}; expected the one-letter code of a"
            " protein without headers or gaps"
        )
    if set(letters) <= set("ACGTUN") and len(letters) >= 20:
        raise ValueError(
            f"sequence {number} ({letters[:20]}…) is one of a nucleic acid; give proteins here and DNA or RNA apart"
        )
    if len(letters) > LONGEST_PER_CANDIDATE * max(n_detected, 1):
        raise ValueError(
            f"sequence {number} has {len(letters)} residues, but the map shows {n_detected}, less than a"
            f" {LONGEST_PER_CANDIDATE}th; give the sequence of what the map holds, or a map that holds the whole chain"
        )
