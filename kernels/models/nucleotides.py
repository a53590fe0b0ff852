"""Nucleotides in internal coordinates: bases, sugars and phosphates, turned into atoms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.models.internal_coordinates import dihedral_rad, place
from kernels.models.residues import BASES

BASE_ATOMS: dict[str, dict[str, tuple[float, float]]] = {
    # atom: x, y in Å in the plane of the base; the long axis of a pair is y, its two-fold axis x
    "A": {
        "N9": (-1.291, 4.498), "C8": (0.024, 4.897), "N7": (0.877, 3.902), "C5": (0.071, 2.771),
        "C6": (0.369, 1.398), "N6": (1.611, 0.909), "N1": (-0.668, 0.532), "C2": (-1.912, 1.023),
        "N3": (-2.320, 2.290), "C4": (-1.267, 3.124),
    },
    "C": {
        "N1": (-1.285, 4.542), "C2": (-1.472, 3.158), "O2": (-2.628, 2.709), "N3": (-0.391, 2.344),
        "C4": (0.837, 2.868), "N4": (1.875, 2.027), "C5": (1.056, 4.275), "C6": (-0.023, 5.068),
    },
    "G": {
        "N9": (-1.289, 4.551), "C8": (0.023, 4.962), "N7": (0.870, 3.969), "C5": (0.071, 2.833),
        "C6": (0.424, 1.460), "O6": (1.554, 0.955), "N1": (-0.700, 0.641), "C2": (-1.999, 1.087),
        "N2": (-2.949, 0.139), "N3": (-2.342, 2.364), "C4": (-1.265, 3.177),
    },
    "U": {
        "N1": (-1.284, 4.500), "C2": (-1.462, 3.131), "O2": (-2.563, 2.608), "N3": (-0.302, 2.397),
        "C4": (0.989, 2.884), "O4": (1.935, 2.094), "C5": (1.089, 4.311), "C6": (-0.024, 5.053),
    },
}  # fmt: skip
"""Source: the standard reference frame of Olson et al., J. Mol. Biol. 2001, 313:229."""
METHYL, METHYL_PLACE = "C7", (2.466, 4.961)
"""Of thymine, in the same frame."""
_SUGAR = {"A": (-2.479, 5.346), "C": (-2.477, 5.402), "G": (-2.477, 5.399), "U": (-2.481, 5.354)}
"""C1' in the same frame."""
GLYCOSIDIC = {"A": ("N9", "C4"), "G": ("N9", "C4"), "C": ("N1", "C2"), "U": ("N1", "C2")}
"""Atoms of a base that chi is told by, with O4' and C1'."""
PURINES = "AG"
RING = ("N1", "C2", "N3", "C4", "C5", "C6")
"""The six-membered ring, whose middle detection calls the place of the base."""


@dataclass(frozen=True)
class Pucker:
    """Torsions of a sugar in degrees: what bonds leave open."""

    c2: float
    """C4' O4' C1' C2'"""
    c3: float
    """C1' O4' C4' C3'"""
    base: float
    """C4' O4' C1' N"""
    c5: float
    """C1' O4' C4' C5'"""
    o3: float
    """O4' C4' C3' O3'"""
    o2: float
    """O4' C1' C2' O2'"""


C3_ENDO = Pucker(2.9, 21.6, -118.6, 146.0, -158.7, 91.4)
C2_ENDO = Pucker(-22.3, -0.4, -145.4, 124.2, -93.1, 158.6)
"""Medians over 899 and 93 nucleotides of ten RNA structures; half of them lie within 3 degrees."""


@dataclass(frozen=True)
class Conformation:
    """A nucleotide's shape; torsions in degrees."""

    pucker: Pucker = C3_ENDO
    chi: float = -162.8
    gamma: float = 55.1
    beta: float = 171.8
    alpha: float = -66.8
    epsilon: float = -144.9


A_FORM = Conformation()
"""Medians of nucleotides of A-form RNA, measured as the puckers."""
B_FORM = Conformation(C2_ENDO, chi=-108.0, gamma=48.0, beta=176.0, alpha=-60.0, epsilon=-169.0)
"""Source: mean torsions of B-DNA, Schneider, Neidle & Berman, Biopolymers 1997, 42:113."""


def monomer(base: int, is_dna: bool) -> str:
    """Name of the nucleotide of a base, given by its index into `residues.BASES`."""
    letter = BASES[base]
    return ("DT" if letter == "U" else f"D{letter}") if is_dna else letter


def atom_names(base: int, is_dna: bool) -> tuple[str, ...]:
    """Heavy atoms of a nucleotide within its chain, in the order of `nucleotide_coordinates`."""
    letter = BASES[base]
    sugar = ("P", "OP1", "OP2", "O5'", "C5'", "C4'", "O4'", "C3'", "O3'", "C2'", *(() if is_dna else ("O2'",)), "C1'")
    return (*sugar, *BASE_ATOMS[letter], *((METHYL,) if is_dna and letter == "U" else ()))


