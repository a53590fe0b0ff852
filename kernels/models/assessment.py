"""Everything that is judged of each residue of a model in its map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.clashes import Clashes, find_clashes
from kernels.models.geometry import backbone_deviations, cbeta_deviations, rotamer_deviations_deg
from kernels.models.map_fit import blurred, model_density, residue_correlations
from kernels.models.mates import Mates, copies
from kernels.models.nucleotide_fit import nucleotide_fit
from kernels.models.q_score import expected_q_score, q_scores
from kernels.models.ramachandran import (
    peptide_before,
    ramachandran_kinds,
    ramachandran_scores,
    ramachandran_verdicts,
)
from kernels.models.reliability_coefficients import AMINO_ACID_SHARES, AMINO_ACID_WEIGHTS
from kernels.models.residues import NUCLEIC_BACKBONE, PROTEIN_BACKBONE
from kernels.models.side_chain_profile import (
    amino_acid_evidence,
    backbone_level,
    register_shift_evidence,
    side_chain_gain,
    side_chain_profile,
)
from kernels.models.torsions import backbone_torsions

_BACKBONE = frozenset(PROTEIN_BACKBONE) | frozenset(NUCLEIC_BACKBONE)


@dataclass(frozen=True, eq=False)
class Assessment:
    """Of each residue, (residue,) float64 each; NaN where it does not apply."""

    resolution_angstrom: Tensor
    """Of the map where the residue stands."""
    q_score: Tensor
    """Mean of its atoms."""
    q_backbone: Tensor
    q_side_chain: Tensor
    q_expected: Tensor
    """Of a well-built model at this resolution."""
    correlation: Tensor
    phi_deg: Tensor
    psi_deg: Tensor
    omega_deg: Tensor
    """Of the peptide to the residue before."""
    ramachandran: Tensor
    """Share of residues of good structures that are less usual."""
    ramachandran_verdict: Tensor
    """int64 index into `ramachandran.VERDICTS`, -1 where there is none."""
    rotamer_deg: Tensor
    cbeta_angstrom: Tensor
    worst_bond_sigma: Tensor
    worst_angle_sigma: Tensor
    n_clashes: Tensor
    profile: Tensor
    """(residue, 20) of `side_chain_profile`."""
    side_chain_fit: Tensor
    """Logarithm of the probability of the residue's amino acid by the density beside its backbone, over its share; of
    a nucleotide, of its base by the density in its plane."""
    side_chain_misfit: Tensor
    """How much more the density speaks for the best rotamer of the residue's amino acid than for the one it has."""
    register_shift: Tensor
    """How much better a shift of the sequence would fit here, in the same unit, summed over the residues around."""
    oxygen_density: Tensor
    """At the carbonyl oxygen, less that where it would be with the peptide turned over, in units of the backbone's."""
    is_nucleotide: Tensor
    """bool"""
    base_contrast: Tensor
    """Of a nucleotide, see `nucleotide_fit.NucleotideFit`, as the next."""
    pair_fit: Tensor
    clashes: Clashes


