"""All heavy atoms of nucleotides from a trace of C4' atoms and a map: phosphates, shapes, refinement."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.backbone import Density
from kernels.models.map_likelihood import map_likelihood
from kernels.models.nucleotides import (
    C2_ENDO,
    C3_ENDO,
    GLYCOSIDIC,
    RING,
    Conformation,
    atom_names,
    base_frames,
    monomer,
    nucleotide_coordinates,
)
from kernels.models.real_space import Weights, density_target, refined_in_real_space
from kernels.models.residues import BASES
from kernels.models.superposition import superposition

_SHAPES = (
    *(
        Conformation(C3_ENDO, chi, gamma, beta)
        for gamma, beta in ((55.1, 171.8), (175.0, -170.0))
        for chi in (-162.8, -135.0, 170.0, 60.0)
    ),
    *(
        Conformation(C2_ENDO, chi, gamma, 176.0, epsilon=-106.0)
        for gamma in (55.0, 175.0)
        for chi in (-115.0, -150.0, 60.0)
    ),
)
"""Sugars of both puckers with bases that look away from them, or back over them (chi 60)."""
_TO_PHOSPHATE_ANGSTROM = (3.91, 3.85)
"""From C4' to the P of its own nucleotide, and to that of the next."""
_N_TURNS = 36
_DENSITY_WEIGHT, _DIRECTION_WEIGHT = 4.0, 1.0
_ANCHOR_WEIGHTS = (1.0, 1.0, 0.7, 1.0)
"""Of P, C4', the direction to the base, and the next P, Å⁻²."""
_MOST_DENSITY = 1.3
_TRACE_BLUR_ANGSTROM2 = 40.0
_SCHEDULE = (
    (Weights(geometry=0.03, density=1.0, room=1.0), 60),
    (Weights(geometry=0.2, density=1.0, room=1.0), 60),
    (Weights(), 90),
)
"""With steps: atoms find their density first, and their chemistry after it."""
_B_FACTOR_ANGSTROM2 = 40.0


def nucleotides_on_trace(
    residues: tuple[Residue, ...],
    sugar_angstrom: Tensor,
    is_linked: Tensor,
    phosphate_offset: Tensor,
    base_offset: Tensor,
    grid: DensityGrid,
) -> AtomicModel:
    """Nucleotides of the shape that fits best, each by itself, about a trace.

    Parameters
    ----------
    residues
        Who they are; their names say base and sugar.
    sugar_angstrom
        (residue, 3) C4' in (z, y, x).
    is_linked
        (residue,) whether the next nucleotide follows.
    phosphate_offset, base_offset
        (residue, 3) from C4' to where P and the middle of the base are expected, of any length; NaN where not known.
    """
    density = density_target(grid, sugar_angstrom, _TRACE_BLUR_ANGSTROM2)
    phosphate = phosphates_on_trace(sugar_angstrom, is_linked, phosphate_offset, density)
    following = torch.cat([phosphate[1:], phosphate[-1:]])
    following = torch.where(is_linked[:, None], following, torch.nan)
    anchors = torch.stack([phosphate, sugar_angstrom.double(), base_offset.double(), following], 1).flip(-1)
    parts: dict[int, Tensor] = {}
    names = [r.name for r in residues]
    for name in sorted(set(names)):
        base, is_dna = base_and_sugar(name)
        chosen = torch.tensor([i for i, n in enumerate(names) if n == name])
        placed = _best_shapes(anchors[chosen], base, is_dna, density)
        parts |= dict(zip(chosen.tolist(), placed.flip(-1)))
    return nucleotide_model(residues, [parts[i] for i in range(len(residues))])


def base_and_sugar(name: str) -> tuple[int, bool]:
    """Index into `residues.BASES` of a nucleotide's name, and whether it is one of DNA."""
    for base in range(len(BASES)):
        for is_dna in (False, True):
            if monomer(base, is_dna) == name:
                return base, is_dna
    raise ValueError(
        f"found {name!r}, expected one of {', '.join(monomer(b, d) for d in (False, True) for b in range(4))}"
    )


def nucleotide_model(residues: tuple[Residue, ...], coordinates: list[Tensor]) -> AtomicModel:
    """Nucleotides from the atoms (atom, 3) of each, in the order of `nucleotides.atom_names`."""
    names = [atom_names(*base_and_sugar(r.name)) for r in residues]
    count = torch.tensor([len(n) for n in names])
    flat = tuple(n for own in names for n in own)
    return AtomicModel(
        residues,
        torch.arange(len(residues)).repeat_interleave(count),
        flat,
        tuple(n[0] for n in flat),
        torch.cat(coordinates).double(),
        torch.full((len(flat),), _B_FACTOR_ANGSTROM2),
        torch.ones(len(flat)),
    )