@lru_cache(maxsize=256)
def nucleotide_coordinates(base: int, is_dna: bool, shape: Conformation = A_FORM) -> Tensor:
    """(atom + 1, 3) float64 (x, y, z) of `atom_names`, and behind them the P of the next nucleotide.

    Source
    ------
    Bonds and angles: Gelbin et al., J. Am. Chem. Soc. 1996, 118:519, and medians of ten RNA structures.
    """
    letter, pucker = BASES[base], shape.pucker
    at = {name: torch.zeros(3, dtype=torch.float64) for name in ("C4'", "O4'")}
    at["O4'"] = torch.tensor([1.451, 0.0, 0.0], dtype=torch.float64)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)

    def put(name: str, after: str, bond: float, angle_deg: float, dihedral_deg: float) -> None:
        a, b, c = (at[n] for n in after.split())
        turn = torch.tensor(math.radians(dihedral_deg), dtype=torch.float64)
        at[name] = place(a, b, c, bond, math.radians(angle_deg), turn)

    at["C1'"] = place(up, at["C4'"], at["O4'"], 1.414, math.radians(109.8), torch.tensor(0.0, dtype=torch.float64))
    nitrogen, onwards = GLYCOSIDIC[letter]
    put("C2'", "C4' O4' C1'", 1.528, 107.5, pucker.c2)
    put("C3'", "C1' O4' C4'", 1.521, 103.8, pucker.c3)
    put("N", "C4' O4' C1'", 1.472, 108.5, pucker.base)
    put("C5'", "C1' O4' C4'", 1.509, 109.7, pucker.c5)
    put("O3'", "O4' C4' C3'", 1.420, 112.6, pucker.o3)
    put("O2'", "O4' C1' C2'", 1.415, 108.4, pucker.o2)
    put("O5'", "C3' C4' C5'", 1.420, 111.1, shape.gamma)
    put("P", "C4' C5' O5'", 1.593, 120.9, shape.beta)
    put("OP1", "C5' O5' P", 1.485, 109.1, shape.alpha + 115.4)
    put("OP2", "C5' O5' P", 1.485, 108.2, shape.alpha - 114.8)
    put("P+", "C4' C3' O3'", 1.607, 120.0, shape.epsilon)
    flat = dict(BASE_ATOMS[letter])
    if is_dna and letter == "U":
        flat[METHYL] = METHYL_PLACE
    in_plane = {name: torch.tensor([x, y, 0.0], dtype=torch.float64) for name, (x, y) in flat.items()}
    sugar = torch.tensor([*_SUGAR[letter], 0.0], dtype=torch.float64)
    # chi is O4' C1' N C: seen from the base it places O4', and with it the whole sugar
    wanted = place(in_plane[onwards], in_plane[nitrogen], sugar, 1.414, math.radians(108.5),
                   torch.tensor(math.radians(shape.chi), dtype=torch.float64))  # fmt: skip
    moving = _frame(at["C1'"], at["N"], at["O4'"])
    fixed = _frame(sugar, in_plane[nitrogen], wanted)
    names = atom_names(base, is_dna)
    backbone = [n for n in (*names, "P+") if n not in in_plane]
    turned = {n: (at[n] - at["C1'"]) @ moving.T @ fixed + sugar for n in backbone}
    return torch.stack([in_plane[n] if n in in_plane else turned[n] for n in (*names, "P+")])


def _frame(origin: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """(axis, 3) orthonormal axes, the first along ``first`` - ``origin``."""
    x = torch.nn.functional.normalize(first - origin, dim=-1)
    z = torch.nn.functional.normalize(torch.linalg.cross(x, second - origin), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=-2)


def base_frames(sugar: Tensor, nitrogen: Tensor, onwards: Tensor) -> tuple[Tensor, Tensor]:
    """Standard frames of bases, told by C1', N and the atom that chi ends in; the same of every base in a pair.

    Parameters
    ----------
    sugar, nitrogen, onwards
        (n, 3) in (x, y, z).

    Returns
    -------
    (n, 3) origins, and (n, axis, 3) axes x, y and z.
    """
    axis = torch.nn.functional.normalize(nitrogen - sugar, dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(onwards - nitrogen, axis), dim=-1)
    sideways = torch.linalg.cross(normal, axis)
    here, there = (torch.tensor(p, dtype=sugar.dtype) for p in ((-2.478, 5.375), (-1.287, 4.523)))  # means of all bases
    along = (there - here) / (there - here).norm()
    across = torch.stack([-along[1], along[0]])
    x = along[0] * axis + across[0] * sideways
    y = along[1] * axis + across[1] * sideways
    origin = sugar - here[0] * x - here[1] * y
    return origin, torch.stack([x, y, torch.linalg.cross(x, y)], dim=-2)


def chi_rad(base: int, is_dna: bool, coordinates: Tensor) -> Tensor:
    """(...) chi of nucleotides (..., atom, 3) in (x, y, z), in the order of `atom_names`."""
    names = atom_names(base, is_dna)
    return dihedral_rad(*(coordinates[..., names.index(n), :] for n in ("O4'", "C1'", *GLYCOSIDIC[BASES[base]])))
