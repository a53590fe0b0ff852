"""Models with known errors: shifts of register, flipped peptides, shifted loops, wrong side chains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.internal_coordinates import side_chain_coordinates, side_chain_names
from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS, PROTEIN_BACKBONE
from kernels.models.torsions import rotamers, side_chain_torsions

KINDS = ("none", "register shift", "peptide flip", "shifted loop", "wrong side chain")
UNCLEAR = -1
"""Of residues beside an error that are partly right."""
_MARGIN = 4
"""Residues without errors at the ends of chains and between errors."""
_ATOM_JITTER_ANGSTROM = 0.08
_RESIDUE_JITTER_ANGSTROM = 0.15
_SHARE_REBUILT = 0.6
"""Of the residues without error, whose side chain is built anew as well."""
_CHI_JITTER_RAD = math.radians(8)
_OTHER_ROTAMER_RAD = math.radians(60)
_WRONG_FROM_ANGSTROM = 1.5
_RIGHT_UP_TO_ANGSTROM = 0.75
"""How far the Cα of a shifted loop has moved; between both it is neither right nor wrong."""


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """A model, and what is wrong with it."""

    model: AtomicModel
    error: Tensor
    """(residue,) int64 index into `KINDS`, `UNCLEAR` where a residue should not be counted."""


def plant_errors(truth: AtomicModel, grid: DensityGrid, share: float, generator: torch.Generator) -> PlantedModel:
    """A model of the same protein in which about a share of the residues is wrong, one stretch after the other.

    Side chains that an error moves are built anew in the rotamer that the density likes best, as a builder would; and
    no atom stands quite where it is.

    Parameters
    ----------
    truth
        Heavy atoms of amino acids.
    """
    plan = _Plan(truth, generator)
    for _ in range(60 * truth.n_residues):
        if float((plan.error != 0).double().mean()) >= share:
            break
        plan.plant(plan.choice(len(KINDS) - 1) + 1)
    # else what is built anew could be told from what is not by its rotamers and clashes
    plan.is_rebuilt |= torch.rand(truth.n_residues, generator=generator) < _SHARE_REBUILT
    model = _built(truth, plan, grid, generator)
    turned = (side_chain_torsions(model)[:, 0] - side_chain_torsions(truth)[:, 0]).nan_to_num()
    is_turned = (torch.remainder(turned + math.pi, math.tau) - math.pi).abs() > _OTHER_ROTAMER_RAD / 2
    error = torch.where((plan.error == 0) & plan.is_rebuilt & is_turned, UNCLEAR, plan.error)
    return PlantedModel(model, error)


class _Plan:
    """Backbone and sequence of a model as they are changed, error by error."""

    def __init__(self, truth: AtomicModel, generator: torch.Generator) -> None:
        self._truth, self._generator = truth, generator
        self.backbone = truth.positions(*PROTEIN_BACKBONE).clone()
        self.amino_acid = truth.amino_acid.clone()
        self.error = torch.zeros(truth.n_residues, dtype=torch.int64)
        self.is_rebuilt = torch.zeros(truth.n_residues, dtype=torch.bool)
        self.is_turned = torch.zeros(truth.n_residues, dtype=torch.bool)
        """Whether the side chain has to stand in another rotamer than the true one."""
        self._run = _linked_run(self.backbone.isfinite().all(-1).all(-1), truth.is_linked())

    def uniform(self) -> float:
        return float(torch.rand((), generator=self._generator))

    def choice(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self._generator))

    def plant(self, kind: int) -> None:
        """An error of one of `KINDS` at a random place, unless something is in its way there."""
        length = (0, 8 + self.choice(13), 2, 9 + self.choice(6), 1)[kind]
        start = _MARGIN + self.choice(max(1, self._truth.n_residues - length - 2 * _MARGIN))
        end = start + length
        if end + _MARGIN > self._truth.n_residues or int(self._run[end + _MARGIN - 1]) < length + 2 * _MARGIN:
            return
        if (self.error[start - _MARGIN : end + _MARGIN] != 0).any():
            return
        stretch = slice(start, end)
        if kind == 1:
            shift = (1 + self.choice(3)) * (1 if self.choice(2) else -1)
            source = self._truth.amino_acid[start + shift : end + shift]
            self.error[stretch] = torch.where(source == self._truth.amino_acid[stretch], UNCLEAR, kind)
            self.amino_acid[stretch] = source
        elif kind == 2:
            _flip_peptide(self.backbone, start)
            self.error[start], self.error[start + 1] = kind, UNCLEAR
        elif kind == 3:
            moved = self._shift_loop(stretch)
            clear = torch.where(moved < _RIGHT_UP_TO_ANGSTROM, 0, UNCLEAR)
            self.error[stretch] = torch.where(moved > _WRONG_FROM_ANGSTROM, kind, clear)
        elif AMINO_ACID_LETTERS[int(self.amino_acid[start])] not in "AGP":
            self.error[start], self.is_turned[start] = kind, True
        else:
            return
        self.is_rebuilt[stretch] = True

    def _shift_loop(self, stretch: slice) -> Tensor:
        """(residue,) how far each residue of a stretch is moved in Å, those in the middle the most."""
        length = stretch.stop - stretch.start
        direction = torch.nn.functional.normalize(torch.randn(3, generator=self._generator, dtype=torch.float64), dim=0)
        phase = torch.arange(1, length + 1, dtype=torch.float64) * (math.pi / (length + 1))
        moved = (2.0 + 2.0 * self.uniform()) * torch.sin(phase) ** 2
        self.backbone[stretch] += moved[:, None, None] * direction
        return moved


def _flip_peptide(backbone: Tensor, residue: int) -> None:
    """Turn C and O of a residue and N of the next half around the line between both CA, in place."""
    first, second = backbone[residue, 1], backbone[residue + 1, 1]
    axis = torch.nn.functional.normalize(second - first, dim=0)
    for at, atom in ((residue, 2), (residue, 3), (residue + 1, 0)):
        arm = backbone[at, atom] - first
        backbone[at, atom] = first + 2 * (arm @ axis) * axis - arm


def _linked_run(whole: Tensor, linked: Tensor) -> Tensor:
    """(residue,) how many whole residues in a row, bound to one another, end with each."""
    found, length = [], 0
    for is_whole, is_bound in zip(whole.tolist(), [False, *linked[:-1].tolist()]):
        length = (length + 1 if is_bound else 1) if is_whole else 0
        found.append(length)
    return torch.tensor(found)


def _built(truth: AtomicModel, plan: _Plan, grid: DensityGrid, generator: torch.Generator) -> AtomicModel:
    """The model of a plan: untouched residues as they were, all others built from their backbone."""
    bounds = torch.searchsorted(truth.residue, torch.arange(truth.n_residues + 1)).tolist()
    n_atoms = torch.bincount(truth.residue, minlength=truth.n_residues)
    b_factor = torch.bincount(truth.residue, truth.b_factor_angstrom2.float(), truth.n_residues) / n_atoms
    true_chi = side_chain_torsions(truth)[:, 0]
    residues, residue, names, places, b_factors = [], [], [], [], []
    for i, about in enumerate(truth.residues):
        if not plan.is_rebuilt[i]:
            mine = slice(bounds[i], bounds[i + 1])
            found, place = list(truth.names[mine]), truth.coordinates_angstrom[mine]
            residues.append(about)
        else:
            letter = AMINO_ACID_LETTERS[int(plan.amino_acid[i])]
            avoided = float(true_chi[i]) if plan.is_turned[i] else None
            side_chain = _best_side_chain(letter, plan.backbone[i].flip(-1), grid, avoided, generator)
            found = [*PROTEIN_BACKBONE, *side_chain_names(letter)]
            place = torch.cat([plan.backbone[i], side_chain.flip(-1)])
            residues.append(
                Residue(about.chain, AMINO_ACIDS[int(plan.amino_acid[i])], about.number, about.insertion_code)
            )
        names += found
        residue += [i] * len(found)
        places.append(place)
        b_factors.append(b_factor[i].expand(len(found)))
    place = torch.cat(places)
    jitter = _ATOM_JITTER_ANGSTROM * torch.randn(place.shape, generator=generator, dtype=torch.float64)
    together = _RESIDUE_JITTER_ANGSTROM * torch.randn(truth.n_residues, 3, generator=generator, dtype=torch.float64)
    index = torch.tensor(residue)
    elements = tuple(name[0] for name in names)
    return AtomicModel(
        tuple(residues),
        index,
        tuple(names),
        elements,
        place + jitter + together[index],
        torch.cat(b_factors),
        torch.ones(len(names)),
    )


def _best_side_chain(
    letter: str, backbone: Tensor, grid: DensityGrid, avoided_rad: float | None, generator: torch.Generator
) -> Tensor:
    """(atom, 3) CB and beyond, (x, y, z), near the rotamer with most density; its first chi far from one to avoid."""
    chi = rotamers(letter).chi_rad
    if avoided_rad is not None and math.isfinite(avoided_rad):
        away = torch.remainder(chi[:, 0] - avoided_rad + math.pi, math.tau) - math.pi
        chi = chi[away.abs() > _OTHER_ROTAMER_RAD]
    chi = chi + _CHI_JITTER_RAD * torch.randn(chi.shape, generator=generator, dtype=chi.dtype)
    atoms = side_chain_coordinates(letter, backbone.expand(len(chi), -1, -1), chi)
    if atoms.shape[1] == 0:
        return atoms[0]
    return atoms[int(grid.values_at(atoms.flip(-1)).sum(-1).argmax())]
