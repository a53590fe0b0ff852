"""All heavy atoms of proteins from a Cα trace and a map: rounds of backbone, side chains and refinement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.backbone import backbone_on_trace, regular_trace
from kernels.models.map_likelihood import map_likelihood, map_surprise
from kernels.models.mates import Mates
from kernels.models.real_space import Weights, density_target, energies, refined_in_real_space
from kernels.models.side_chains import with_side_chains
from kernels.models.torsions import backbone_torsions, conformation

_TRACE_BLUR_ANGSTROM2, _ATOM_BLUR_ANGSTROM2 = 60.0, 20.0
"""The trace is far off and wants gradients that reach far; atoms are near and want the map's detail."""
_SCHEDULE = (
    (Weights(geometry=0.03, density=1.0, room=1.0), 60),
    (Weights(geometry=0.2, density=1.0, room=1.0), 60),
    (Weights(), 90),
)
"""With steps: atoms find their density first, and their chemistry after it."""
_CLEARING = ((Weights(hydrogens=1.0), 60),)
_FLIP_ANGSTROM = 1.2
"""An oxygen that moves further makes another peptide."""
_MOST_DENSITY, _LEAST_GAIN = 1.3, 0.5
"""Of an atom, and of a side chain that is worth replacing, in units of a strong place."""
_LONGEST_LINK_ANGSTROM = 6.5
"""Between Cα atoms of a trace that has errors of up to 1 Å."""


@dataclass(frozen=True, eq=False)
class Built:
    """What one round made of a trace."""

    model: AtomicModel
    surprise: float
    """Of map, chemistry and Ramachandran; rounds of one map may be compared by it, lower is better."""


def linked_by_trace(trace: AtomicModel) -> Tensor:
    """(residue,) whether the next residue of the same chain follows: next in number, and near enough."""
    linked = torch.zeros(trace.n_residues, dtype=torch.bool)
    alpha = trace.positions("CA")[:, 0]
    near = (alpha[1:] - alpha[:-1]).norm(dim=-1) < _LONGEST_LINK_ANGSTROM
    pairs = zip(trace.residues, trace.residues[1:])
    linked[:-1] = near & torch.tensor([_follows(a, b) for a, b in pairs], dtype=torch.bool)
    return linked


def _follows(first: Residue, second: Residue) -> bool:
    return first.chain == second.chain and second.number - first.number in (0, 1)


def built_rounds(
    trace: AtomicModel,
    grid: DensityGrid,
    resolution_angstrom: float,
    n_rounds: int = 2,
    mates: Mates | None = None,
) -> list[Built]:
    """All heavy atoms about a trace, round after round; each starts from the Cα atoms of the one before.

    Parameters
    ----------
    trace
        Amino acids with a CA each, off by up to 1 Å or so; N, C and O are used as hints where they are there.
    grid
        The sharpened map, in the frame of the trace.
    mates
        Of a symmetric map; copies keep off each other.

    Raises
    ------
    ValueError
        Where a residue is no amino acid or has no CA, or the trace lies outside of the map.
    """
    _require_trace(trace)
    linked = linked_by_trace(trace)
    alpha = trace.positions("CA")[:, 0]
    coarse = density_target(grid, alpha, _TRACE_BLUR_ANGSTROM2)
    fine = density_target(grid, alpha, _ATOM_BLUR_ANGSTROM2)
    alpha = regular_trace(alpha, linked, trace.amino_acid, coarse)
    expected: Tensor | None = trace.positions("N", "C", "O")
    rounds: list[Built] = []
    for _ in range(n_rounds):
        target = fine if rounds else coarse
        backbone = backbone_on_trace(alpha, linked, trace.amino_acid, target, expected)
        bare = bare_model(backbone, trace.residues)
        bare = _refined(bare, grid, resolution_angstrom, linked, _SCHEDULE[:2], mates).model
        turned = conformation(backbone_torsions(bare))
        backbone = bare.positions("N", "CA", "C", "O")
        model = with_side_chains(backbone, trace.residues, trace.amino_acid, turned, fine, mates=mates)
        rounds.append(_refined(model, grid, resolution_angstrom, linked, _SCHEDULE, mates))
        alpha, expected = rounds[-1].model.positions("CA")[:, 0], None
    return rounds


