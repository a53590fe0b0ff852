"""Doubtful windows of a model built in several ways; what map and chemistry like best is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.assessment import likelihood_tables
from kernels.models.atomic_model import AtomicModel
from kernels.models.detections import ProteinDetections
from kernels.models.map_likelihood import map_likelihood
from kernels.models.mates import Mates
from kernels.models.neighbours import nearest_first, pairs_within
from kernels.models.real_space import density_target
from kernels.models.register import MOST_SHIFT, RegisterShift, best_register_shift
from kernels.models.residues import AMINO_ACIDS, PROTEIN_BACKBONE
from kernels.models.retracing import Candidates
from kernels.models.side_chain_profile import amino_acid_evidence, side_chain_profile
from kernels.models.threading import profile_log_odds
from tasks.rebuilding.alternatives import Targets, alternatives, refined_windows, with_backbone
from tasks.rebuilding.letters import letters_around
from tasks.rebuilding.windows import Part, Windows, part_of, replaced, windows_about

_TRACE_BLUR_ANGSTROM2, _ATOM_BLUR_ANGSTROM2 = 60.0, 20.0
_LEAST_ENERGY_GAIN = 4.0
"""For a window to be changed, in natural logarithms of probability."""
_LEAST_REGISTER_GAIN = 3.0
_BREAK_COST = 3.0
_CANDIDATE_REACH_ANGSTROM = 2.0
_LEAST_CONFIDENCE = 0.2
_TEMPERATURE = 1.0


@dataclass(frozen=True)
class WindowOutcome:
    """What became of one window."""

    chain: str
    first: str
    last: str
    n_residues: int
    taken: str
    """kept, side chains, peptides, slid or traced"""
    energy_gain: float
    """Of what was taken over what was there"""
    shift: int | None = None
    """By which the sequence was shifted, for part of it"""
    register_gain: float | None = None

    @property
    def is_changed(self) -> bool:
        return self.taken != "kept" or self.shift is not None


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A model after a round, and what was done."""

    model: AtomicModel
    outcomes: tuple[WindowOutcome, ...]
    n_left_out: int
    """Residues that a shift of the register left no number for, or that left the map"""


def rebuilt(
    model: AtomicModel,
    is_doubtful: Tensor,
    grid: DensityGrid,
    resolution_angstrom: float,
    sequences: Sequence[Tensor] = (),
    detections: ProteinDetections | None = None,
    mates: Mates | None = None,
) -> Rebuilt:
    """One round of rebuilding.

    Alternatives of backbone and side chains are chosen by the likelihood of the map, geometry, Ramachandran and
    crowding; the register by the network's amino acids, or, without a network, by side-chain density.

    Parameters
    ----------
    model
        All heavy atoms.
    is_doubtful
        (residue,) what is to be built anew.
    grid
        The map to build in and to choose by; where another is kept to compare rounds by, it is not this one.
    sequences
        As for `letters_around`.
    mates
        Of a symmetric map, whose unit the model is.
    """
    mates = mates if mates is not None and len(mates) > 1 else None
    model = model.take(torch.tensor([e not in ("H", "D") for e in model.elements], dtype=torch.bool))
    windows = windows_about(model, is_doubtful)
    if not windows.n:
        return Rebuilt(model, (), 0)
    alpha = model.positions("CA")[:, 0]
    alpha = alpha[alpha.isfinite().all(-1)]
    targets = Targets(
        density_target(grid, alpha, _TRACE_BLUR_ANGSTROM2),
        density_target(grid, alpha, _ATOM_BLUR_ANGSTROM2),
        map_likelihood(grid, model, resolution_angstrom, mates),
        _candidates(detections),
        mates,
    )
    model, taken, gain = _best_alternatives(model, windows, targets)
    evidence = amino_acid_odds(model, grid, resolution_angstrom, detections)
    shifts = register_shifts(model, windows, evidence, letters_around(model, sequences))
    shifted, left = _shifted(model, windows, shifts, sequences, targets)
    outcomes = [
        _outcome(model, windows, number, taken[number], float(gain[number]), shifts.get(number))
        for number in range(windows.n)
    ]
    inside = _is_inside(shifted, grid)
    return Rebuilt(shifted.take_residues(inside), tuple(outcomes), left + int((~inside).sum()))


