"""A session with a simulated map and models in it, without running a stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from kernels.models.atomic_model import AtomicModel, joined
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.stores.products.map_store import describe
from tasks.stores.products.model_store import write_model
from tasks.stores.session_store import SessionStore
from tests.truth.model_maps import simulated_maps
from tests.truth.peptides import helix

SEQUENCES = ("AEKLFSWTRDMHEVQNKAGLIKYCDAELRK", "GSLEEARKWIDTLMKQAEEFNRHS")
DOUBTFUL = slice(9, 15)
"""Residues of the first chain that the model is not sure of."""


@dataclass(frozen=True, eq=False)
class Modelled:
    """What was written."""

    model: AtomicModel
    """The newest; B-factors are 100 times the confidence."""
    confidence: torch.Tensor
    """(residue,)"""


def two_helices() -> AtomicModel:
    """Two helices side by side, the second one numbered from 101."""
    first, second = (helix(sequence, chain) for sequence, chain in zip(SEQUENCES, "AB"))
    renamed = tuple(replace(residue, number=residue.number + 100) for residue in second.residues)
    away = first.coordinates_angstrom.mean(0) - second.coordinates_angstrom.mean(0)
    moved = replace(second, residues=renamed).at(second.coordinates_angstrom + away + torch.tensor([0.0, 0.0, 11.0]))
    return joined([first, moved])


def fill_with_models(store: SessionStore, resolution_angstrom: float = 3.0) -> Modelled:
    """``maps/imported``, and ``models/built`` before ``models/built_2``, with figures of both."""
    model = two_helices()
    maps = simulated_maps(model, resolution_angstrom, padding_angstrom=7.0)
    with store.product("maps/imported").write("import_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", maps.sharpened.voxels.numpy().astype(np.float32))
        z, y, x = maps.sharpened.origin_angstrom.tolist()
        about = DensityMap(
            name="imported", kind="imported", pixel_size_angstrom=maps.sharpened.voxel_size_angstrom, symmetry="C1",
            resolution_angstrom=resolution_angstrom, origin_angstrom=(z, y, x),
        )  # fmt: skip
        describe(attempt, about)
    confidence = torch.linspace(0.7, 0.95, model.n_residues)
    confidence[DOUBTFUL] = 0.2
    model = replace(model, b_factor_angstrom2=100 * confidence[model.residue])
    for i, name in enumerate(("built", "built_2")):
        inputs = {"maps/imported": "fingerprint"}
        with store.product(f"models/{name}").write("build_model", 1, StageParams(), inputs) as attempt:
            write_model(attempt, model, name)
            attempt.figures.update(mean_confidence=0.7 + 0.1 * i, clashscore=12.0 - 5 * i)
    return Modelled(model, confidence)
