"""What is known of each residue of a model: columns for plots and colours, and the regions that want a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.residue_places import places_of_residues
from tasks.plots.model_view import ResidueClass, ResidueColumn
from tasks.records.model import ModelValidation

_DOUBTFUL = 0.5
_NEXT_ALPHA_ANGSTROM, _NEXT_SUGAR_ANGSTROM = 4.5, 8.0
"""Longest step along a chain that is drawn; well built ones have 3.8 and 5.5 to 6.5 Å."""
VERDICTS = (
    ResidueClass("trust", "#0072b2"),
    ResidueClass("rebuild", "#e69f00"),
    ResidueClass("not supported", "#8c1d18"),
)
_RAMACHANDRAN = (
    ResidueClass("favoured", "#0072b2"),
    ResidueClass("allowed", "#e69f00"),
    ResidueClass("outlier", "#8c1d18"),
)
"""Told apart by hue and by lightness."""


@dataclass(frozen=True)
class Region:
    """Residues that follow one another and want a look; indices into those of the model, both included."""

    first: int
    last: int
    words: str
    """The verdict, and its reasons."""


def is_followed(model: AtomicModel, places: NDArray) -> NDArray:
    """(residue,) whether the next residue of a polymer stands where it can be bound to this one; for traces, too."""
    reach = np.where((model.amino_acid >= 0).numpy(), _NEXT_ALPHA_ANGSTROM, _NEXT_SUGAR_ANGSTROM)
    reach[((model.amino_acid < 0) & (model.base < 0)).numpy()] = 0.0
    chain = [residue.chain for residue in model.residues]
    is_same = np.array([a == b for a, b in pairwise(chain)], dtype=bool)
    near = np.linalg.norm(np.diff(places, axis=0), axis=1) < np.minimum(reach[:-1], reach[1:])
    return np.append(is_same & near, False)


def columns_of(
    model: AtomicModel,
    built: AtomicModel | None,
    validation: ModelValidation | None,
    local_resolution: DensityGrid | None,
) -> list[ResidueColumn]:
    """The columns that there are, what tells most first.

    Parameters
    ----------
    built
        The model itself, or the one that it was refined from, with 100 times its confidence in place of B-factors.
    local_resolution
        Of the map; that of the validation comes before it.
    """
    columns = _validated(model, validation) if validation else []
    if built is not None:
        sure = dict(zip(map(_key, built.residues), _mean_of_residues(built, built.b_factor_angstrom2) / 100))
        confidence = np.array([sure.get(_key(residue), np.nan) for residue in model.residues])
        label = "confidence" if built is model else "confidence when built"
        columns.append(ResidueColumn("confidence", label, confidence, is_share=True))
    if local_resolution is not None and not any(c.identifier == "local_resolution" for c in columns):
        found = local_resolution.values_at(places_of_residues(model)).double().numpy()
        columns += _by_spread("local_resolution", "local resolution", np.where(found > 0, found, np.nan), "Å", 2)
    if built is not model:
        b_factors = _mean_of_residues(model, model.b_factor_angstrom2)
        columns += _by_spread("b_factor", "B-factor", b_factors, "Å²", 0)
    return columns


def _key(residue: Residue) -> tuple[str, int, str]:
    return residue.chain, residue.number, residue.insertion_code


def _validated(model: AtomicModel, validation: ModelValidation) -> list[ResidueColumn]:
    rows = {(row.chain, row.number, row.insertion_code): row for row in validation.residues}
    found = [rows.get(_key(residue)) for residue in model.residues]

    def figures(name: str) -> NDArray:
        values = [getattr(row, name) if row is not None else None for row in found]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    def classes(identifier: str, label: str, kinds: Sequence[ResidueClass]) -> list[ResidueColumn]:
        index = {kind.label: i for i, kind in enumerate(kinds)}
        values = np.array([index.get(getattr(row, identifier), -1) if row is not None else -1 for row in found])
        is_strip = kinds is VERDICTS
        column = ResidueColumn(identifier, label, values, classes=tuple(kinds), is_strip=is_strip)
        return [column] if (values >= 0).any() else []

    shares = [
        ResidueColumn("probability", "probability of being right", figures("probability"), is_share=True),
        ResidueColumn("q_score", "Q-score", figures("q_score"), is_share=True),
        ResidueColumn("q_expected", "Q-score of good models", figures("q_expected"), is_share=True, is_expected=True),
        ResidueColumn("correlation", "correlation with the map", figures("correlation"), is_share=True),
    ]
    return [
        *(column for column in shares if np.isfinite(column.values).any()),
        *classes("verdict", "verdict", VERDICTS),
        *classes("ramachandran", "Ramachandran", _RAMACHANDRAN),
        *_by_spread("local_resolution", "local resolution", figures("local_resolution_angstrom"), "Å", 2),
    ]


def _mean_of_residues(model: AtomicModel, values: torch.Tensor) -> NDArray:
    total = torch.zeros(model.n_residues, dtype=torch.float64).index_add_(0, model.residue, values.double())
    return (total / torch.bincount(model.residue, minlength=model.n_residues)).numpy()


def _by_spread(identifier: str, label: str, values: NDArray, unit: str, digits: int) -> list[ResidueColumn]:
    """A column where less is better, in colours between its 2nd and 98th percentile; none where nothing varies."""
    if not np.isfinite(values).any():
        return []
    best, worst = (float(v) for v in np.nanpercentile(values, [2, 98]))
    return [ResidueColumn(identifier, label, values, worst, best, unit, digits)] if worst > best else []


def regions_of(
    model: AtomicModel, validation: ModelValidation | None, columns: Sequence[ResidueColumn]
) -> list[Region]:
    """The regions that the validation does not trust; without one, runs of low confidence along one chain."""
    if validation is not None:
        return _not_trusted(model, validation)
    confidence = next((column for column in columns if column.identifier == "confidence"), None)
    if confidence is None:
        return []
    is_low = confidence.values < _DOUBTFUL
    chains = np.unique([residue.chain for residue in model.residues], return_inverse=True)[1]
    starts = np.nonzero(np.r_[True, (np.diff(is_low) != 0) | (np.diff(chains) != 0), True])[0].tolist()
    return [Region(a, b - 1, "low confidence") for a, b in pairwise(starts) if is_low[a]]


def _not_trusted(model: AtomicModel, validation: ModelValidation) -> list[Region]:
    index = {(r.chain, f"{r.number}{r.insertion_code}"): i for i, r in enumerate(model.residues)}
    found = []
    for region in validation.regions:
        first, last = index.get((region.chain, region.first)), index.get((region.chain, region.last))
        if first is not None and last is not None:
            words = f"{region.verdict}: {', '.join(region.reasons)}" if region.reasons else region.verdict
            found.append(Region(first, last, words))
    return found