def _is_inside(model: AtomicModel, grid: DensityGrid) -> Tensor:
    """(residue,) whether all of its atoms lie in the map; a window at its edge may have been pulled out of it."""
    place = grid.to_voxels(model.coordinates_angstrom)
    is_out = ((place < 0) | (place > torch.tensor(grid.voxels.shape) - 1)).any(-1)
    return torch.bincount(model.residue[is_out], minlength=model.n_residues) == 0


def _candidates(detections: ProteinDetections | None) -> Candidates | None:
    if detections is None:
        return None
    sure = detections.surest(_LEAST_CONFIDENCE).on_cpu()
    return Candidates(sure.alpha_angstrom.double(), sure.confidence)


def _best_alternatives(model: AtomicModel, windows: Windows, targets: Targets) -> tuple[AtomicModel, list[str], Tensor]:
    """The model with the best way in each window, what it is called, and (window,) what it gains."""
    part = part_of(model, windows, targets.mates)
    ways = alternatives(part, targets, windows.n)
    energy = torch.stack([way.energy for way in ways])
    gain = energy[0] - energy
    gain[0] = 0.0
    best = gain.argmax(0)
    best = torch.where(gain.gather(0, best[None])[0] >= _LEAST_ENERGY_GAIN, best, 0)
    taken = [ways[i].name for i in best.tolist()]
    changed = torch.nonzero(best > 0).squeeze(1)
    if len(changed):
        window = part.window[ways[0].model.residue]
        place = torch.stack([way.model.coordinates_angstrom for way in ways])
        place = place[best[window.clamp(min=0)], torch.arange(len(window))]
        is_free = torch.isin(window, changed)
        settled = refined_windows(ways[0].model.at(place), part, targets, is_free)
        model = _put_back(model, part, settled, torch.isin(part.window, changed))
    return model, taken, gain.gather(0, best[None])[0]


def _put_back(model: AtomicModel, part: Part, new: AtomicModel, is_changed: Tensor) -> AtomicModel:
    """Residues of a part in the whole model."""
    return replaced(model, part.rows[is_changed], new.take_residues(is_changed))


def amino_acid_odds(
    model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, detections: ProteinDetections | None
) -> Tensor:
    """(residue, 20) log-odds of each type at each residue, NaN where nothing is known."""
    if detections is None:
        resolution = torch.full((model.n_residues,), resolution_angstrom, dtype=torch.float64)
        return amino_acid_evidence(side_chain_profile(grid, model), resolution, *likelihood_tables())
    sure = detections.surest(_LEAST_CONFIDENCE).on_cpu()
    odds = torch.full((model.n_residues, len(AMINO_ACIDS)), math.nan, dtype=torch.float64)
    alpha = model.positions("CA")[:, 0]
    rows = torch.nonzero((model.amino_acid >= 0) & alpha.isfinite().all(-1)).squeeze(1)
    i, j, distance = pairs_within(alpha[rows], sure.alpha_angstrom.to(alpha), _CANDIDATE_REACH_ANGSTROM)
    if len(i):
        nearest, _ = nearest_first(i, j, distance, len(rows))
        seen = nearest[:, 0] >= 0
        told = profile_log_odds(sure.amino_acid, sure.confidence.clamp(0.05, 0.97), _TEMPERATURE).double()
        odds[rows[seen]] = told[nearest[seen, 0]]
    return odds


