"""Side chains on a backbone: all rotamers of all residues against density, prior and each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.internal_coordinates import side_chain_coordinates, side_chain_hydrogens, side_chain_names
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within
from kernels.models.residues import AMINO_ACID_LETTERS, PROTEIN_BACKBONE
from kernels.models.restraints import riding_hydrogens, room_kind, room_table
from kernels.models.torsions import rotamers

Density = Callable[[Tensor], Tensor]
"""(...) density at (..., 3) places in Å, (z, y, x); 1 is a strong place."""

_DENSITY_WEIGHT = 5.0
"""Of one atom in a strong place, in natural logarithms of probability."""
_MOST_DENSITY = 1.3
"""An atom gains no more than this, so that a side chain does not lie down in the backbone's density."""
_N_KEPT = 10
"""Rotamers of a residue that are turned into the density and tried with those of its neighbours."""
_CHI_SIGMA_RAD = 0.2
_TURN_STEPS, _TURN_RATE_RAD = 25, 0.04
_ROOM_SIGMA, _MOST_OVERLAP_ENERGY = 0.3, 8.0
_PAIRS_AT_ONCE = 400
_FIELD_ROUNDS = 60
_MOST_ATOMS = 10
"""Of a side chain: tryptophan's."""
_LONGEST_ARM_ANGSTROM = 12.0
"""From the CA of an arginine to what its last atoms have to leave room for."""


@dataclass(frozen=True)
class _Candidates:
    """Kept rotamers of all residues, padded."""

    place: Tensor
    """(residue, rotamer, atom, 3) in (z, y, x)"""
    is_atom: Tensor
    """(residue, atom)"""
    kind: Tensor
    """(residue, atom) as in `restraints.room_kind`."""
    energy: Tensor
    """(residue, rotamer) infinite where there is none."""


def with_side_chains(
    backbone_angstrom: Tensor,
    residues: tuple[Residue, ...],
    amino_acid: Tensor,
    conformation: Tensor,
    density: Density,
    b_factor_angstrom2: float = 40.0,
    fixed: AtomicModel | None = None,
    mates: Mates | None = None,
) -> AtomicModel:
    """All heavy atoms: each residue in the rotamer that suits density, backbone and the neighbours' rotamers best.

    Every rotamer of every residue is scored by itself; the best of each are turned about their bonds into the
    density, and then chosen together by a self-consistent mean field that is cooled.

    Parameters
    ----------
    backbone_angstrom
        (residue, 4, 3) N, CA, C and O in (z, y, x).
    residues, amino_acid
        Their names, and indices into `residues.AMINO_ACIDS`; none may be -1.
    conformation
        (residue,) as in `torsions.conformation`.
    fixed
        Atoms around that the side chains have to leave room for.
    mates
        Of a symmetric map: side chains leave room for the copies of all that is here, whose rotamers are as their own.

    Source
    ------
    Koehl & Delarue 1994, J. Mol. Biol. 239:249 (mean field over rotamers).
    """
    mates = mates if mates is not None and len(mates) > 1 else None
    kept = _kept_rotamers(backbone_angstrom, amino_acid, conformation, density, _Crowd(backbone_angstrom, fixed, mates))
    i, j, energy = _pair_energies(kept)
    if mates is not None:
        i, j, energy = (torch.cat(both) for both in zip((i, j, energy), _mate_energies(kept, mates)))
    chosen = _settled(kept.energy, i, j, energy)
    side = kept.place[torch.arange(len(chosen)), chosen]
    return _assembled(backbone_angstrom, side, residues, amino_acid, b_factor_angstrom2)


