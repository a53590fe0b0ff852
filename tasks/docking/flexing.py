"""A docked model bent into its map, and kept only where a map that was not looked at agrees better."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.maps.cutting import cut_around
from kernels.maps.fsc import fsc
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.flexible_fitting import Bending, bent
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
_LEAST_SHARE = 0.7
"""Of the free correlation that a right model would have. In simulated maps of 4 to 10 Å, structures that these do not
show and poses a quarter turn off, bent as far as they go, came to 0.67 at most; right ones after a hinge of 6 Å to 0.89
or more, and to 0.74 beside molecules that nobody told of."""
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
    whole, shown, hidden, finest = _shown_and_hidden(heavy, grid, resolution_angstrom, halves)
    trials = [bent(heavy, shown, finest, predicted_error, some, others=others) for some in _TRIALS]
    models = [heavy, *(trial.model for trial in trials)]
    mask = torch.stack([soft_mask(hidden, some) for some in models]).amax(0)
    band = (resolution_angstrom, None if halves is not None else finest)
    before, *tried = (
        _mean(map_model_fsc(hidden, _density(some, others, hidden, resolution_angstrom), mask), hidden, *band)
        for some in models
    )
    after = max(tried)
    best = tried.index(after)
    proposed = trials[best]
    moved = float((proposed.places_angstrom - places_of_residues(heavy)).square().sum(-1).mean().sqrt())
    ceiling = _USUAL_CEILING
    if halves is not None:
        ceiling = _mean(fsc(shown.voxels * mask, hidden.voxels * mask).clamp(min=0).sqrt(), hidden, *band)
    share = after / max(ceiling, 1e-6)
    last = replace(_TRIALS[best], coarsest_angstrom=resolution_angstrom)
    fitted = bent(heavy, whole, resolution_angstrom, predicted_error, last, proposed.places_angstrom, others)
    where = "the other half map" if halves is not None else f"shells finer than {finest:.1f} Å, which were held back"
    told = f"mean correlation with {where} is {before:.3f} before and {after:.3f} after"
    is_kept = False
    if share < _LEAST_SHARE:
        told += f", {100 * share:.0f} % of a right model's: the map does not show this structure; left as it was"
    elif after - before < _LEAST_GAIN:
        told += f"; left as it was, since less than {_LEAST_GAIN:g} is gained"
    else:
        is_kept = True
        told += "; bent"
    return FlexedModel(
        _closed(fitted.model, whole, resolution_angstrom) if is_kept else model,
        is_kept,
        told,
        moved,
        float(proposed.strain_angstrom.mean()),
        fitted.correlation_before,
        fitted.correlation if is_kept else fitted.correlation_before,
        before,
        after,
        share,
    )


def _require(model: AtomicModel, error: Tensor | None) -> None:
    n = model.n_residues
    if n < FEWEST_RESIDUES:
        raise ValueError(f"the model has {n} residues; expected {FEWEST_RESIDUES} or more to bend it")
    if error is not None and tuple(error.shape) != (n, n):
        raise ValueError(
            f"PAE has shape {tuple(error.shape)}, but the model has {n} residues; give that of the same residues"
        )


def _shown_and_hidden(
    model: AtomicModel,
    grid: DensityGrid,
    resolution: float,
    halves: tuple[DensityGrid, DensityGrid] | None,
) -> tuple[DensityGrid, DensityGrid, DensityGrid, float]:
    """The map, what is bent into, what decides, all around the model; and the resolution of the second."""

    def near(some: DensityGrid) -> DensityGrid:
        return cut_around(some, model.coordinates_angstrom, _MARGIN_ANGSTROM)

    if halves is None:
        whole = near(grid)
        return whole, whole, whole, _HELD_BACK * resolution
    return near(grid), near(like_the_map(halves[0], halves[1], grid)), near(halves[1]), resolution


def _closed(model: AtomicModel, grid: DensityGrid, resolution: float) -> AtomicModel:
    """With bonds and angles as chemistry has them, and no atoms in each other's place."""
    return refined_in_real_space(model, map_likelihood(grid, model, resolution), _CLOSING, _N_STEPS).model


def _density(model: AtomicModel, others: AtomicModel | None, grid: DensityGrid, resolution: float) -> DensityGrid:
    return model_density(model if others is None else joined([model, others]), grid, resolution)


def _mean(curve: Tensor, grid: DensityGrid, resolution: float, coarsest: float | None) -> float:
    """Over the coefficients of the shells that count."""
    shell = torch.arange(len(curve)).double()
    frequency = shell / (max(grid.voxels.shape) * grid.voxel_size_angstrom)
    weight = shell**2 * (frequency <= 1 / resolution)
    if coarsest is not None:
        weight = weight * (frequency > 1 / coarsest)
    return float((curve * weight).sum() / weight.sum().clamp(min=1e-30))
