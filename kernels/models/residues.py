"""Alphabets of residues: the order in which types are counted, names, backbone atoms."""

from __future__ import annotations

AMINO_ACIDS = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE",
    "LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip
"""The order of every array over amino-acid types."""
AMINO_ACID_LETTERS = "ARNDCQEGHILKMFPSTWYV"
"""In the order of `AMINO_ACIDS`."""

BASES = ("A", "C", "G", "U")
"""The order of every array over bases; thymine counts as U."""

SECONDARY_STRUCTURES = ("helix", "strand", "coil")
"""The order of every array over secondary structure."""

PROTEIN_BACKBONE = ("N", "CA", "C", "O")
NUCLEIC_BACKBONE = ("P", "OP1", "OP2", "O5'", "C5'", "C4'", "O4'", "C3'", "O3'", "C2'", "C1'")

MODIFIED = {
    "MSE": "MET", "SEP": "SER", "TPO": "THR", "PTR": "TYR", "CSO": "CYS", "OCS": "CYS", "CME": "CYS", "KCX": "LYS",
    "MLY": "LYS", "M3L": "LYS", "ALY": "LYS", "LLP": "LYS", "HYP": "PRO", "PCA": "GLN", "CSD": "CYS", "CGU": "GLU",
    "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "CYX": "CYS", "SEC": "CYS",
}  # fmt: skip
"""Modified amino acid -> the one it is made from."""
_BASE_OF = {
    **{name: name for name in BASES},
    **{f"D{name}": name for name in "ACG"},
    **{"DT": "U", "T": "U", "DU": "U", "I": "G", "PSU": "U", "5MU": "U", "5MC": "C", "H2U": "U", "7MG": "G"},
    **{"1MA": "A", "2MG": "G", "OMC": "C", "OMG": "G", "GTP": "G", "ADE": "A", "CYT": "C", "GUA": "G", "URA": "U"},
    **{f"R{name}": name for name in BASES},
    **{f"{name}{end}": name for name in BASES for end in "35"},
}


def amino_acid_index(residue_name: str) -> int:
    """Index into `AMINO_ACIDS` of a residue, a modified one as what it is made from; -1 where it is no amino acid."""
    name = MODIFIED.get(residue_name, residue_name)
    return AMINO_ACIDS.index(name) if name in AMINO_ACIDS else -1


def base_index(residue_name: str) -> int:
    """Index into `BASES` of a nucleotide of RNA or DNA; -1 where it is none."""
    base = _BASE_OF.get(residue_name)
    return -1 if base is None else BASES.index(base)