def _kept_rotamers(
    backbone: Tensor, amino_acid: Tensor, conformation: Tensor, density: Density, crowd: _Crowd
) -> _Candidates:
    n = len(amino_acid)
    place = torch.zeros(n, _N_KEPT, _MOST_ATOMS, 3, dtype=torch.float64)
    is_atom = torch.zeros(n, _MOST_ATOMS, dtype=torch.bool)
    kind = torch.full((n, _MOST_ATOMS), len(room_table()) - 1)
    energy = torch.full((n, _N_KEPT), torch.inf, dtype=torch.float64)
    energy[:, 0] = 0.0
    for number, letter in enumerate(AMINO_ACID_LETTERS):
        rows = torch.nonzero(amino_acid == number).squeeze(1)
        if letter == "G" or not len(rows):
            continue
        names = side_chain_names(letter)
        frame = backbone[rows].flip(-1)[:, None]
        table = rotamers(letter)
        prior = -table.probability[conformation[rows]].log()
        n_atoms = len(names)
        mass = torch.tensor([1.6 if name[0] == "S" else 1.0 for name in names], dtype=torch.float64)
        kinds = room_kind([name[0] for name in names], side_chain_hydrogens(letter, False)[4:])

        def cost(chi: Tensor) -> Tensor:
            atoms = side_chain_coordinates(letter, frame, chi).flip(-1)  # noqa: B023
            return -_DENSITY_WEIGHT * (density(atoms).clamp(max=_MOST_DENSITY) * mass).sum(-1)  # noqa: B023

        chi = table.chi_rad.expand(len(rows), -1, -1)
        atoms = side_chain_coordinates(letter, frame, chi).flip(-1)
        total = cost(chi) + prior + crowd(atoms, kinds, rows)
        n_kept = min(_N_KEPT, total.shape[1])
        best = total.topk(n_kept, largest=False).indices
        chi, prior = chi.gather(1, best[..., None].expand(-1, -1, chi.shape[-1])), prior.gather(1, best)
        turned, strain = _turned(chi, cost)
        atoms = side_chain_coordinates(letter, frame, turned).flip(-1)
        place[rows, :n_kept, :n_atoms] = atoms
        is_atom[rows, :n_atoms] = True
        kind[rows, :n_atoms] = kinds
        energy[rows, :n_kept] = cost(turned) + prior + strain + crowd(atoms, kinds, rows)
    return _Candidates(place, is_atom, kind, energy)


