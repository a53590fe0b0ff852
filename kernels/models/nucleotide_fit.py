"""What the map says of each nucleotide of a model: of its base, its sequence and its pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.base_pairs import base_pairs, joint_share
from kernels.models.base_profile import base_profile, base_types, sugar_level
from kernels.models.nucleotides import BASE_ATOMS, GLYCOSIDIC, PURINES
from kernels.models.real_space import DensityTarget, density_target
from kernels.models.residues import BASES
from kernels.models.side_chain_profile import register_shift_evidence

_ATOMS = tuple(dict.fromkeys(n for atoms in BASE_ATOMS.values() for n in atoms))
_LEAST_PROBABILITY = 1e-3


@dataclass(frozen=True, eq=False)
class NucleotideFit:
    """Of each residue, (residue,) float64; NaN for what is no whole nucleotide."""

    base_fit: Tensor
    """Logarithm of the probability of its base by the density in its plane, over a quarter."""
    base_shift: Tensor
    """How much better a shift of the sequence would fit here, in the same unit, summed over the residues around."""
    base_contrast: Tensor
    """Density at the atoms of its base, less that where they would be with the base turned over about the bond to its
    sugar, in units of the sugars' density."""
    pair_fit: Tensor
    """Logarithm of how often bases like these pair, over a sixteenth; 0 for one that stands alone."""


def nucleotide_fit(model: AtomicModel, grid: DensityGrid) -> NucleotideFit:
    """Judge the bases of a model in its map; all NaN for a model without nucleotides."""
    nothing = torch.full((model.n_residues,), math.nan, dtype=torch.float64)
    sugar = model.positions("C4'")[:, 0]
    stands = sugar.isfinite().all(-1) & (model.base >= 0)
    if not bool(stands.any()):
        return NucleotideFit(nothing, nothing, nothing, nothing)
    density = density_target(grid, sugar[stands])
    profile = base_profile(model, density)
    known = ~profile.isnan().any(-1)
    evidence = (4 * base_types(profile)).clamp(min=_LEAST_PROBABILITY).log()
    own = evidence.gather(1, model.base.clamp(min=0)[:, None]).squeeze(1)
    evidence = torch.where(known[:, None], evidence, math.nan)
    values = (
        own,
        register_shift_evidence(evidence, model, model.base),
        _turned_contrast(model, density) / sugar_level(model, density),
        _pair_fit(model),
    )
    return NucleotideFit(*(torch.where(known, v, math.nan) for v in values))


def _turned_contrast(model: AtomicModel, density: DensityTarget) -> Tensor:
    """(residue,) mean density at the atoms of a base, less that with the base turned over."""
    sugar, n9, n1 = model.positions("C1'", GLYCOSIDIC["A"][0], GLYCOSIDIC["C"][0]).unbind(1)
    is_purine = torch.tensor([b >= 0 and BASES[b] in PURINES for b in model.base.tolist()])[:, None]
    axis = torch.nn.functional.normalize(torch.where(is_purine, n9, n1) - sugar, dim=-1)[:, None]
    atoms = model.positions(*_ATOMS)
    arm = atoms - sugar[:, None]
    turned = sugar[:, None] + 2 * (arm * axis).sum(-1, keepdim=True) * axis - arm
    there = turned.isfinite().all(-1)
    change = density(atoms.nan_to_num()).double() - density(turned.nan_to_num()).double()
    return (change * there).sum(1) / there.sum(1).clamp(min=1)


def _pair_fit(model: AtomicModel) -> Tensor:
    """(residue,) float64"""
    pairs = base_pairs(model)
    table = (16 * joint_share()).log()
    value = table[model.base[pairs.first], model.base[pairs.second]]
    told = torch.zeros(model.n_residues, dtype=torch.float64)
    told[pairs.first], told[pairs.second] = value, value
    return told
