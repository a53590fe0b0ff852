"""What may stand in the windows of a model instead, and how well the map and chemistry like each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.all_atoms import bare_model
from kernels.models.atomic_model import AtomicModel
from kernels.models.backbone import backbone_on_trace, regular_trace
from kernels.models.map_likelihood import MapLikelihood
from kernels.models.mates import Mates
from kernels.models.real_space import DensityTarget, Weights, energies_of_groups, refined_in_real_space
from kernels.models.residues import PROTEIN_BACKBONE
from kernels.models.retracing import Candidates, Ends, retraced
from kernels.models.side_chains import with_side_chains
from kernels.models.torsions import backbone_torsions, conformation
from tasks.rebuilding.windows import Part, replaced

_SLIDES_ANGSTROM, _HELD_ANGSTROM = 2.5, 0.02
_LONGEST_TRACED = 30
_FIRST, _LAST = Weights(geometry=0.2, density=1.0, room=1.0), Weights()
_STEPS = 60


@dataclass(frozen=True, eq=False)
class Alternative:
    """Every window in another way; all alternatives have the same atoms."""

    name: str
    model: AtomicModel
    """The part, its windows refined"""
    energy: Tensor
    """(window,) what map, chemistry, Ramachandran and crowding say of it; infinite where it has no such way"""


@dataclass(frozen=True, eq=False)
class Targets:
    """The map in the forms that building wants it in."""

    coarse: DensityTarget
    """For traces"""
    fine: DensityTarget
    """For peptides and side chains"""
    likelihood: MapLikelihood
    """For choosing"""
    candidates: Candidates | None
    mates: Mates | None = None
    """Of a symmetric map: windows keep off the copies as well"""


def alternatives(part: Part, targets: Targets, n_windows: int) -> list[Alternative]:
    """The windows as they are, first; with side chains, peptides, and the trace anew."""
    inside = torch.nonzero(part.window >= 0).squeeze(1)
    backbone = part.model.positions(*PROTEIN_BACKBONE)
    fresh = with_backbone(part, inside, backbone, targets)
    everywhere = torch.ones(n_windows, dtype=torch.bool)
    found = [_weighed("kept", kept_where_known(fresh, part.model), everywhere, part, targets, (_LAST,))]
    found.append(_weighed("side chains", fresh, everywhere, part, targets, (_LAST,)))
    alpha = backbone[:, 1]
    for name, trace, is_there in ((("peptides", alpha, everywhere)), *_traces(part, alpha, targets, n_windows)):
        turned = _peptides_anew(part, backbone, trace, targets, is_there)
        moved = with_backbone(part, inside, turned, targets)
        schedule = (_LAST,) if name == "peptides" else (_FIRST, _LAST)
        found.append(_weighed(name, moved, is_there, part, targets, schedule))
    return found


def with_backbone(part: Part, inside: Tensor, backbone: Tensor, targets: Targets) -> AtomicModel:
    """The part with the backbone (residue, 4, 3) in some of its residues, and their side chains fitted to it."""
    whole = torch.nonzero(backbone.isfinite().all(-1).all(-1)).squeeze(1)
    about = tuple(part.model.residues[i] for i in whole.tolist())
    turned = torch.full((part.model.n_residues,), 2, dtype=torch.int64)
    turned[whole] = conformation(backbone_torsions(bare_model(backbone[whole], about)))
    is_other = torch.ones(part.model.n_residues, dtype=torch.bool)
    is_other[inside] = False
    built = with_side_chains(
        backbone[inside],
        tuple(part.model.residues[i] for i in inside.tolist()),
        part.model.amino_acid[inside],
        turned[inside],
        targets.fine,
        _mean_b_factor(part.model),
        part.model.take_residues(is_other),
        targets.mates,
    )
    return replaced(part.model, inside, built)


def _mean_b_factor(model: AtomicModel) -> float:
    return float(model.b_factor_angstrom2.median())


def kept_where_known(built: AtomicModel, before: AtomicModel) -> AtomicModel:
    """Atoms of a model where they were before, as far as they were there."""
    there = {(int(r), name): i for i, (r, name) in enumerate(zip(before.residue.tolist(), before.names))}
    index = torch.tensor([there.get((r, name), -1) for r, name in zip(built.residue.tolist(), built.names)])
    old = before.coordinates_angstrom[index.clamp(min=0)]
    return built.at(torch.where((index >= 0)[:, None], old, built.coordinates_angstrom))


def _traces(part: Part, alpha: Tensor, targets: Targets, n_windows: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, (residue, 3) Cα, and in which windows they differ from those that stand there."""
    everywhere = torch.ones(n_windows, dtype=torch.bool)
    traced, is_traced = _traced(part, alpha, targets, n_windows)
    for name, start, reach, is_there in (
        ("slid", alpha, _SLIDES_ANGSTROM, everywhere),
        ("traced", traced, 0.7, is_traced),
    ):
        if is_there.any():
            yield name, _regular(part, start, targets, reach), is_there