def register_shifts(
    model: AtomicModel, windows: Windows, evidence: Tensor, letters: Tensor, break_cost: float = _BREAK_COST
) -> dict[int, RegisterShift]:
    """The shift of the sequence about each window that gains enough, in residues of the whole model."""
    stretch = torch.nn.functional.pad((~windows.linked[:-1]).long().cumsum(0), (1, 0))
    found: dict[int, RegisterShift] = {}
    for number in range(windows.n):
        rows = torch.nonzero(stretch == stretch[windows.rows(number)[0]]).squeeze(1)
        doubtful = (windows.window[rows] == number) & windows.is_doubtful[rows]
        if not doubtful.any():
            continue
        shift = best_register_shift(evidence[rows], model.amino_acid[rows], letters[rows], doubtful, break_cost)
        if shift is not None and shift.gain >= _LEAST_REGISTER_GAIN:
            first = int(rows[0])
            found[number] = replace(shift, first=shift.first + first, end=shift.end + first)
    return found


def _shifted(
    model: AtomicModel,
    windows: Windows,
    shifts: dict[int, RegisterShift],
    sequences: Sequence[Tensor],
    targets: Targets,
) -> tuple[AtomicModel, int]:
    """The model with its types and numbers shifted and side chains to match, and how many residues were left out."""
    if not shifts:
        return model, 0
    letters = letters_around(model, sequences)
    residues, is_changed = list(model.residues), torch.zeros(model.n_residues, dtype=torch.bool)
    for shift in shifts.values():
        for row in range(shift.first, shift.end):
            letter = int(letters[row, MOST_SHIFT + shift.shift])
            about = residues[row]
            name = AMINO_ACIDS[letter] if letter >= 0 else about.name
            is_changed[row] |= name != about.name
            residues[row] = replace(about, name=name, number=about.number + shift.shift)
    whole = is_changed & model.positions(*PROTEIN_BACKBONE).isfinite().all(-1).all(-1)
    renamed = replace(model, residues=tuple(residues))
    touched = windows_about(renamed, whole)
    touched = replace(touched, window=torch.where(whole, 0, -1))
    part = part_of(renamed, touched, targets.mates)
    inside = torch.nonzero(part.window >= 0).squeeze(1)
    built = with_backbone(part, inside, part.model.positions(*PROTEIN_BACKBONE), targets)
    settled = refined_windows(built, part, targets, part.window[built.residue] >= 0)
    renamed = _put_back(renamed, part, settled, part.window >= 0)
    kept = without_repeats(renamed, shifts)
    return renamed.take_residues(kept), int((~kept).sum())


def without_repeats(model: AtomicModel, shifts: dict[int, RegisterShift]) -> Tensor:
    """(residue,) False for shifted residues whose number another one of the chain has, or has passed."""
    number = torch.tensor([r.number for r in model.residues])
    names = {name: i for i, name in enumerate(dict.fromkeys(r.chain for r in model.residues))}
    chain = torch.tensor([names[r.chain] for r in model.residues])
    kept = torch.ones(model.n_residues, dtype=torch.bool)
    for shift in shifts.values():
        own = slice(shift.first, shift.end)
        mine = chain == chain[shift.first]
        before, after = mine.clone(), mine.clone()
        before[shift.first :], after[: shift.end] = False, False
        if before.any():
            kept[own] &= number[own] > number[before].max()
        if after.any():
            kept[own] &= number[own] < number[after].min()
    return kept


def _outcome(
    model: AtomicModel, windows: Windows, number: int, taken: str, gain: float, shift: RegisterShift | None
) -> WindowOutcome:
    rows = windows.rows(number)
    first, last = model.residues[int(rows[0])], model.residues[int(rows[-1])]
    return WindowOutcome(
        first.chain,
        f"{first.number}{first.insertion_code}",
        f"{last.number}{last.insertion_code}",
        len(rows),
        taken,
        round(gain, 1),
        None if shift is None else shift.shift,
        None if shift is None else round(shift.gain, 1),
    )
