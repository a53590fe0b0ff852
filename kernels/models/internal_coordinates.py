"""Proteins in internal coordinates: lengths, angles and torsions of backbone and side chains, turned into atoms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS, PROTEIN_BACKBONE

SIDE_CHAINS: dict[str, tuple[tuple[str, str, float, float, int, float, int], ...]] = {
    # atom; the three it is placed from; bond Å; angle deg; number of the chi that turns it, 0 for none; degrees
    # added to that chi; hydrogens. The third of the three is the one it is bound to.
    "A": (),
    "C": (("SG", "N CA CB", 1.808, 114.0, 1, 0, 1),),
    "D": (
        ("CG", "N CA CB", 1.516, 112.6, 1, 0, 0),
        ("OD1", "CA CB CG", 1.249, 118.4, 2, 0, 0),
        ("OD2", "CA CB CG", 1.249, 118.4, 2, 180, 0),
    ),
    "E": (
        ("CG", "N CA CB", 1.520, 114.1, 1, 0, 2),
        ("CD", "CA CB CG", 1.516, 112.6, 2, 0, 0),
        ("OE1", "CB CG CD", 1.249, 118.4, 3, 0, 0),
        ("OE2", "CB CG CD", 1.249, 118.4, 3, 180, 0),
    ),
    "F": (
        ("CG", "N CA CB", 1.502, 113.8, 1, 0, 0),
        ("CD1", "CA CB CG", 1.386, 120.8, 2, 0, 1),
        ("CD2", "CA CB CG", 1.386, 120.8, 2, 180, 1),
        ("CE1", "CB CG CD1", 1.386, 120.8, 0, 180, 1),
        ("CE2", "CB CG CD2", 1.386, 120.8, 0, 180, 1),
        ("CZ", "CG CD1 CE1", 1.386, 120.0, 0, 0, 1),
    ),
    "G": (),
    "H": (
        ("CG", "N CA CB", 1.497, 113.8, 1, 0, 0),
        ("ND1", "CA CB CG", 1.378, 122.7, 2, 0, 1),
        ("CD2", "CA CB CG", 1.354, 131.2, 2, 180, 1),
        ("CE1", "CB CG ND1", 1.321, 109.3, 0, 180, 1),
        ("NE2", "CB CG CD2", 1.374, 107.2, 0, 180, 0),
    ),
    "I": (
        ("CG1", "N CA CB", 1.530, 110.4, 1, 0, 2),
        ("CG2", "N CA CB", 1.521, 110.5, 1, -122.6, 3),
        ("CD1", "CA CB CG1", 1.513, 113.8, 2, 0, 3),
    ),
    "K": (
        ("CG", "N CA CB", 1.520, 114.1, 1, 0, 2),
        ("CD", "CA CB CG", 1.520, 111.3, 2, 0, 2),
        ("CE", "CB CG CD", 1.520, 111.3, 3, 0, 2),
        ("NZ", "CG CD CE", 1.489, 111.9, 4, 0, 3),
    ),
    "L": (
        ("CG", "N CA CB", 1.530, 116.3, 1, 0, 1),
        ("CD1", "CA CB CG", 1.521, 110.7, 2, 0, 3),
        ("CD2", "CA CB CG", 1.521, 110.7, 2, 122.6, 3),
    ),
    "M": (
        ("CG", "N CA CB", 1.520, 114.1, 1, 0, 2),
        ("SD", "CA CB CG", 1.803, 112.7, 2, 0, 0),
        ("CE", "CB CG SD", 1.791, 100.9, 3, 0, 3),
    ),
    "N": (
        ("CG", "N CA CB", 1.516, 112.6, 1, 0, 0),
        ("OD1", "CA CB CG", 1.231, 120.8, 2, 0, 0),
        ("ND2", "CA CB CG", 1.328, 116.4, 2, 180, 2),
    ),
    "Q": (
        ("CG", "N CA CB", 1.520, 114.1, 1, 0, 2),
        ("CD", "CA CB CG", 1.516, 112.6, 2, 0, 0),
        ("OE1", "CB CG CD", 1.231, 120.8, 3, 0, 0),
        ("NE2", "CB CG CD", 1.328, 116.4, 3, 180, 2),
    ),
    "R": (
        ("CG", "N CA CB", 1.520, 114.1, 1, 0, 2),
        ("CD", "CA CB CG", 1.520, 111.3, 2, 0, 2),
        ("NE", "CB CG CD", 1.461, 112.0, 3, 0, 1),
        ("CZ", "CG CD NE", 1.329, 124.2, 4, 0, 0),
        ("NH1", "CD NE CZ", 1.326, 120.0, 0, 0, 2),
        ("NH2", "CD NE CZ", 1.326, 119.7, 0, 180, 2),
    ),
    "P": (
        ("CG", "N CA CB", 1.492, 104.5, 1, 0, 2),
        ("CD", "CA CB CG", 1.503, 106.1, 2, 0, 2),
    ),
    "S": (("OG", "N CA CB", 1.417, 110.8, 1, 0, 1),),
    "T": (
        ("OG1", "N CA CB", 1.433, 109.6, 1, 0, 1),
        ("CG2", "N CA CB", 1.521, 110.5, 1, -120.5, 3),
    ),
    "V": (
        ("CG1", "N CA CB", 1.521, 110.5, 1, 0, 3),
        ("CG2", "N CA CB", 1.521, 110.5, 1, 122.6, 3),
    ),
    "W": (
        ("CG", "N CA CB", 1.498, 113.6, 1, 0, 0),
        ("CD1", "CA CB CG", 1.365, 126.9, 2, 0, 1),
        ("CD2", "CA CB CG", 1.433, 126.8, 2, 180, 0),
        ("NE1", "CB CG CD1", 1.374, 110.2, 0, 180, 1),
        ("CE2", "CB CG CD2", 1.409, 107.2, 0, 180, 0),
        ("CE3", "CB CG CD2", 1.398, 133.9, 0, 0, 1),
        ("CZ2", "CG CD2 CE2", 1.394, 122.4, 0, 180, 1),
        ("CZ3", "CG CD2 CE3", 1.382, 118.6, 0, 180, 1),
        ("CH2", "CD2 CE2 CZ2", 1.368, 117.5, 0, 0, 1),
    ),
    "Y": (
        ("CG", "N CA CB", 1.512, 113.9, 1, 0, 0),
        ("CD1", "CA CB CG", 1.389, 120.8, 2, 0, 1),
        ("CD2", "CA CB CG", 1.389, 120.8, 2, 180, 1),
        ("CE1", "CB CG CD1", 1.382, 121.2, 0, 180, 1),
        ("CE2", "CB CG CD2", 1.382, 121.2, 0, 180, 1),
        ("CZ", "CG CD1 CE1", 1.378, 119.6, 0, 0, 0),
        ("OH", "CD1 CE1 CZ", 1.376, 119.9, 0, 180, 1),
    ),
}
"""Side chains beyond CB. Source: bond lengths and angles of Engh & Huber, Acta Cryst. 1991, A47:392."""

_BETA_DIHEDRAL_DEG = {"P": 114.0}
"""Of CB about the bond from C to CA, counted from N, where a ring makes it another than that of all others."""


def side_chain_names(letter: str) -> list[str]:
    return [] if letter == "G" else ["CB", *(atom[0] for atom in SIDE_CHAINS[letter])]


def chi_atoms(letter: str) -> list[tuple[str, str, str, str]]:
    """The four atoms of each chi angle."""
    found: dict[int, tuple[str, str, str, str]] = {}
    for name, sources, *_, chi, offset_deg, _n_hydrogens in SIDE_CHAINS[letter]:
        if chi and offset_deg == 0:
            a, b, c = sources.split()
            found[chi] = (a, b, c, name)
    return [found[chi] for chi in sorted(found)]


def side_chain_hydrogens(letter: str, is_first: bool) -> list[int]:
    """Hydrogens of all atoms of a residue: N, CA, C, O and the side chain."""
    on_beta = {"A": 3, "I": 1, "T": 1, "V": 1}.get(letter, 2)
    beta = [] if letter == "G" else [on_beta]
    on_nitrogen = (0 if letter == "P" else 1) + (2 if is_first else 0)
    return [on_nitrogen, 2 if letter == "G" else 1, 0, 0, *beta, *(atom[-1] for atom in SIDE_CHAINS[letter])]


HYDROGENS: dict[tuple[str, str], int] = {
    (residue, name): n
    for residue, letter in zip(AMINO_ACIDS, AMINO_ACID_LETTERS)
    for name, n in zip((*PROTEIN_BACKBONE, *side_chain_names(letter)), side_chain_hydrogens(letter, False))
}
"""How many ride on an atom of an amino acid within a chain."""


def backbone_coordinates(torsions_rad: Tensor) -> Tensor:
    """(..., residue, 4, 3) N, CA, C and O in (x, y, z) from (..., residue, 2) phi and psi.

    Source
    ------
    Engh & Huber 1991 for lengths and angles; atoms follow one another by products of local frames.
    """
    n = torsions_rad.shape[-2]
    phi, psi = torsions_rad.unbind(-1)
    trans = torch.full_like(phi, math.pi)
    # dihedrals that place N (psi of the residue before), CA (omega) and C (phi)
    before = torch.cat([torch.zeros_like(psi[..., :1]), psi[..., :-1]], dim=-1)
    dihedral = torch.stack([before, trans, phi], dim=-1).flatten(-2)
    angle = torch.tensor([116.2, 121.7, 111.0], dtype=phi.dtype).deg2rad().repeat(n).expand_as(dihedral)
    bond = torch.tensor([1.329, 1.458, 1.525], dtype=phi.dtype).repeat(n).expand_as(dihedral)
    chain = _running_product(_frames(bond, angle, dihedral))[..., :3, 3].unflatten(-2, (n, 3))
    nitrogen, alpha, carbon = chain.unbind(-2)
    oxygen = place(nitrogen, alpha, carbon, 1.231, math.radians(120.1), psi + math.pi)
    return torch.stack([nitrogen, alpha, carbon, oxygen], dim=-2)


def _frames(bond: Tensor, angle: Tensor, dihedral: Tensor) -> Tensor:
    """(..., 4, 4) from the frame of one atom to that of the next; x runs along the bond, z is the plane's normal."""
    ca, sa, cd, sd = torch.cos(angle), torch.sin(angle), torch.cos(dihedral), torch.sin(dihedral)
    zero, one = torch.zeros_like(ca), torch.ones_like(ca)
    rows = [
        torch.stack([-ca, -sa, zero, -bond * ca], dim=-1),
        torch.stack([sa * cd, -ca * cd, -sd, bond * sa * cd], dim=-1),
        torch.stack([sa * sd, -ca * sd, cd, bond * sa * sd], dim=-1),
        torch.stack([zero, zero, zero, one], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def _running_product(matrices: Tensor) -> Tensor:
    """Products of the first 1, 2, ... of (..., n, 4, 4) matrices, by doubling."""
    step = 1
    while step < matrices.shape[-3]:
        matrices = torch.cat(
            [matrices[..., :step, :, :], matrices[..., :-step, :, :] @ matrices[..., step:, :, :]], dim=-3
        )
        step *= 2
    return matrices


def side_chain_coordinates(letter: str, backbone: Tensor, chi_rad: Tensor) -> Tensor:
    """(..., atom, 3) CB and beyond in (x, y, z).

    Parameters
    ----------
    backbone
        (..., 4, 3) N, CA, C, O.
    chi_rad
        (..., n_chi) side-chain torsions; leading dimensions are broadcast.
    """
    if letter == "G":
        return backbone[..., :0, :]
    known = dict(zip(PROTEIN_BACKBONE, backbone.unbind(-2)))
    around = torch.tensor(math.radians(_BETA_DIHEDRAL_DEG.get(letter, 122.6)))
    known["CB"] = place(known["N"], known["C"], known["CA"], 1.530, math.radians(110.1), around)
    for name, sources, bond, angle_deg, chi, offset_deg, _ in SIDE_CHAINS[letter]:
        turn = torch.tensor(math.radians(offset_deg), dtype=backbone.dtype)
        if chi:
            turn = turn + chi_rad[..., chi - 1]
        a, b, c = (known[source] for source in sources.split())
        known[name] = place(a, b, c, bond, math.radians(angle_deg), turn)
    leading = torch.broadcast_shapes(backbone.shape[:-2], chi_rad.shape[:-1])
    return torch.stack([known[name].expand(*leading, 3) for name in side_chain_names(letter)], dim=-2)


def place(a: Tensor, b: Tensor, c: Tensor, bond: float, angle_rad: float, dihedral_rad: Tensor) -> Tensor:
    """(..., 3) position, in (x, y, z), of an atom bound to ``c`` with angle b-c-d and dihedral a-b-c-d (IUPAC sign)."""
    along = torch.nn.functional.normalize(c - b, dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - b), dim=-1)
    side = torch.linalg.cross(normal, along)
    dihedral = dihedral_rad[..., None].to(c.dtype)
    sine = math.sin(angle_rad)
    return c + bond * (
        -math.cos(angle_rad) * along + sine * torch.cos(dihedral) * side + sine * torch.sin(dihedral) * normal
    )


def dihedral_rad(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(...) angle about b-c from a to d, of positions (..., 3) in (x, y, z), in (-pi, pi] (IUPAC sign)."""
    first, axis, last = b - a, c - b, d - c
    n1, n2 = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
    y = (axis.norm(dim=-1, keepdim=True) * first * n2).sum(-1)
    return torch.atan2(y, (n1 * n2).sum(-1))