def assess(
    model: AtomicModel,
    grid: DensityGrid,
    resolution_angstrom: Tensor,
    ramachandran_tables: Tensor,
    mates: Mates | None = None,
    density: DensityGrid | None = None,
) -> Assessment:
    """Judge a model in its map.

    Parameters
    ----------
    model
        Hydrogens are left out where the map is concerned.
    resolution_angstrom
        (residue,) of the map where each residue stands.
    ramachandran_tables
        As for `ramachandran.ramachandran_scores`.
    mates
        Of the model, in a symmetric map: what stands around it.
    density
        `map_fit.model_density` of the model and its mates, where it is known.
    """
    heavy = torch.tensor([e not in ("H", "D") for e in model.elements], dtype=torch.bool)
    q_atom = torch.full((len(model),), math.nan, dtype=torch.float64)
    q_atom[heavy] = q_scores(grid, model.coordinates_angstrom[heavy], mates=mates)
    is_backbone = torch.tensor([name in _BACKBONE for name in model.names], dtype=torch.bool)
    overall = float(resolution_angstrom.median())
    whole = model if mates is None else joined(copies(model, mates))
    density = blurred(model_density(whole, grid) if density is None else density, whole, overall)
    torsions = backbone_torsions(model)
    omega = peptide_before(model)
    kinds = ramachandran_kinds(model.amino_acid, omega)
    scores = ramachandran_scores(ramachandran_tables, kinds, torsions[:, 0], torsions[:, 1])
    bonds, angles = backbone_deviations(model)
    clashes = find_clashes(model, mates)
    profile = side_chain_profile(grid, model)
    best = profile.gather(1, model.amino_acid.clamp(min=0)[:, None]).squeeze(1)
    is_protein = model.amino_acid >= 0
    evidence = amino_acid_evidence(profile, resolution_angstrom, *likelihood_tables())
    nucleic = nucleotide_fit(model, grid)
    is_nucleic = ~nucleic.base_fit.isnan()
    return Assessment(
        resolution_angstrom.double(),
        _mean_of_atoms(model, q_atom, heavy),
        _mean_of_atoms(model, q_atom, heavy & is_backbone),
        _mean_of_atoms(model, q_atom, heavy & ~is_backbone),
        expected_q_score(resolution_angstrom, model.base >= 0).double(),
        residue_correlations(grid, density, model, overall),
        torsions[:, 0].rad2deg(),
        torsions[:, 1].rad2deg(),
        omega.rad2deg(),
        scores,
        ramachandran_verdicts(scores, kinds),
        rotamer_deviations_deg(model),
        cbeta_deviations(model),
        _largest(bonds),
        _largest(angles),
        clashes.per_residue(model).double(),
        profile,
        torch.where(is_nucleic, nucleic.base_fit, own_evidence(evidence, model)),
        torch.where(is_protein, best - side_chain_gain(grid, model), math.nan),
        torch.where(is_nucleic, nucleic.base_shift, register_shift_evidence(evidence, model)),
        oxygen_contrast(grid, model),
        is_nucleic,
        nucleic.base_contrast,
        nucleic.pair_fit,
        clashes,
    )


def likelihood_tables() -> tuple[Tensor, Tensor]:
    """Weights and prior for `side_chain_profile.amino_acid_evidence`, fitted by `tasks.validation.reliability_fit`."""
    weights = torch.tensor(AMINO_ACID_WEIGHTS, dtype=torch.float64)
    return weights, torch.tensor(AMINO_ACID_SHARES, dtype=torch.float64)


def own_evidence(evidence: Tensor, model: AtomicModel) -> Tensor:
    """(residue,) what `amino_acid_evidence` says of each residue's own amino acid; NaN for what is none."""
    own = evidence.gather(1, model.amino_acid.clamp(min=0)[:, None]).squeeze(1)
    return torch.where(model.amino_acid >= 0, own, math.nan)


def _mean_of_atoms(model: AtomicModel, values: Tensor, chosen: Tensor) -> Tensor:
    residue = model.residue[chosen]
    total = torch.zeros(model.n_residues, dtype=torch.float64).index_add_(0, residue, values[chosen])
    count = torch.bincount(residue, minlength=model.n_residues)
    return torch.where(count > 0, total / count.clamp(min=1), math.nan)


def _largest(deviation: Tensor) -> Tensor:
    known = ~deviation.isnan()
    return torch.where(known.any(1), deviation.nan_to_num().abs().amax(1), math.nan)


def oxygen_contrast(grid: DensityGrid, model: AtomicModel) -> Tensor:
    """(residue,) density at O less that at O turned half around the line between its CA and the next.

    In units of the density of the backbone around; NaN where no next residue is bound.
    """
    alpha, oxygen = model.positions("CA", "O").unbind(1)
    following = torch.cat([alpha[1:], torch.full((1, 3), math.nan, dtype=alpha.dtype)])
    axis = torch.nn.functional.normalize(following - alpha, dim=-1)
    arm = oxygen - alpha
    turned = alpha + 2 * (arm * axis).sum(-1, keepdim=True) * axis - arm
    known = model.is_linked() & turned.isfinite().all(-1) & oxygen.isfinite().all(-1)
    contrast = grid.values_at(oxygen.nan_to_num()) - grid.values_at(turned.nan_to_num())
    return torch.where(known, contrast.double() / backbone_level(grid, model), math.nan)
