"""A model and its maps to the record of its validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kernels.fourier import fast_size
from kernels.maps.cutting import box_of
from kernels.maps.fsc import corrected_fsc
from kernels.maps.grid import DensityGrid
from kernels.maps.sharpening import local_resolution
from kernels.models.assessment import assess
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.detections import ProteinDetections
from kernels.models.geometry import BOND_OUTLIER_SIGMA, CBETA_OUTLIER_ANGSTROM, ROTAMER_OUTLIER_DEG
from kernels.models.map_fit import (
    blurred,
    map_correlations,
    map_model_fsc,
    mean_fsc,
    model_density,
    near_atoms,
    resolution_at,
    soft_mask,
)
from kernels.models.mates import Mates, copies
from kernels.models.network_fit import amino_acid_fit
from kernels.models.ramachandran import FAVOURED, OUTLIER, is_cis, is_twisted
from kernels.models.residues import AMINO_ACIDS
from tasks.formats.ramachandran_tables import ramachandran_tables
from tasks.records.model import ModelValidation, ResidueValidation
from tasks.validation.residue_rows import doubtful_regions, residue_rows, rounded

_Source = Literal["given", "half maps", "map and model"]
_Decision = Literal["deposit", "rebuild", "collect more"]
_WATER = ("HOH", "DOD", "WAT", "H2O")
_WINDOW_RESOLUTIONS = 8.0
_WINDOW_STEP_ANGSTROM = 5.0
_LOCAL_MASK_ANGSTROM = 3.0
_WINDOWS_BYTES = 80_000_000
"""Of those that `local_resolution` compares at once."""
_CELLS_AROUND = 4
"""Steps between windows over which `local_resolution` tells what it knows, and one that places them."""
_DEPOSIT_TRUSTED_PERCENT = 90.0
_DEPOSIT_OUTLIER_PERCENT = 0.5
_DEPOSIT_CLASHSCORE = 15.0
_COLLECT_UNSUPPORTED_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Maps:
    """The map that a model is judged in, and its halves where they are known, all in one frame."""

    map: DensityGrid
    half_1: DensityGrid | None = None
    half_2: DensityGrid | None = None


def judge(
    model: AtomicModel,
    maps: Maps,
    resolution_angstrom: float | None = None,
    detections: ProteinDetections | None = None,
    mates: Mates | None = None,
) -> ModelValidation:
    """Validate a model in its map. Memory: `judgement_memory_bytes`.

    Parameters
    ----------
    resolution_angstrom
        Of the map; without it, what the half maps say inside of the model's mask, or else where map and model part.
    detections
        What the network finds in the map; without it, its fit of amino acids is left out.
    mates
        By which the model makes up what the map shows: the map is compared with all copies, clashes with them count.

    Raises
    ------
    ValueError
        Where the model lies outside of the map.
    """
    grid = maps.map
    _check_place(model, grid)
    whole = model if mates is None else joined(copies(model, mates))
    density = model_density(whole, grid)
    mask = soft_mask(grid, whole)
    curve = map_model_fsc(grid, density, mask)
    parted = resolution_at(curve, grid)
    resolution, source = _resolution(maps, mask, resolution_angstrom, parted)
    halves = [
        None if half is None else mean_fsc(map_model_fsc(half, density, mask), grid, resolution)
        for half in (maps.half_1, maps.half_2)
    ]
    local = _local_resolution(model, maps, resolution)
    found = assess(model, grid, local, ramachandran_tables(), mates, density)
    correlations = map_correlations(grid, blurred(density, whole, resolution), whole)
    network_fit = None if detections is None else amino_acid_fit(model, detections)
    rows = residue_rows(model, found, network_fit)
    regions = doubtful_regions(rows)
    trusted = _percent([row.verdict == "trust" for row in rows if row.verdict])
    rama = found.ramachandran_verdict[found.ramachandran_verdict >= 0]
    outliers = _percent((rama == OUTLIER).tolist())
    decision, reason = _decision(rows, trusted, outliers, found.clashes.score)
    counted = torch.tensor([row.name not in _WATER for row in rows]) & ~found.q_score.isnan()
    weight = torch.bincount(model.residue, minlength=model.n_residues).double() * counted
    known_rotamers = found.rotamer_deg[~found.rotamer_deg.isnan()]
    omega = torch.deg2rad(found.omega_deg)
    is_proline = model.amino_acid == AMINO_ACIDS.index("PRO")
    return ModelValidation(
        n_residues=model.n_residues,
        n_atoms=sum(e not in ("H", "D") for e in model.elements),
        resolution_angstrom=round(resolution, 3),
        resolution_source=source,
        map_model_resolution_angstrom=round(parted, 3),
        fsc_map=round(mean_fsc(curve, grid, resolution), 4),
        fsc_work=rounded(halves[0], 4),
        fsc_free=rounded(halves[1], 4),
        cc_mask=round(correlations.mask, 4),
        cc_box=round(correlations.box, 4),
        cc_peaks=round(correlations.peaks, 4),
        q_score=round(_mean(found.q_score, weight), 4),
        q_expected=round(_mean(found.q_expected, weight), 4),
        ramachandran_favoured_percent=_percent((rama == FAVOURED).tolist()),
        ramachandran_outlier_percent=outliers,
        rotamer_outlier_percent=_percent((known_rotamers > ROTAMER_OUTLIER_DEG).tolist()),
        clashscore=round(found.clashes.score, 2),
        n_cbeta_outliers=int((found.cbeta_angstrom >= CBETA_OUTLIER_ANGSTROM).sum()),
        n_cis_peptides=int((is_cis(omega) & ~is_proline).sum()),
        n_twisted_peptides=int(is_twisted(omega).sum()),
        n_bond_outliers=int((found.worst_bond_sigma > BOND_OUTLIER_SIGMA).sum()),
        n_angle_outliers=int((found.worst_angle_sigma > BOND_OUTLIER_SIGMA).sum()),
        trusted_percent=trusted,
        decision=decision,
        decision_reason=reason,
        regions=tuple(regions),
        residues=tuple(rows),
    )


def judgement_memory_bytes(n_voxels: int, n_shown: int, is_halved: bool) -> int:
    """Peak of `judge`: measured, 52 to 180 voxels a side, with and without half maps, among copies and alone.

    Parameters
    ----------
    n_shown
        Voxels of the box around the model and its copies.
    """
    correlated = (70 if is_halved else 57) * n_voxels + 30 * n_shown
    in_windows = 40 * n_voxels + _WINDOWS_BYTES if is_halved else 0
    return 90_000_000 + max(correlated, in_windows)


def _check_place(model: AtomicModel, grid: DensityGrid) -> None:
    position = grid.to_voxels(model.coordinates_angstrom)
    inside = ((position >= 0) & (position <= torch.tensor(grid.voxels.shape) - 1)).all(1)
    share = float(inside.double().mean())
    if share < 0.5:
        low, high = (v.tolist() for v in (grid.origin_angstrom, grid.origin_angstrom + grid.size_angstrom))
        centre = model.coordinates_angstrom.mean(0).tolist()
        raise ValueError(
            f"{100 * share:.0f} % of the atoms lie inside of the map: it reaches from {_place(low)} to {_place(high)}"
            f" Å, and the middle of the model is at {_place(centre)} Å (x, y, z); dock the model into the map, or"
            " correct the origin of the map"
        )


def _place(zyx: list[float]) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in reversed(zyx)) + ")"


def _resolution(maps: Maps, mask: Tensor, given: float | None, parted: float) -> tuple[float, _Source]:
    if given is not None:
        return max(given, 2 * maps.map.voxel_size_angstrom), "given"
    if maps.half_1 is None or maps.half_2 is None:
        return parted, "map and model"
    generator = torch.Generator().manual_seed(0)
    curve = corrected_fsc(maps.half_1.voxels, maps.half_2.voxels, mask, generator).corrected
    return resolution_at(curve, maps.map, 0.143), "half maps"


def _local_resolution(model: AtomicModel, maps: Maps, resolution: float) -> Tensor:
    """(residue,) in Å; that of the map where there are no half maps."""
    overall = torch.full((model.n_residues,), resolution, dtype=torch.float64)
    if maps.half_1 is None or maps.half_2 is None:
        return overall
    grid = maps.map
    mask = near_atoms(grid, model, _LOCAL_MASK_ANGSTROM)
    n = max(grid.voxels.shape)
    window = min(fast_size(math.ceil(_WINDOW_RESOLUTIONS * resolution / grid.voxel_size_angstrom)), n)
    step = max(1, round(_WINDOW_STEP_ANGSTROM / grid.voxel_size_angstrom))
    # a cube around the model with all that the windows see, which stand in it where they would in the whole map
    places = torch.nonzero(mask)
    low, high = places.amin(0), places.amax(0)
    side = int((high - low).max()) + 2 * (window // 2 + _CELLS_AROUND * step)
    first = (low + high - side) // 2
    first = first - (first + side // 2 - n // 2) % step
    cubes = [box_of(values, first.tolist(), [side] * 3) for values in (maps.half_1.voxels, maps.half_2.voxels, mask)]
    local = local_resolution(cubes[0], cubes[1], cubes[2].float(), grid.voxel_size_angstrom, window, step)
    index = grid.to_voxels(_residue_means(model, model.coordinates_angstrom)).round().long()
    index = index.clamp(min=0).minimum(torch.tensor(grid.voxels.shape) - 1) - first
    value = local[tuple(index.clamp(0, side - 1).T)].double()
    return torch.where(value > 0, value, overall)


def _residue_means(model: AtomicModel, values: Tensor) -> Tensor:
    total = torch.zeros(model.n_residues, values.shape[1], dtype=values.dtype).index_add_(0, model.residue, values)
    return total / torch.bincount(model.residue, minlength=model.n_residues)[:, None]


def _decision(
    rows: list[ResidueValidation], trusted: float | None, outliers: float | None, clashscore: float
) -> tuple[_Decision, str]:
    judged = [row for row in rows if row.verdict]
    if not judged:
        return "rebuild", "the model has neither amino acids nor whole nucleotides, and nothing else is judged"
    bare = sum(row.verdict == "not supported" for row in judged) / len(judged)
    if bare > _COLLECT_UNSUPPORTED_SHARE:
        return "collect more", f"the density does not support {100 * bare:.0f} % of the residues"
    wrong = []
    if trusted is not None and trusted < _DEPOSIT_TRUSTED_PERCENT:
        wrong.append(f"{trusted:.1f} % of the residues are trusted, expected {_DEPOSIT_TRUSTED_PERCENT:.0f}")
    if outliers is not None and outliers > _DEPOSIT_OUTLIER_PERCENT:
        wrong.append(f"{outliers:.2f} % Ramachandran outliers, expected {_DEPOSIT_OUTLIER_PERCENT}")
    if clashscore > _DEPOSIT_CLASHSCORE:
        wrong.append(f"clashscore {clashscore:.1f}, expected {_DEPOSIT_CLASHSCORE:.0f}")
    return ("rebuild", "; ".join(wrong)) if wrong else ("deposit", "model, geometry and density agree")


def _percent(flags: list[bool]) -> float | None:
    return round(100 * sum(flags) / len(flags), 3) if flags else None


def _mean(values: Tensor, weight: Tensor) -> float:
    return float((values.nan_to_num() * weight).sum() / weight.sum().clamp(min=1e-9))
