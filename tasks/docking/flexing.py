"""A docked model bent into its map, and kept only where a map that was not looked at agrees better."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.maps.cutting import cut_around
from kernels.maps.fsc import fsc
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.flexible_fitting import Bending, Bent, bent
from kernels.models.map_fit import map_model_fsc, model_density, soft_mask
from kernels.models.map_likelihood import map_likelihood
from kernels.models.real_space import Weights, refined_in_real_space
from kernels.models.residue_places import places_of_residues
from tasks.rebuilding.maps import like_the_map

_MARGIN_ANGSTROM = 25.0
"""Of the map that is looked at."""
_HELD_BACK = 1.25
"""Without half maps the fit sees resolutions coarser than this times the map's, and is judged by the finer ones."""
_LEAST_GAIN = 0.01
"""Of the mean free correlation, by which a bent model must be better than the one that was docked."""
_TRIALS = (Bending(), Bending(density=100.0), Bending(density=100.0, coarsest_angstrom=20.0))
"""Stiff, soft, and looking far; the one whose result agrees best with what was held back is taken."""
_CLEAR_SHARE, _LEAST_OVER_MIRRORED = 0.9, 0.12
"""Of the free correlation that a right model would have: enough by itself, and by how much it has to exceed what the
mirror image comes to in the same place where it is less. In simulated maps of 4 to 9.5 Å, proteins and RNAs that these
do not show, docked and bent as far as they go, came to 0.74, and exceeded their mirror image by 0.06, at most (19
of them). Proteins whose sequence or switch is another in the map, and folded RNAs at 4 Å, came to 0.58 to 0.70, and
exceeded theirs by 0.16 or more."""
_USUAL_CEILING = 0.75
"""Mean correlation of a right model with the finest shells of a map, the last of which has an FSC of 0.143."""
FEWEST_RESIDUES = 20
"""Of a chain that is bent."""
_CLOSING = Weights(hydrogens=1.0)
_N_STEPS = 60


@dataclass(frozen=True, eq=False)
class FlexedModel:
    """A model after flexible fitting, or as it was."""

    model: AtomicModel
    """Heavy atoms, refined in real space, where it was kept; what was given otherwise."""
    is_kept: bool
    reason: str
    moved_angstrom: float
    """Root mean square over residues, of what the fit proposed."""
    strain_angstrom: float
    """Root mean square change of distances to residues nearby, mean over residues, of what the fit proposed."""
    correlation_before: float
    """With the map at its resolution."""
    correlation: float
    """Of the model that is returned."""
    free_correlation_before: float
    """Mean Fourier shell correlation with what the fit did not look at: the other half map up to the resolution or,
    without half maps, the finest shells of the map."""
    free_correlation: float
    """Of what the fit proposed."""
    explained_share: float
    """Free correlation of what the fit proposed, of what noise would let a right model have."""
    explained_share_mirrored: float | None
    """The same of the mirror image of the model, which no map shows, bent in the same place; where it was asked."""


def flexed(
    model: AtomicModel,
    grid: DensityGrid,
    resolution_angstrom: float,
    predicted_error: Tensor | None = None,
    halves: tuple[DensityGrid, DensityGrid] | None = None,
    others: AtomicModel | None = None,
) -> FlexedModel:
    """Bend a rigidly placed model into a map; it is left as it is where that brings nothing that can be trusted.

    Parameters
    ----------
    model
        In the frame of the map; hydrogens are left out of what is returned.
    predicted_error
        (residue, residue) Å, PAE of the engine.
    halves
        Half maps in the frame of the map. The first one is bent into, filtered as the map is, and the second one
        decides; what is kept is then fitted to the map.
    others
        What else stands in the map, other chains of the assembly say; without them the model is drawn into theirs.

    Raises
    ------
    ValueError
        For a PAE of another length, a model of fewer than 20 residues, or one that lies outside of its map.
    """
    _require(model, predicted_error)
    heavy = model.take(torch.tensor([e not in ("H", "D") for e in model.elements], dtype=torch.bool))
    maps = _maps_around(heavy, grid, resolution_angstrom, halves)
    found = _explored(heavy, maps, predicted_error, others)
    places = found.proposed.places_angstrom
    moved = float((places - places_of_residues(heavy)).square().sum(-1).mean().sqrt())
    last = replace(found.bending, coarsest_angstrom=resolution_angstrom)
    fitted = bent(heavy, maps.whole, resolution_angstrom, predicted_error, last, places, others)
    mirrored = None
    if found.share < _CLEAR_SHARE:
        mirrored = _explored(_mirrored(heavy), maps, predicted_error, others).share
    where = (
        "the other half map" if halves is not None else f"shells finer than {maps.finest:.1f} Å, which were held back"
    )
    told = f"mean correlation with {where} is {found.free_before:.3f} before and {found.free:.3f} after"
    is_kept = False
    if mirrored is not None:
        told += f", {100 * found.share:.0f} % of a right model's ({100 * mirrored:.0f} % for its mirror image)"
    if mirrored is not None and found.share < mirrored + _LEAST_OVER_MIRRORED:
        told += ": the map does not show this structure; left as it was"
    elif found.free - found.free_before < _LEAST_GAIN:
        told += f"; left as it was, since less than {_LEAST_GAIN:g} is gained"
    else:
        is_kept = True
        told += "; bent"
    return FlexedModel(
        _closed(fitted.model, maps.whole, resolution_angstrom) if is_kept else model,
        is_kept,
        told,
        moved,
        float(found.proposed.strain_angstrom.mean()),
        fitted.correlation_before,
        fitted.correlation if is_kept else fitted.correlation_before,
        found.free_before,
        found.free,
        found.share,
        mirrored,
    )


