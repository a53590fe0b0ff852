"""What is to be predicted, in no engine's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.building.sequences import Kind, told_kind
from tasks.formats.structure import chain_name
from tasks.formats.template import TemplateChain

_LETTERS = {"protein": "ACDEFGHIKLMNPQRSTVWYX", "rna": "ACGUN", "dna": "ACGTN"}
_CODE = re.compile(r"[A-Z0-9]{1,5}")


@dataclass(frozen=True)
class Chain:
    """A polymer, as often as it is there."""

    kind: Kind
    letters: str
    copies: int = 1
    alignment: Path | None = None
    """Sequences aligned to it, as an a3m file; None where there is none."""


@dataclass(frozen=True)
class Ligand:
    """A small molecule: its code in the PDB's dictionary, or SMILES."""

    code: str | None
    smiles: str | None
    copies: int = 1


@dataclass(frozen=True)
class Request:
    """All that one complex is made of, and how often it is predicted."""

    name: str
    chains: tuple[Chain, ...]
    ligands: tuple[Ligand, ...] = ()
    n_samples: int = 1
    seed: int = 0
    templates: tuple[TemplateChain, ...] = ()
    """What the engine is shown of some of its chains, all in one frame."""
    most_from_template_angstrom: float | None = None
    """How far the prediction may be from them; None for as far as the engine finds right."""

    @property
    def parts(self) -> tuple[Chain | Ligand, ...]:
        """Chains, then ligands."""
        return (*self.chains, *self.ligands)

    def chain_names(self) -> list[list[str]]:
        """Names A, B … of the copies of each of its parts."""
        found, first = [], 0
        for part in self.parts:
            found.append([chain_name(first + i) for i in range(part.copies)])
            first += part.copies
        return found


def chains_of(sequences: Sequence[str], copies: Sequence[int] | None, alignments: Sequence[str]) -> tuple[Chain, ...]:
    """Chains as they are given on a command line.

    Parameters
    ----------
    sequences
        One-letter codes; ``rna:`` or ``dna:`` in front says what it is.
    alignments
        Paths of a3m files, for the first sequences, an empty one for none.

    Raises
    ------
    ValueError
        For letters that stand for nothing, or copies and alignments that do not fit the sequences, or an alignment of
        something else.
    """
    if copies is not None and (len(copies) != len(sequences) or min(copies, default=1) < 1):
        raise ValueError(f"copies {list(copies)} for {len(sequences)} sequences; give one positive number for each")
    if len(alignments) > len(sequences):
        raise ValueError(
            f"{len(alignments)} alignments for {len(sequences)} sequences; give one for each, in their order"
        )
    found = []
    for index, given in enumerate(sequences):
        kind, letters = told_kind(given)
        wrong = sorted(set(letters) - set(_LETTERS[kind]))
        if wrong or not letters:
            raise ValueError(
                f"sequence {index + 1} has letters that no engine takes in {kind}: {', '.join(wrong) or 'none at all'};"
                f" expected {_LETTERS[kind]}"
            )
        path = Path(alignments[index]) if index < len(alignments) and alignments[index] else None
        if path is not None:
            _check_alignment(path, letters, index + 1)
        found.append(Chain(kind, letters, 1 if copies is None else copies[index], path))
    if not found:
        raise ValueError("nothing is to be predicted; give a sequence at least")
    return tuple(found)


def ligands_of(given: Sequence[str]) -> tuple[Ligand, ...]:
    """Codes of the PDB's dictionary (``ATP``), or SMILES with ``smiles:`` in front; one that is given twice is there
    twice.

    Raises
    ------
    ValueError
        For what is neither.
    """
    found: dict[tuple[str | None, str | None], int] = {}
    for text in given:
        word, mark, rest = text.partition(":")
        is_smiles = bool(mark) and word.lower() == "smiles"
        code = text.upper()
        if not is_smiles and not _CODE.fullmatch(code):
            raise ValueError(f"ligand {text!r} is no code of one to five letters; write SMILES as smiles:{text}")
        key = (None, rest.strip()) if is_smiles else (code, None)
        found[key] = found.get(key, 0) + 1
    return tuple(Ligand(code, smiles, n) for (code, smiles), n in found.items())


def _check_alignment(path: Path, letters: str, number: int) -> None:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({error}); give an alignment in a3m format") from error
    first: list[str] = []
    for line in lines[1:] if lines and lines[0].startswith((">", "#")) else lines:
        if line.startswith(">"):
            if first:
                break
            continue
        first.append(line.strip())
    own = "".join(first).replace("-", "").upper()
    if own != letters:
        raise ValueError(
            f"{path}: is an alignment to a sequence of {len(own)} letters, {own[:20]}…; expected that of sequence"
            f" {number}, {letters[:20]}… ({len(letters)}) on top; align to the sequence that is given"
        )
