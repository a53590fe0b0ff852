"""A prediction beside a model of the map, residue by residue."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.disagreement import Compared, local_distance_agreement
from kernels.models.mates import Mates
from kernels.models.merging import Reading, Register, bent_onto, laid_on, register
from kernels.models.predicted_structure import PredictedStructure
from kernels.models.residue_places import representatives
from tasks.validation.readings import judged, settled


@dataclass(frozen=True, eq=False)
class ComparedPrediction:
    """A prediction, what stands for it, and what the map says of both."""

    compared: Compared
    found: Register
    built: Reading
    predicted: Reading
    """In the map: bent onto what was built, and settled."""


def compared(
    prediction: PredictedStructure, built: AtomicModel, grid: DensityGrid, resolution_angstrom: float, mates: Mates
) -> ComparedPrediction:
    """Judge both in the map.

    The prediction may lie anywhere: it is laid on the model of the map, as one body and then bent, by the residues
    that stand for each other.

    Raises
    ------
    ValueError
        Where no chain of the model is one of the prediction.
    """
    where = (grid, resolution_angstrom, mates)
    first = judged(built, *where)
    found = register(built, prediction.model, is_placed=False)
    matched = torch.nonzero(found.match >= 0).squeeze(1)
    if len(matched) < 3:
        raise ValueError(
            "no chain of the model stands for one of the prediction: found no stretch of six residues of the same"
            " letters; expected a prediction of the molecule in the map"
        )
    laid = laid_on(prediction.model, first, found.match)
    here = settled(bent_onto(laid, first, found.match), *where)
    n = prediction.model.n_residues
    partner = torch.full((n,), -1).index_put_((found.match[matched],), matched)
    places = representatives(built)[partner.clamp(min=0)].where((partner >= 0)[:, None], torch.nan)
    lddt = local_distance_agreement(representatives(prediction.model), places)
    own = torch.where(partner >= 0, first.probability[partner.clamp(min=0)].double().nan_to_num(nan=0.5), torch.nan)
    second = judged(here, *where)
    return ComparedPrediction(Compared(lddt, own, second.probability, prediction.plddt), found, first, second)