def _regular(part: Part, alpha: Tensor, targets: Targets, reach_angstrom: float) -> Tensor:
    rows = torch.nonzero(alpha.isfinite().all(-1)).squeeze(1)
    linked = part.linked[rows].clone()
    linked[:-1] &= rows[1:] == rows[:-1] + 1
    linked[-1:] = False
    tether = torch.where(part.window[rows, None] >= 0, reach_angstrom, _HELD_ANGSTROM).double()
    moved = alpha.clone()
    moved[rows] = regular_trace(alpha[rows], linked, part.model.amino_acid[rows], targets.coarse, tether)
    return moved


def _traced(part: Part, alpha: Tensor, targets: Targets, n_windows: int) -> tuple[Tensor, Tensor]:
    found, is_traced = alpha.clone(), torch.zeros(n_windows, dtype=torch.bool)
    outside = part.window[part.model.residue] < 0
    for number in range(n_windows):
        rows = torch.nonzero(part.window == number).squeeze(1)
        first, last = int(rows[0]), int(rows[-1])
        if len(rows) > _LONGEST_TRACED or first < 2 or last + 2 >= len(alpha):
            continue
        if not part.linked[first - 2 : last + 2].all():
            continue
        is_neighbour = (part.model.residue == first - 1) | (part.model.residue == last + 1)
        others = part.model.coordinates_angstrom[outside & ~is_neighbour]
        if targets.mates is not None:
            others = torch.cat([others, *targets.mates.of(part.model.coordinates_angstrom)[1:]])
        ends = Ends(alpha[first - 2 : first], alpha[last + 1 : last + 3])
        path = retraced(alpha[rows], ends, others, targets.coarse, targets.candidates)
        if path is not None:
            found[rows], is_traced[number] = path, True
    return found, is_traced


def _peptides_anew(part: Part, backbone: Tensor, alpha: Tensor, targets: Targets, is_there: Tensor) -> Tensor:
    """(residue, 4, 3) backbone with the best peptides on a trace, in the windows where it is there."""
    rows = torch.nonzero(backbone.isfinite().all(-1).all(-1)).squeeze(1)
    linked = part.linked[rows].clone()
    linked[:-1] &= rows[1:] == rows[:-1] + 1
    linked[-1:] = False
    new = backbone.clone()
    new[rows] = backbone_on_trace(alpha[rows], linked, part.model.amino_acid[rows], targets.fine).double()
    inside = (part.window >= 0) & torch.nn.functional.pad(is_there, (0, 1))[part.window]
    both = torch.zeros_like(inside)  # a peptide is turned with the residues on either side of it
    both[:-1] = inside[:-1] & inside[1:] & part.linked[:-1]
    found = backbone.clone()
    found[inside, 1] = new[inside, 1]
    found[both, 2:] = new[both, 2:]
    after = torch.roll(both, 1)
    found[after, 0] = new[after, 0]
    return found


def _weighed(
    name: str, model: AtomicModel, is_there: Tensor, part: Part, targets: Targets, schedule: tuple[Weights, ...]
) -> Alternative:
    free = part.window[model.residue]
    refined = refined_windows(model, part, targets, free >= 0, schedule)
    energy = energies_of_groups(refined, targets.likelihood.of(refined), free, _LAST, part.linked, targets.mates)
    return Alternative(name, refined, torch.where(is_there, energy, torch.inf))


def refined_windows(
    model: AtomicModel,
    part: Part,
    targets: Targets,
    is_free: Tensor,
    schedule: tuple[Weights, ...] = (_FIRST, _LAST),
) -> AtomicModel:
    """Some atoms moved up the density as far as chemistry and the atoms around let them."""
    likelihood = targets.likelihood.of(model)
    for weights in schedule:
        model = refined_in_real_space(model, likelihood, weights, _STEPS, part.linked, is_free, targets.mates).model
    return model