def _turned(chi: Tensor, cost: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Chi angles moved up the density from their central values, and what the move costs."""
    if not chi.shape[-1]:
        return chi, chi.new_zeros(chi.shape[:-1])
    free = chi.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=_TURN_RATE_RAD)
    for _ in range(_TURN_STEPS):
        optimizer.zero_grad()
        strain = 0.5 * ((free - chi) / _CHI_SIGMA_RAD).square().sum()
        (cost(free).sum() + strain).backward()
        optimizer.step()
    turned = free.detach()
    return turned, 0.5 * ((turned - chi) / _CHI_SIGMA_RAD).square().sum(-1)


def _overlap_energy(distance: Tensor, room: Tensor) -> Tensor:
    return (0.5 * ((room - distance).clamp(min=0) / _ROOM_SIGMA).square()).clamp(max=_MOST_OVERLAP_ENERGY)


class _Crowd:
    """What a side chain's atoms pay for standing in the backbone of other residues, or in atoms that do not move."""

    def __init__(self, backbone: Tensor, fixed: AtomicModel | None, mates: Mates | None) -> None:
        self._place = backbone.reshape(-1, 3)
        self._residue = torch.arange(len(backbone)).repeat_interleave(backbone.shape[1])
        self._kind = room_kind(("N", "C", "C", "O"), (1, 1, 0, 0)).repeat(len(backbone))
        if fixed is not None:
            self._place = torch.cat([self._place, fixed.coordinates_angstrom])
            self._residue = torch.cat([self._residue, torch.full((len(fixed),), -1)])
            self._kind = torch.cat([self._kind, room_kind(fixed.elements, riding_hydrogens(fixed))])
        if mates is not None:
            copies = mates.of(self._place)[1:].flatten(0, 1)
            near = pairs_within(backbone[:, 1], copies, _LONGEST_ARM_ANGSTROM)[1].unique()
            self._kind = torch.cat([self._kind, self._kind[near % len(self._place)]])
            self._place = torch.cat([self._place, copies[near]])
            self._residue = torch.cat([self._residue, torch.full((len(near),), -1)])

    def __call__(self, atoms: Tensor, kinds: Tensor, rows: Tensor) -> Tensor:
        """(residue, rotamer) energy of (residue, rotamer, atom, 3); atoms beyond CB, and CB's neighbours not at all."""
        flat = atoms[..., 1:, :].reshape(-1, 3)
        energy = torch.zeros(len(flat), dtype=torch.float64)
        i, j, distance = pairs_within(flat, self._place, float(room_table().max()))
        n_beyond = atoms.shape[2] - 1
        if n_beyond and len(i):
            own = rows[i // (n_beyond * atoms.shape[1])]
            kind = kinds[1:][i % n_beyond]
            apart = self._residue[j] != own
            cost = _overlap_energy(distance, room_table()[kind, self._kind[j]]) * apart
            energy.index_add_(0, i, cost)
        return energy.reshape(*atoms.shape[:2], n_beyond).sum(-1)


def _pair_energies(kept: _Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """Residues i < j that can meet, and what each of their pairs of rotamers costs, (pair, rotamer i, rotamer j)."""
    there, beta, reach = _reaches(kept)
    i, j, distance = pairs_within(beta[there], beta[there], float(2 * reach.max() + room_table().max()))
    i, j = there[i], there[j]
    close = (i < j) & (distance < reach[i] + reach[j] + float(room_table().max()))
    i, j = i[close], j[close]
    return _felt(kept, i, j, lambda some: kept.place[j[some]])


def _mate_energies(kept: _Candidates, mates: Mates) -> tuple[Tensor, Tensor, Tensor]:
    """The same of residues and copies of residues; each meeting is listed from both sides, and so counted half."""
    there, beta, reach = _reaches(kept)
    copies = mates.of(beta[there])[1:].flatten(0, 1)
    i, row, distance = pairs_within(beta[there], copies, float(2 * reach.max() + room_table().max()))
    i, j, operation = there[i], there[row % len(there)], row // len(there) + 1
    close = distance < reach[i] + reach[j] + float(room_table().max())
    i, j, operation = i[close], j[close], operation[close]

    def there_of(some: Tensor) -> Tensor:
        places = kept.place[j[some]]
        moved = mates.moved(operation[some].repeat_interleave(places.shape[1] * places.shape[2]), places.reshape(-1, 3))
        return moved.reshape(places.shape)

    i, j, energy = _felt(kept, i, j, there_of)
    return i, j, energy / 2


def _reaches(kept: _Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """Residues that have a side chain, (residue, 3) CB of all, and (residue,) how far any rotamer reaches from it."""
    beta = kept.place[:, 0, 0]
    there = kept.is_atom[:, None] & kept.energy.isfinite()[..., None]
    reach = (kept.place - beta[:, None, None]).norm(dim=-1) * there
    return torch.nonzero(kept.is_atom.any(1)).squeeze(1), beta, reach.amax((1, 2))


def _felt(
    kept: _Candidates, i: Tensor, j: Tensor, second_place: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs that feel each other, and what each two of their rotamers cost; the places of the second are asked for."""
    n = kept.place.shape[1]
    # in one piece: parts kept between the blocks would hold the freed memory of each block, 2.5 GB for 500 residues
    energy = torch.zeros(len(i), n, n, dtype=torch.float64)
    for some in torch.arange(len(i)).split(_PAIRS_AT_ONCE):
        a, b = i[some], j[some]
        first, second = kept.place[a].flatten(1, 2).float(), second_place(some).flatten(1, 2).float()
        room = room_table().float()[kept.kind[a][:, :, None], kept.kind[b][:, None, :]]
        valid = kept.is_atom[a][:, :, None] & kept.is_atom[b][:, None, :]
        n_rotamers, n_atoms = kept.place.shape[1:3]
        gap = torch.cdist(first, second).reshape(len(some), n_rotamers, n_atoms, n_rotamers, n_atoms)
        cost = _overlap_energy(gap, room[:, None, :, None, :]) * valid[:, None, :, None, :]
        energy[some] = cost.sum((2, 4)).double()
    felt = energy.amax((1, 2)) > 0
    return i[felt], j[felt], energy[felt]


def _settled(own: Tensor, i: Tensor, j: Tensor, pair: Tensor) -> Tensor:
    """(residue,) rotamer of each, from probabilities that feel one another and are sharpened step by step."""
    probability = torch.softmax(-own, 1)
    for step in range(_FIELD_ROUNDS):
        field = own.clone()
        field.index_add_(0, i, torch.einsum("pab,pb->pa", pair, probability[j]))
        field.index_add_(0, j, torch.einsum("pab,pa->pb", pair, probability[i]))
        sharpness = min(4.0, 0.3 + 4.0 * step / _FIELD_ROUNDS)
        probability = 0.5 * probability + 0.5 * torch.softmax(-sharpness * field, 1)
    return probability.argmax(1)


def _assembled(
    backbone: Tensor, side: Tensor, residues: tuple[Residue, ...], amino_acid: Tensor, b_factor_angstrom2: float
) -> AtomicModel:
    names_of = [(*PROTEIN_BACKBONE, *side_chain_names(letter)) for letter in AMINO_ACID_LETTERS]
    length = torch.tensor([len(names) for names in names_of])[amino_acid]
    together = torch.cat([backbone, side], 1)
    there = torch.arange(together.shape[1]) < length[:, None]
    names = tuple(name for number in amino_acid.tolist() for name in names_of[number])
    return AtomicModel(
        residues,
        torch.arange(len(residues)).repeat_interleave(length),
        names,
        tuple(name[0] for name in names),
        together[there],
        torch.full((len(names),), b_factor_angstrom2),
        torch.ones(len(names)),
    )
