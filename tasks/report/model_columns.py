"""What is known of each residue of a model: columns for plots and colours, and the regions that want a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from tasks.plots.model_view import ResidueColumn
from tasks.stores.commit import Record

_BUILDERS = ("build_model",)
"""Stages whose models have 100 times their confidence in the column of B-factors."""
_DOUBTFUL = 0.5


@dataclass(frozen=True)
class Region:
    """Residues that follow one another and want a look; indices into those of the model, both included."""

    first: int
    last: int
    verdict: str


def residue_places(model: AtomicModel) -> NDArray:
    """(residue, 3) in Å: the Cα, the C4' of a nucleotide, the middle of anything else."""
    total = torch.zeros(model.n_residues, 3, dtype=torch.float64)
    total.index_add_(0, model.residue, model.coordinates_angstrom.double())
    places = total / torch.bincount(model.residue, minlength=model.n_residues)[:, None]
    for name, chosen in (("CA", model.amino_acid >= 0), ("C4'", model.base >= 0)):
        atom = model.positions(name)[:, 0].double()
        places = torch.where((chosen & atom.isfinite().all(1))[:, None], atom, places)
    return places.numpy()


def columns_of(model: AtomicModel, record: Record, local_resolution: DensityGrid | None) -> list[ResidueColumn]:
    """The columns that there are, what tells most first."""
    columns = []
    values = _mean_of_residues(model, model.b_factor_angstrom2)
    if record.stage in _BUILDERS:
        columns.append(ResidueColumn("confidence", "confidence", values / 100, is_share=True))
    if local_resolution is not None:
        found = local_resolution.values_at(torch.from_numpy(residue_places(model))).double().numpy()
        found = np.where(found > 0, found, np.nan)
        if np.isfinite(found).any():
            columns.append(_by_spread("local_resolution", "local resolution", found, "Å", digits=2))
    if record.stage not in _BUILDERS:
        columns.append(_by_spread("b_factor", "B-factor", values, "Å²", digits=0))
    return columns


def _mean_of_residues(model: AtomicModel, values: torch.Tensor) -> NDArray:
    total = torch.zeros(model.n_residues, dtype=torch.float64).index_add_(0, model.residue, values.double())
    return (total / torch.bincount(model.residue, minlength=model.n_residues)).numpy()


def _by_spread(identifier: str, label: str, values: NDArray, unit: str, digits: int) -> ResidueColumn:
    """A column where less is better, in colours between its 2nd and 98th percentile."""
    best, worst = (float(v) for v in np.nanpercentile(values, [2, 98]))
    return ResidueColumn(identifier, label, values, worst if worst > best else best + 1, best, unit, digits)


def regions_of(model: AtomicModel, columns: Sequence[ResidueColumn]) -> list[Region]:
    """Runs of residues along one chain of a verdict other than the best; without verdicts, of low confidence."""
    found = {column.identifier: column for column in columns}
    if "verdict" in found:
        verdict = found["verdict"]
        kinds, labels = verdict.values.astype(int), [c.label for c in verdict.classes]
    elif "confidence" in found:
        kinds, labels = (found["confidence"].values < _DOUBTFUL).astype(int), ["", "low confidence"]
    else:
        return []
    chains = np.unique([residue.chain for residue in model.residues], return_inverse=True)[1]
    starts = np.nonzero(np.r_[True, (np.diff(kinds) != 0) | (np.diff(chains) != 0), True])[0].tolist()
    return [Region(a, b - 1, labels[int(kinds[a])]) for a, b in pairwise(starts) if kinds[a] > 0]
