"""Backbone from a Cα trace: flat peptides between Cα atoms, each turned as density, neighbours and Ramachandran ask."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.models.internal_coordinates import dihedral_rad, place
from kernels.models.torsions import RAMACHANDRAN_STEP_DEG, ramachandran_class, ramachandran_surprise

Density = Callable[[Tensor], Tensor]
"""(...) density at (..., 3) places in Å, (z, y, x); 1 is a strong place."""

N_TURNS = 36
_DENSITY_WEIGHT = 4.0
"""Of one atom in a strong place, in natural logarithms of probability."""
_OFFSET_SIGMA_ANGSTROM, _MOST_OFFSET_PENALTY = 0.8, 2.0
_TAU_DEG, _TAU_SIGMA_DEG, _MOST_TAU_PENALTY = 111.0, 4.0, 8.0
_TRANS_ANGSTROM, _CIS_ANGSTROM, _LONGEST_CIS_ANGSTROM = 3.80, 2.95, 3.35
_LONGEST_CIS_OF_TRACE = 2.9
"""A trace with errors of 0.5 Å shows more trans peptides than cis ones below 3.3 Å, since one in twenty is cis."""
_NEAREST_SECOND, _FURTHEST_SECOND = 5.0, 7.3
"""Between Cα atoms two residues apart, Å."""


def regular_trace(
    alpha_angstrom: Tensor,
    is_linked: Tensor,
    amino_acid: Tensor,
    density: Density,
    tether_sigma_angstrom: float | Tensor = 0.7,
    n_steps: int = 60,
) -> Tensor:
    """(residue, 3) Cα moved to the distances that peptides keep, up the density, and not far from where they were.

    Parameters
    ----------
    alpha_angstrom
        (residue, 3) in (z, y, x).
    is_linked
        (residue,) whether a peptide leads on to the next one.
    amino_acid
        (residue,) index into `residues.AMINO_ACIDS`; peptides are cis before prolines that stand very near only.
    tether_sigma_angstrom
        How far a Cα may go, of all or (residue, 1) of each.
    """
    linked = torch.nonzero(is_linked[:-1]).squeeze(1)
    twice = torch.nonzero(is_linked[:-2] & is_linked[1:-1]).squeeze(1)
    ideal = _link_lengths(alpha_angstrom, linked, amino_acid)
    free = alpha_angstrom.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([free], max_iter=n_steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        length = (free[linked + 1] - free[linked]).norm(dim=-1)
        second = (free[twice + 2] - free[twice]).norm(dim=-1)
        beyond = (second - _FURTHEST_SECOND).clamp(min=0) + (_NEAREST_SECOND - second).clamp(min=0)
        total = (
            0.5 * ((length - ideal) / 0.1).square().sum()
            + 0.5 * (beyond / 0.2).square().sum()
            + 0.5 * ((free - alpha_angstrom) / tether_sigma_angstrom).square().sum()
            - _DENSITY_WEIGHT * density(free).sum()
        )
        total.backward()
        return total

    optimizer.step(closure)
    return free.detach()


def _link_lengths(alpha: Tensor, linked: Tensor, amino_acid: Tensor) -> Tensor:
    length = (alpha[linked + 1] - alpha[linked]).norm(dim=-1)
    is_cis = (length < _LONGEST_CIS_OF_TRACE) & (amino_acid[linked + 1] == _PROLINE)
    return torch.where(is_cis, _CIS_ANGSTROM, _TRANS_ANGSTROM).to(alpha)


def backbone_on_trace(
    alpha_angstrom: Tensor,
    is_linked: Tensor,
    amino_acid: Tensor,
    density: Density,
    expected_angstrom: Tensor | None = None,
) -> Tensor:
    """(residue, 4, 3) N, CA, C and O about fixed Cα atoms, the best of all combinations of turned peptides.

    Each peptide is tried in 36 turns about the line between its Cα atoms. What a turn is worth by itself is told by
    density and by where N, C and O are expected; what two neighbours are worth together by the angle at the Cα that
    they share, its phi and psi, and the density at its Cβ. The best chain is found exactly (Viterbi).

    Parameters
    ----------
    alpha_angstrom
        (residue, 3) in (z, y, x); linked ones about 3.8 Å apart, or 2.95 Å where a peptide is cis.
    is_linked
        (residue,) whether a peptide leads on to the next residue.
    amino_acid
        (residue,) index into `residues.AMINO_ACIDS`.
    expected_angstrom
        (residue, 3, 3) N, C and O as predicted, NaN where they were not.
    """
    alpha = alpha_angstrom.double().flip(-1)  # torsions are told in (x, y, z)
    looked_up: Density = lambda points: density(points.flip(-1))  # noqa: E731
    expected = None if expected_angstrom is None else expected_angstrom.double().flip(-1)
    n = len(alpha)
    carbon, oxygen, nitrogen = _turned_peptides(alpha)  # (link, turn, 3), link i from residue i to i + 1
    own = -_DENSITY_WEIGHT * (looked_up(carbon) + looked_up(oxygen) + looked_up(nitrogen))
    if expected is not None:
        own = own + _offset_penalty(nitrogen, expected[1:, 0][:, None])
        own = own + _offset_penalty(carbon, expected[:-1, 1][:, None])
        own = own + _offset_penalty(oxygen, expected[:-1, 2][:, None])
    joined = torch.zeros(max(n - 2, 0), N_TURNS, N_TURNS, dtype=torch.float64)
    inner = torch.nonzero(is_linked[: n - 2] & is_linked[1 : n - 1]).squeeze(1)  # link before the shared residue
    if len(inner):
        joined[inner] = _joint_energy(alpha, carbon, nitrogen, inner, amino_acid, looked_up)
    turns = _best_turns(own, joined)
    link = torch.arange(n - 1)
    chosen_c, chosen_o, chosen_n = (atoms[link, turns] for atoms in (carbon, oxygen, nitrogen))
    built = torch.full((n, 4, 3), math.nan, dtype=torch.float64)
    built[:, 1] = alpha
    there = is_linked[:-1]
    built[1:, 0][there] = chosen_n[there]
    built[:-1, 2][there] = chosen_c[there]
    built[:-1, 3][there] = chosen_o[there]
    _add_ends(built, looked_up)
    return built.flip(-1)


@lru_cache(maxsize=2)
def _peptide_in_plane(is_cis: bool) -> Tensor:
    """(3, 2) C, O and N: how far along the line from Cα to Cα, in shares of its length, and how far beside it, Å."""
    zero, omega = torch.zeros(3, dtype=torch.float64), torch.tensor(0.0 if is_cis else math.pi)
    carbon = torch.tensor([1.525, 0.0, 0.0], dtype=torch.float64)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    at_carbon, at_nitrogen = (119.0, 126.0) if is_cis else (116.2, 121.7)  # cis peptides open up
    nitrogen = place(up, zero, carbon, 1.329, math.radians(at_carbon), torch.tensor(math.pi))
    oxygen = place(up, zero, carbon, 1.231, math.radians(120.1), torch.tensor(0.0))
    alpha = place(zero, carbon, nitrogen, 1.458, math.radians(at_nitrogen), omega)
    along = normalize(alpha, dim=0)
    beside = normalize(carbon - carbon.dot(along) * along, dim=0)
    atoms = torch.stack([carbon, oxygen, nitrogen])
    return torch.stack([atoms @ along / alpha.norm(), atoms @ beside], dim=-1)


def _turned_peptides(alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C, O and N (link, turn, 3) of every peptide in every turn."""
    along = alpha[1:] - alpha[:-1]
    length = along.norm(dim=-1, keepdim=True)
    axis = along / length.clamp(min=1e-6)
    helper = torch.zeros_like(axis).scatter_(1, axis.abs().argmin(1, keepdim=True), 1.0)
    first = normalize(torch.linalg.cross(axis, helper), dim=-1)
    second = torch.linalg.cross(axis, first)
    angle = 2 * math.pi * torch.arange(N_TURNS, dtype=torch.float64) / N_TURNS
    beside = torch.cos(angle)[:, None] * first[:, None] + torch.sin(angle)[:, None] * second[:, None]
    shapes = torch.stack([_peptide_in_plane(False), _peptide_in_plane(True)])
    shape = shapes[(length[:, 0] < _LONGEST_CIS_ANGSTROM).long()]  # (link, atom, 2)
    atoms = (
        alpha[:-1, None, None]
        + shape[:, None, :, :1] * along[:, None, None]
        + shape[:, None, :, 1:] * beside[:, :, None]
    )
    carbon, oxygen, nitrogen = atoms.unbind(2)
    return carbon, oxygen, nitrogen


