"""Sequences in FASTA files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.formats import FormatError


@dataclass(frozen=True)
class NamedSequence:
    """One record of a file."""

    name: str
    """The line that it begins with, without the mark."""
    letters: str
    """One-letter codes as they stand in the file, joined."""

    @property
    def told(self) -> str:
        """The letters, with what they are in front (``rna:``) where a word of the heading says so (``mol:rna``).

        ``mol:na``, as in the list of sequences of the PDB, leaves RNA or DNA to the letters.
        """
        said = [word.removeprefix("mol:") for word in self.name.lower().split() if word.startswith("mol:")]
        kinds = {
            "protein": "protein",
            "rna": "rna",
            "dna": "dna",
            "na": "dna" if "T" in self.letters.upper() else "rna",
        }
        known = [kinds[word] for word in said if word in kinds]
        return f"{known[0]}:{self.letters}" if known else self.letters


def read_fasta(path: Path | str) -> list[NamedSequence]:
    """Sequences of a FASTA file, in its order; one without any heading counts as a single sequence.

    Raises
    ------
    FormatError
        Where the file is not there, is no text, or holds no sequence, or a heading has none.
    """
    path = Path(path)
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot be read as text ({error}); give a FASTA file") from error
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith(">"):
            found.append((line[1:].strip(), []))
        elif line.strip() and not line.startswith(";"):
            if not found:
                found.append((path.stem, []))
            found[-1][1].append("".join(line.split()))
    for name, parts in found:
        if not parts:
            raise FormatError(f"{path}: heading {name!r} has no sequence; remove it, or add the letters below it")
    if not found:
        raise FormatError(
            f"{path}: holds no sequence; expected lines of one-letter codes below a line that starts with >"
        )
    return [NamedSequence(name, "".join(parts)) for name, parts in found]