@dataclass(frozen=True, eq=False)
class _Maps:
    """Around a model: the map, what is bent into, and what decides."""

    whole: DensityGrid
    shown: DensityGrid
    hidden: DensityGrid
    resolution: float
    finest: float
    """Å, of what is bent into"""
    is_halved: bool

    def mean(self, curve: Tensor) -> float:
        """Over the coefficients of the shells that count of what is hidden."""
        shell = torch.arange(len(curve)).double()
        frequency = shell / (max(self.hidden.voxels.shape) * self.hidden.voxel_size_angstrom)
        weight = shell**2 * (frequency <= 1 / self.resolution)
        if not self.is_halved:
            weight = weight * (frequency > 1 / self.finest)
        return float((curve * weight).sum() / weight.sum().clamp(min=1e-30))


@dataclass(frozen=True, eq=False)
class _Explored:
    """What a structure comes to where it is bent as far as it goes."""

    proposed: Bent
    bending: Bending
    free_before: float
    free: float
    share: float
    """Of the free correlation that noise would let a right model have"""


def _explored(model: AtomicModel, maps: _Maps, error: Tensor | None, others: AtomicModel | None) -> _Explored:
    trials = [bent(model, maps.shown, maps.finest, error, some, others=others) for some in _TRIALS]
    models = [model, *(trial.model for trial in trials)]
    mask = torch.stack([soft_mask(maps.hidden, some) for some in models]).amax(0)
    before, *tried = (
        maps.mean(map_model_fsc(maps.hidden, _density(some, others, maps.hidden, maps.resolution), mask))
        for some in models
    )
    best = max(range(len(tried)), key=tried.__getitem__)
    ceiling = _USUAL_CEILING
    if maps.is_halved:
        ceiling = maps.mean(fsc(maps.shown.voxels * mask, maps.hidden.voxels * mask).clamp(min=0).sqrt())
    return _Explored(trials[best], _TRIALS[best], before, tried[best], tried[best] / max(ceiling, 1e-6))


def _mirrored(model: AtomicModel) -> AtomicModel:
    """The mirror image in the same place: across the plane in which the model is flattest."""
    places = places_of_residues(model)
    middle = places.mean(0)
    normal = torch.linalg.svd(places - middle, full_matrices=False)[2][-1]
    apart = (model.coordinates_angstrom.double() - middle) @ normal
    return model.at(model.coordinates_angstrom.double() - 2 * apart[:, None] * normal)


def _require(model: AtomicModel, error: Tensor | None) -> None:
    n = model.n_residues
    if n < FEWEST_RESIDUES:
        raise ValueError(f"the model has {n} residues; expected {FEWEST_RESIDUES} or more to bend it")
    if error is not None and tuple(error.shape) != (n, n):
        raise ValueError(
            f"PAE has shape {tuple(error.shape)}, but the model has {n} residues; give that of the same residues"
        )


def _maps_around(
    model: AtomicModel,
    grid: DensityGrid,
    resolution: float,
    halves: tuple[DensityGrid, DensityGrid] | None,
) -> _Maps:
    def near(some: DensityGrid) -> DensityGrid:
        return cut_around(some, model.coordinates_angstrom, _MARGIN_ANGSTROM)

    if halves is None:
        whole = near(grid)
        return _Maps(whole, whole, whole, resolution, _HELD_BACK * resolution, False)
    shown = near(like_the_map(halves[0], halves[1], grid))
    return _Maps(near(grid), shown, near(halves[1]), resolution, resolution, True)


def _closed(model: AtomicModel, grid: DensityGrid, resolution: float) -> AtomicModel:
    """With bonds and angles as chemistry has them, and no atoms in each other's place."""
    return refined_in_real_space(model, map_likelihood(grid, model, resolution), _CLOSING, _N_STEPS).model


def _density(model: AtomicModel, others: AtomicModel | None, grid: DensityGrid, resolution: float) -> DensityGrid:
    return model_density(model if others is None else joined([model, others]), grid, resolution)
