"""Nucleic acids with known errors: shifts of register, bases turned over, shifted stretches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.nucleotide_building import base_and_sugar, model_frames, nucleotide_model
from kernels.models.nucleotides import BASE_ATOMS, GLYCOSIDIC, METHYL, METHYL_PLACE, atom_names, monomer
from kernels.models.residues import BASES
from tasks.validation.planted_errors import UNCLEAR, PlantedModel

NUCLEOTIDE_KINDS = ("none", "register shift", "base turned over", "shifted stretch")
_MARGIN = 2
"""Nucleotides without errors at the ends of chains and between errors."""
_ATOM_JITTER_ANGSTROM = 0.08
_RESIDUE_JITTER_ANGSTROM = 0.15
_BASE_TILT_RAD = math.radians(6)
_SHARE_REBUILT = 0.6
"""Of the nucleotides without error, whose base is laid anew as well."""
_WRONG_FROM_ANGSTROM = 1.5
_RIGHT_UP_TO_ANGSTROM = 0.75


def plant_nucleotide_errors(truth: AtomicModel, share: float, generator: torch.Generator) -> PlantedModel:
    """A model of the same nucleic acid in which about a share of the nucleotides is wrong, one stretch after the other.

    ``error`` holds indices into `NUCLEOTIDE_KINDS`. No atom stands quite where it is.

    Parameters
    ----------
    truth
        Whole nucleotides, as `whole_nucleotides` leaves them.
    """
    plan = _Plan(truth, generator)
    for _ in range(60 * truth.n_residues):
        if float((plan.error != 0).double().mean()) >= share:
            break
        plan.plant(1 + plan.choice(len(NUCLEOTIDE_KINDS) - 1))
    # else what is laid anew could be told from what is not by its geometry
    plan.is_rebuilt |= torch.rand(truth.n_residues, generator=generator) < _SHARE_REBUILT
    return PlantedModel(plan.model(), plan.error)


def whole_nucleotides(model: AtomicModel) -> AtomicModel:
    """Heavy atoms of the nucleotides of the four bases, RNA or DNA, that have all that lie within a chain."""
    parts, kept = [], []
    for i, about in enumerate(model.residues):
        try:
            names = atom_names(*base_and_sugar(about.name))
        except ValueError:
            continue
        index = model.atom(*names)[i]
        if bool((index >= 0).all()):
            kept.append(about)
            parts.append(model.coordinates_angstrom[index])
    return nucleotide_model(tuple(kept), parts)


class _Plan:
    """Places and types of a model's nucleotides as they are changed, error by error."""

    def __init__(self, truth: AtomicModel, generator: torch.Generator) -> None:
        self._truth, self._generator = truth, generator
        self.base = truth.base.clone()
        self.error = torch.zeros(truth.n_residues, dtype=torch.int64)
        self.is_rebuilt = torch.zeros(truth.n_residues, dtype=torch.bool)
        self._is_turned = torch.zeros(truth.n_residues, dtype=torch.bool)
        self._shift = torch.zeros(truth.n_residues, 3, dtype=torch.float64)
        linked = truth.is_linked()
        self._stretch = torch.cat([torch.zeros(1, dtype=torch.int64), (~linked[:-1]).long().cumsum(0)])

    def uniform(self) -> float:
        return float(torch.rand((), generator=self._generator))

    def choice(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self._generator))

    def plant(self, kind: int) -> None:
        """An error of one of `NUCLEOTIDE_KINDS` at a random place, unless something is in its way there."""
        length = (0, 6 + self.choice(9), 1, 6 + self.choice(5))[kind]
        n = self._truth.n_residues
        shift = (1 + self.choice(3)) * (1 if self.choice(2) else -1) if kind == 1 else 0
        start = _MARGIN + self.choice(max(1, n - length - 2 * _MARGIN))
        low, high = min(start - _MARGIN, start + shift), max(start + length + _MARGIN, start + length + shift)
        if low < 0 or high > n or int(self._stretch[low]) != int(self._stretch[high - 1]):
            return
        stretch = slice(start, start + length)
        if bool((self.error[start - _MARGIN : start + length + _MARGIN] != 0).any()):
            return
        if kind == 1:
            source = self._truth.base[start + shift : start + length + shift]
            self.error[stretch] = torch.where(source == self._truth.base[stretch], UNCLEAR, kind)
            self.base[stretch] = source
        elif kind == 2:
            self.error[start] = kind
            self._is_turned[start] = True
        else:
            direction = torch.randn(3, generator=self._generator, dtype=torch.float64)
            phase = torch.arange(1, length + 1, dtype=torch.float64) * (math.pi / (length + 1))
            moved = (2.0 + 2.0 * self.uniform()) * torch.sin(phase) ** 2
            self._shift[stretch] = moved[:, None] * torch.nn.functional.normalize(direction, dim=0)
            clear = torch.where(moved < _RIGHT_UP_TO_ANGSTROM, 0, UNCLEAR)
            self.error[stretch] = torch.where(moved > _WRONG_FROM_ANGSTROM, kind, clear)
        self.is_rebuilt[stretch] = True

    def model(self) -> AtomicModel:
        """The nucleotides of this plan."""
        truth, origin, axes = self._truth, *model_frames(self._truth)
        bounds = torch.searchsorted(truth.residue, torch.arange(truth.n_residues + 1)).tolist()
        residues, parts = [], []
        for i, about in enumerate(truth.residues):
            place = truth.coordinates_angstrom[bounds[i] : bounds[i + 1]]
            old, is_dna = base_and_sugar(about.name)
            base = int(self.base[i])
            if self.is_rebuilt[i]:
                place = self._rebuilt(place, old, base, is_dna, origin[i], axes[i], bool(self._is_turned[i]))
            jitter = _ATOM_JITTER_ANGSTROM * torch.randn(place.shape, generator=self._generator, dtype=torch.float64)
            together = _RESIDUE_JITTER_ANGSTROM * torch.randn(3, generator=self._generator, dtype=torch.float64)
            parts.append(place + jitter + together + self._shift[i])
            residues.append(Residue(about.chain, monomer(base, is_dna), about.number, about.insertion_code))
        return nucleotide_model(tuple(residues), parts)

    def _rebuilt(
        self, place: Tensor, old: int, base: int, is_dna: bool, origin: Tensor, axes: Tensor, is_turned: bool
    ) -> Tensor:
        """(atom, 3) a nucleotide with a base laid into the plane of its old one, tilted a little."""
        before, names = atom_names(old, is_dna), atom_names(base, is_dna)
        flat = {**BASE_ATOMS[BASES[base]], METHYL: METHYL_PLACE}
        laid = {n: place[before.index(n)].flip(-1) for n in names if n not in flat}
        laid |= {n: origin + flat[n][0] * axes[0] + flat[n][1] * axes[1] for n in names if n in flat}
        sugar = laid["C1'"]
        axis = torch.nn.functional.normalize(laid[GLYCOSIDIC[BASES[base]][0]] - sugar, dim=0)
        turn = torch.tensor(_BASE_TILT_RAD * float(torch.randn((), generator=self._generator)), dtype=torch.float64)
        turn = turn + math.pi if is_turned else turn
        found = []
        for name in names:
            arm = laid[name] - sugar
            if name in flat:
                along = (arm @ axis) * axis
                across = arm - along
                arm = along + torch.cos(turn) * across + torch.sin(turn) * torch.linalg.cross(axis, across)
            found.append(sugar + arm)
        return torch.stack(found).flip(-1)