def repaired(
    model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, linked: Tensor, mates: Mates | None = None
) -> Built:
    """A model whose peptides are flipped and side chains fitted again where the map says so, refined in real space.

    A peptide is flipped where the best chain of peptides on the model's Cα atoms has its oxygen elsewhere, and a side
    chain is replaced where its best rotamer gains density; all others start from where they are.

    Parameters
    ----------
    model
        All heavy atoms of amino acids, in the order of `built_rounds`.
    linked
        (residue,) whether a peptide leads on to the next residue.
    """
    old = model.positions("N", "CA", "C", "O")
    fine = density_target(grid, old[:, 1], _ATOM_BLUR_ANGSTROM2)
    new = backbone_on_trace(old[:, 1], linked, model.amino_acid, fine)
    is_flipped = ((new[:, 3] - old[:, 3]).norm(dim=-1) > _FLIP_ANGSTROM) & linked
    backbone = old.clone()
    backbone[is_flipped, 2:] = new[is_flipped, 2:]
    after = torch.roll(is_flipped, 1)
    backbone[after, 0] = new[after, 0]
    turned = conformation(backbone_torsions(bare_model(backbone, model.residues)))
    fitted = with_side_chains(backbone, model.residues, model.amino_acid, turned, fine, mates=mates)
    if fitted.names != model.names:
        raise ValueError("the model's atoms are not those that side chains are built of; build it from its Cα atoms")
    gain = torch.zeros(model.n_residues, dtype=torch.float64)
    for sign, found in ((1.0, fitted), (-1.0, model)):
        gain.index_add_(0, model.residue, sign * fine(found.coordinates_angstrom).clamp(max=_MOST_DENSITY).double())
    is_replaced = (gain > _LEAST_GAIN) | is_flipped | after
    place = torch.where(is_replaced[model.residue, None], fitted.coordinates_angstrom, model.coordinates_angstrom)
    return _refined(model.at(place), grid, resolution_angstrom, linked, _SCHEDULE[1:], mates)


def cleared(
    model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, linked: Tensor, mates: Mates | None = None
) -> Built:
    """A model whose hydrogens, which are wider atoms to the rounds before, keep off each other and other atoms."""
    return _refined(model, grid, resolution_angstrom, linked, _CLEARING, mates)


def judged(
    model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, linked: Tensor, mates: Mates | None = None
) -> Built:
    """A model as it stands, with its surprise."""
    energy = energies(model, map_likelihood(grid, model, resolution_angstrom, mates), is_linked=linked, mates=mates)
    return Built(model, _surprise(model, energy, grid, resolution_angstrom))


def _refined(
    model: AtomicModel,
    grid: DensityGrid,
    resolution_angstrom: float,
    linked: Tensor,
    schedule: tuple[tuple[Weights, int], ...],
    mates: Mates | None,
) -> Built:
    """Real-space refinement with restraints that grow firm; the map's scale and errors are told anew each time."""
    energy: dict[str, float] = {}
    for weights, n_steps in schedule:
        likelihood = map_likelihood(grid, model, resolution_angstrom, mates)
        done = refined_in_real_space(model, likelihood, weights, n_steps, linked, mates=mates)
        model, energy = done.model, done.energy
    return Built(model, _surprise(model, energy, grid, resolution_angstrom))


def _surprise(model: AtomicModel, energy: dict[str, float], grid: DensityGrid, resolution_angstrom: float) -> float:
    chemistry = sum(value for name, value in energy.items() if name != "density")
    return chemistry + map_surprise(grid, model, resolution_angstrom)


def bare_model(backbone: Tensor, residues: tuple[Residue, ...]) -> AtomicModel:
    """N, CA, C and O (residue, 4, 3) of each residue, under its own name."""
    n = len(backbone)
    return AtomicModel(
        residues,
        torch.arange(n).repeat_interleave(4),
        ("N", "CA", "C", "O") * n,
        ("N", "C", "C", "O") * n,
        backbone.reshape(-1, 3),
        torch.full((4 * n,), 40.0),
        torch.ones(4 * n),
    )


def _require_trace(trace: AtomicModel) -> None:
    if not trace.n_residues:
        raise ValueError("the trace is empty; expected amino acids with a CA each")
    alpha = trace.positions("CA")[:, 0]
    for what, wrong in (("is no amino acid", trace.amino_acid < 0), ("has no CA", alpha.isnan().any(-1))):
        if wrong.any():
            first = trace.residues[int(torch.nonzero(wrong)[0])]
            raise ValueError(f"{int(wrong.sum())} of {trace.n_residues} residues: {first} {what}; leave it out")
