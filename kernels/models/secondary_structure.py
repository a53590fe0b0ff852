"""Secondary structure from the hydrogen bonds of the backbone.

Source
------
Kabsch & Sander, Biopolymers 1983, 22:2577: energies of hydrogen bonds, turns and bridges; its H, G and I are helix
here, E and B strand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.residues import SECONDARY_STRUCTURES

HELIX, STRAND, COIL = range(len(SECONDARY_STRUCTURES))
_CHARGES_KCAL_ANGSTROM = 332 * 0.42 * 0.20
_HIGHEST_ENERGY_KCAL = -0.5
_FURTHEST_ANGSTROM = 5.2
"""Between N and O, of a pair that can be bonded."""


def secondary_structure(backbone_angstrom: Tensor, is_linked: Tensor) -> Tensor:
    """Helix, strand or coil of each residue.

    Parameters
    ----------
    backbone_angstrom
        (residue, 4, 3) positions of N, CA, C and O, NaN where an atom is not there.
    is_linked
        (residue,) whether a peptide bond leads on to the next residue.

    Returns
    -------
    (residue,) int64 index into `residues.SECONDARY_STRUCTURES`. Memory: 40 bytes for each pair of residues.
    """
    n = len(backbone_angstrom)
    found = torch.full((n,), COIL, dtype=torch.int64, device=backbone_angstrom.device)
    if n < 5:
        return found
    bond = _hydrogen_bonds(backbone_angstrom, is_linked)
    helix = torch.zeros(n, dtype=torch.bool, device=bond.device)
    for span in (4, 3, 5):
        turn = torch.zeros(n, dtype=torch.bool, device=bond.device)
        turn[: n - span] = bond.diagonal(-span)  # from the N-H of i + span to the O of i
        for step in range(span):
            turn[: n - span] &= is_linked[step : n - span + step]
        begins = turn[1:] & turn[:-1]  # two in a row, of i - 1 and i
        for step in range(span):
            helix[1 + step :] |= begins[: n - 1 - step]
    found[_bridged(bond, is_linked)] = STRAND
    found[helix] = HELIX
    return found


def _hydrogen_bonds(backbone: Tensor, is_linked: Tensor) -> Tensor:
    """(donor, acceptor) whether the N-H of one residue is bonded to the O of the other."""
    nitrogen, carbon, oxygen = backbone[:, 0], backbone[:, 2], backbone[:, 3]
    direction = torch.full_like(nitrogen, torch.nan)  # the hydrogen points away from the O of the residue before
    direction[1:] = torch.where(is_linked[:-1, None], carbon[:-1] - oxygen[:-1], torch.nan)
    hydrogen = nitrogen + direction / direction.norm(dim=-1, keepdim=True)
    present = [torch.nan_to_num(atoms, nan=1e4) for atoms in (nitrogen, hydrogen, carbon, oxygen)]
    n, h, c, o = present
    distance = torch.cdist(n, o)
    energy = _CHARGES_KCAL_ANGSTROM * (
        1 / distance + 1 / torch.cdist(h, c) - 1 / torch.cdist(h, o) - 1 / torch.cdist(n, c)
    )
    bond = (energy < _HIGHEST_ENERGY_KCAL) & (distance < _FURTHEST_ANGSTROM)
    bond &= ~hydrogen.isnan().any(-1)[:, None] & ~(carbon + oxygen).isnan().any(-1)[None]
    index = torch.arange(len(bond), device=bond.device)
    bond[index, index] = False
    bond[index[1:], index[:-1]] = False
    return bond


def _bridged(bond: Tensor, is_linked: Tensor) -> Tensor:
    """(residue,) whether the residue is bridged to another, in parallel or not."""
    has_both = torch.zeros_like(is_linked)
    has_both[1:-1] = is_linked[:-2] & is_linked[1:-1]

    def at(donor_step: int, acceptor_step: int) -> Tensor:
        return bond.roll((-donor_step, -acceptor_step), (0, 1))

    opposite = (bond & bond.T) | (at(1, -1) & at(1, -1).T)
    along = at(1, 0) & at(0, -1).T  # N-H of i + 1 to O of j, N-H of j to O of i - 1
    bridge = (opposite | along | along.T) & has_both[:, None] & has_both[None]
    index = torch.arange(len(bond), device=bond.device)
    bridge &= (index[:, None] - index[None]).abs() > 2
    return bridge.any(1)