def _offset_penalty(atoms: Tensor, expected: Tensor) -> Tensor:
    squared = ((atoms - expected) / _OFFSET_SIGMA_ANGSTROM).square().sum(-1)
    return (0.5 * squared).nan_to_num(nan=0.0).clamp(max=_MOST_OFFSET_PENALTY)


def _joint_energy(
    alpha: Tensor, carbon: Tensor, nitrogen: Tensor, inner: Tensor, amino_acid: Tensor, density: Density
) -> Tensor:
    """(inner, turn before, turn after) of the residue between two peptides."""
    shape = (len(inner), N_TURNS, N_TURNS, 3)
    middle = alpha[inner + 1][:, None, None].expand(shape)
    c_before = carbon[inner][:, :, None].expand(shape)
    n_own = nitrogen[inner][:, :, None].expand(shape)
    c_own = carbon[inner + 1][:, None].expand(shape)
    n_after = nitrogen[inner + 1][:, None].expand(shape)
    phi, psi = dihedral_rad(c_before, n_own, middle, c_own), dihedral_rad(n_own, middle, c_own, n_after)
    n_cells = 360 // RAMACHANDRAN_STEP_DEG
    cell = [
        (torch.rad2deg(angle) / RAMACHANDRAN_STEP_DEG + n_cells // 2).floor().long() % n_cells for angle in (phi, psi)
    ]
    kind = ramachandran_class(amino_acid)[inner + 1][:, None, None]
    energy = ramachandran_surprise()[kind, cell[0], cell[1]]
    to_n, to_c = normalize(n_own - middle, dim=-1), normalize(c_own - middle, dim=-1)
    tau = torch.rad2deg(torch.acos((to_n * to_c).sum(-1).clamp(-1, 1)))
    energy = energy + (0.5 * ((tau - _TAU_DEG) / _TAU_SIGMA_DEG).square()).clamp(max=_MOST_TAU_PENALTY)
    beta = place(n_own, c_own, middle, 1.530, math.radians(110.1), torch.tensor(math.radians(122.6)))
    has_beta = (amino_acid[inner + 1] != _GLYCINE)[:, None, None]
    return energy - _DENSITY_WEIGHT * density(beta) * has_beta


_GLYCINE, _PROLINE = 7, 14


def _best_turns(own: Tensor, joined: Tensor) -> Tensor:
    """(link,) turn of each peptide with the least sum of energies."""
    best, came_from = own[:1], []
    for link in range(1, len(own)):
        total = best.T + joined[link - 1]
        least = total.min(0)
        came_from.append(least.indices)
        best = least.values[None] + own[link][None]
    turns = torch.zeros(len(own), dtype=torch.int64)
    if len(own):
        turns[-1] = best[0].argmin()
        for link in range(len(own) - 1, 0, -1):
            turns[link - 1] = came_from[link - 1][turns[link]]
    return turns


def _add_ends(built: Tensor, density: Density) -> None:
    """N of residues that no peptide leads to, C and O of those that none leads on from, where density is highest."""
    turn = (2 * math.pi * torch.arange(N_TURNS, dtype=torch.float64) / N_TURNS)[None]
    lone = built[:, 0, 0].isnan() & built[:, 2, 0].isnan()
    away = torch.tensor([1.458, 0.0, 0.0], dtype=torch.float64)
    built[lone, 0] = built[lone, 1] + away
    corner = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    starts = torch.nonzero(built[:, 0, 0].isnan()).squeeze(1)
    alpha, carbon, oxygen = (built[starts, i][:, None].expand(-1, N_TURNS, 3) for i in (1, 2, 3))
    found = place(oxygen, carbon, alpha, 1.458, math.radians(_TAU_DEG), turn.expand(len(starts), -1))
    built[starts, 0] = found[torch.arange(len(starts)), density(found).argmax(1)]
    ends = torch.nonzero(built[:, 2, 0].isnan()).squeeze(1)
    nitrogen, alpha = (built[ends, i][:, None].expand(-1, N_TURNS, 3) for i in (0, 1))
    before = torch.where(ends[:, None] > 0, built[(ends - 1).clamp(min=0), 2], built[ends, 0] + corner)
    before = torch.where(before.isnan(), built[ends, 0] + corner, before)[:, None].expand(-1, N_TURNS, 3)
    carbons = place(before, nitrogen, alpha, 1.525, math.radians(_TAU_DEG), turn.expand(len(ends), -1))
    oxygens = place(
        nitrogen[:, None].expand(-1, N_TURNS, -1, -1),
        alpha[:, None].expand(-1, N_TURNS, -1, -1),
        carbons[:, :, None].expand(-1, -1, N_TURNS, -1),
        1.231,
        math.radians(120.1),
        turn[:, None].expand(len(ends), N_TURNS, -1),
    )
    score = (density(carbons)[:, :, None] + density(oxygens)).flatten(1)
    best = score.argmax(1)
    rows = torch.arange(len(ends))
    built[ends, 2] = carbons[rows, best // N_TURNS]
    built[ends, 3] = oxygens[rows, best // N_TURNS, best % N_TURNS]