def phosphates_on_trace(sugar: Tensor, is_linked: Tensor, expected_offset: Tensor, density: Density) -> Tensor:
    """(residue, 3) P of each nucleotide: on the circle that two C4' leave it, where density is high.

    The first of a chain has its P where it is expected.
    """
    place, expected = sugar.double(), normalize(expected_offset.double().nan_to_num(), dim=-1)
    own, before = _TO_PHOSPHATE_ANGSTROM
    found = place + own * expected
    after = torch.nonzero(is_linked[:-1]).squeeze(1) + 1
    if not len(after):
        return found
    here, there = place[after], place[after - 1]
    length = (there - here).norm(dim=-1, keepdim=True).clamp(min=1.0)
    axis = (there - here) / length
    along = ((own**2 - before**2 + length**2) / (2 * length)).clamp(min=0.5)
    radius = (own**2 - along**2).clamp(min=0.3).sqrt()
    helper = torch.zeros_like(axis).scatter_(1, axis.abs().argmin(1, keepdim=True), 1.0)
    first = normalize(torch.linalg.cross(axis, helper), dim=-1)
    second = torch.linalg.cross(axis, first)
    angle = 2 * math.pi * torch.arange(_N_TURNS, dtype=torch.float64) / _N_TURNS
    beside = torch.cos(angle)[:, None] * first[:, None] + torch.sin(angle)[:, None] * second[:, None]
    points = here[:, None] + (along * axis)[:, None] + radius[:, None] * beside
    score = _DENSITY_WEIGHT * density(points) + _DIRECTION_WEIGHT * (
        normalize(points - here[:, None], dim=-1) * expected[after][:, None]
    ).sum(-1)
    found[after] = points[torch.arange(len(after)), score.argmax(1)]
    return found


def _best_shapes(anchors: Tensor, base: int, is_dna: bool, density: Density) -> Tensor:
    """(residue, atom, 3) each nucleotide in the shape that fits density and anchors best; all in (x, y, z)."""
    names = atom_names(base, is_dna)
    shapes = torch.stack([nucleotide_coordinates(base, is_dna, shape) for shape in _SHAPES])  # (shape, atom + 1, 3)
    ring = shapes[:, [names.index(n) for n in RING]].mean(1)
    moving = torch.stack([shapes[:, names.index("P")], shapes[:, names.index("C4'")], ring, shapes[:, -1]], 1)
    fixed = anchors[:, None].expand(-1, len(shapes), -1, -1).clone()
    reach = (moving[:, 2] - moving[:, 1]).norm(dim=-1)[:, None]
    fixed[:, :, 2] = fixed[:, :, 1] + reach * normalize(fixed[:, :, 2], dim=-1)
    known = ~fixed.isnan().any(-1)
    weight = torch.tensor(_ANCHOR_WEIGHTS, dtype=torch.float64) * known
    fixed = torch.where(known[..., None], fixed, 0.0)
    rotation, shift = superposition(moving.expand_as(fixed), fixed, weight)
    placed = shapes @ rotation + shift
    at_anchors = moving @ rotation + shift
    misfit = (weight * (at_anchors - fixed).square().sum(-1)).sum(-1)
    own = placed[:, :, :-1]
    score = density(own.flip(-1)).clamp(max=_MOST_DENSITY).sum(-1) - 0.5 * misfit
    return own[torch.arange(len(own)), score.argmax(1)]


def model_frames(model: AtomicModel) -> tuple[Tensor, Tensor]:
    """Origins (residue, 3) and axes (residue, 3, 3) of the bases of nucleotides, in (x, y, z); NaN without a base."""
    letters = [BASES[b] if b >= 0 else "A" for b in model.base.tolist()]
    is_purine = torch.tensor([letter in "AG" for letter in letters])[:, None]
    sugar, n9, c4, n1, c2 = model.positions("C1'", *GLYCOSIDIC["A"], *GLYCOSIDIC["C"]).flip(-1).unbind(1)
    origin, axes = base_frames(sugar, torch.where(is_purine, n9, n1), torch.where(is_purine, c4, c2))
    origin[model.base < 0] = torch.nan
    return origin, axes


def refined_nucleotides(
    model: AtomicModel, grid: DensityGrid, resolution_angstrom: float, is_linked: Tensor
) -> AtomicModel:
    """Real-space refinement of nucleotides just laid on a trace, with restraints that grow firm."""
    for weights, n_steps in _SCHEDULE:
        likelihood = map_likelihood(grid, model, resolution_angstrom)
        model = refined_in_real_space(model, likelihood, weights, n_steps, is_linked).model
    return model
